"""The API keys that count now: those of the store and those of a file."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections import defaultdict
from datetime import datetime, timezone

from kedro_flask_server.access.api_keys import KeyFile, hash_secret
from kedro_flask_server.errors import ServerError, ServerSettingsError, StoreUnavailableError
from kedro_flask_server.model.caller import ApiKey
from kedro_flask_server.store.api_keys import AccessStore

logger = logging.getLogger(__name__)

# How long keys that are created or revoked elsewhere may go unnoticed.
_FRESH_FOR_S = 1.0

# The caller is not authenticated, and learns no more.
_KEYS_UNREAD = "the keys cannot be read now"


class Keyring:
    """All keys: those of the store and those of a file."""

    def __init__(self, store: AccessStore, file: KeyFile | None) -> None:
        """Prepare; the first use opens the store.

        Args:
            store: The keys of the store.
            file: The keys of a file, available without the store.
        """
        self._store = store
        self._file = file
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._stored: list[ApiKey] | None = None
        self._error: ServerError | None = None
        self._by_hash: dict[str, list[ApiKey]] = {}
        self._by_id: dict[str, ApiKey] = {}
        self._doubled: set[str] = set()

    def find(self, secret: bytes) -> ApiKey | None:
        """Return the valid key of a secret, if any.

        Raises:
            StoreUnavailableError: If it is not in the file, and the store was never read.
        """
        self.refresh()
        sha256 = hash_secret(secret)
        # Not a timing leak: by trial, a caller can choose only the beginning of a hash.
        for key in self._by_hash.get(sha256[:8], ()):
            if hmac.compare_digest(key.sha256.encode(), sha256.encode()):
                return key if key.counts_at(datetime.now(timezone.utc)) else None
        if self._stored is None and self._error is not None:
            raise StoreUnavailableError(_KEYS_UNREAD) from self._error
        return None

    def with_id(self, key_id: str) -> ApiKey | None:
        """Return the valid key with an id (`ApiKey.id`), if any."""
        self.refresh()
        key = self._by_id.get(key_id)
        return key if key is not None and key.counts_at(datetime.now(timezone.utc)) else None

    def all(self) -> list[ApiKey]:
        """Return all keys, those of the file first, including revoked and expired ones."""
        self.refresh()
        return [*(self._file.keys if self._file else ()), *(self._stored or ())]

    def is_empty(self, *, may_look: bool = True) -> bool:
        """Return whether there is no key, not even a revoked or expired one.

        Args:
            may_look: Whether to read changes, if keys were read before.

        Raises:
            StoreUnavailableError: If the store was never read.
        """
        if may_look or (self._stored is None and self._error is None):
            self.refresh()
        if self._file is not None:
            return False
        if self._stored is None:
            raise StoreUnavailableError(_KEYS_UNREAD) from self._error
        return not self._stored

    def refresh(self) -> None:
        """Read changed keys; those that cannot be read stay as they were."""
        if time.monotonic() < self._fresh_until:
            return
        # While one thread reads, for seconds if the database is away, others use what is known.
        if not self._lock.acquire(blocking=self._stored is None and self._error is None):
            return
        try:
            if time.monotonic() >= self._fresh_until:
                self._read()
        finally:
            self._lock.release()

    def _read(self) -> None:
        try:
            if self._stored is None:
                self._store.open()
            self._stored, self._error = self._store.keys(), None
        except (StoreUnavailableError, ServerSettingsError) as error:
            self._error = error
        if self._file is not None:
            try:
                self._file.refresh()
            except ServerSettingsError as fault:
                logger.error("%s The keys that it held before still count.", fault)
        of_file, stored = self._file.keys if self._file else [], self._stored or []
        self._warn_of_doubled({key.name for key in of_file} & {key.name for key in stored})
        by_hash = defaultdict(list)
        for key in [*of_file, *stored]:
            by_hash[key.sha256[:8]].append(key)
        self._by_hash = by_hash
        self._by_id = {key.id: key for key in [*of_file, *stored]}
        self._fresh_until = time.monotonic() + _FRESH_FOR_S

    def _warn_of_doubled(self, names: set[str]) -> None:
        if names - self._doubled:
            logger.warning(
                "The file of keys and the database have keys of the same name, whose bearers are "
                "taken for one: %s",
                ", ".join(sorted(names)),
            )
        self._doubled = names
