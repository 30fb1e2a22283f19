"""Identifies callers, and records refusals."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from kedro_flask_server.access.api_keys import PREFIX, KeyFile, hash_secret
from kedro_flask_server.errors import (
    ServerError,
    ServerSettingsError,
    StoreUnavailableError,
    UnauthorizedError,
)
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.caller import ALL_SCOPES, ApiKey, Caller
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store.api_keys import AccessStore

logger = logging.getLogger(__name__)

# How long keys that are created or revoked elsewhere may go unnoticed.
_FRESH_FOR_S = 1.0

# How often to store when keys were used.
_RECORD_USES_EVERY_S = 60.0

# The maximum number of pending refusals; further ones are only counted.
_MAX_REFUSALS = 100

# The caller is not authenticated, and learns no more.
_KEYS_UNREAD = "the keys cannot be read now"

WAYS_OUT = (
    "create a key with `kedro server keys create NAME --scope run` (for the same --env), or set "
    "allow_anonymous (--allow-anonymous), which lets all callers in"
)
"""How to fix a server that admits no caller."""


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
        self._fresh_until = time.monotonic() + _FRESH_FOR_S

    def _warn_of_doubled(self, names: set[str]) -> None:
        if names - self._doubled:
            logger.warning(
                "The file of keys and the database have keys of the same name, whose bearers are "
                "taken for one: %s",
                ", ".join(sorted(names)),
            )
        self._doubled = names


class AccessControl:
    """Identifies callers: by their key, or by where the server listens."""

    def __init__(
        self,
        store: AccessStore,
        *,
        key_file: KeyFile | None = None,
        allow_anonymous: bool = False,
        has_other_scheme: bool = False,
        is_reached_through_proxy: bool = False,
        expose_messages: bool = True,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            store: Stores the keys and the audit log.
            key_file: Further keys.
            allow_anonymous: Whether callers need not authenticate.
            has_other_scheme: Whether callers may authenticate by other means than a key.
            is_reached_through_proxy: Whether clients may come from anywhere, although it listens on
                the loopback interface alone.
            expose_messages: Whether callers see more of errors than their types.
        """
        self._store = store
        self._keyring = Keyring(store, key_file)
        self._allows_anonymous = allow_anonymous
        self.has_other_scheme = has_other_scheme
        """Whether callers may authenticate by other means than a key."""
        self._is_reached_through_proxy = is_reached_through_proxy
        self._exposes_messages = expose_messages
        self._is_local = False
        self._lock = threading.Lock()
        self._refusals: list[AuditRecord] = []
        self._more_refusals = 0
        self._used_at: dict[str, datetime] = {}
        self._write_uses_at = 0.0

    def listen(self, *, is_loopback: bool) -> None:
        """Record where the server listens.

        Args:
            is_loopback: Whether only programs on this machine can reach it there.

        Raises:
            ServerSettingsError: If others could reach it, and no authentication is configured.
        """
        self._is_local = is_loopback and not self._is_reached_through_proxy
        if self._allows_anonymous:
            logger.warning(
                "All who reach this server may run its pipelines (setting allow_anonymous)"
            )
        elif not self._is_local and not self._knows_callers(default=True):
            raise ServerSettingsError(
                "The server would be reached from other machines, and nothing says who may use "
                f"it: {WAYS_OUT}."
            )

    def _knows_callers(self, *, default: bool) -> bool:
        if self.has_other_scheme:
            return True
        try:
            return not self._keyring.is_empty()
        except StoreUnavailableError:
            return default

    def caller_with(self, secret: bytes) -> Caller:
        """Return the caller with a key.

        Raises:
            UnauthorizedError: If the key is not valid.
            StoreUnavailableError: If the keys cannot be read.
        """
        key = self._keyring.find(secret) if secret.startswith(PREFIX.encode()) else None
        if key is None:
            raise UnauthorizedError("The API key is unknown, expired or revoked.")
        with self._lock:
            self._used_at[key.name] = datetime.now(timezone.utc)
        return self.limited(key.caller)

    def limited(self, caller: Caller) -> Caller:
        """Return a caller, without error messages unless the settings expose them."""
        return caller if self._exposes_messages else replace(caller, sees_messages=False)

    def anonymous(self, *, may_look: bool = True, is_proxied: bool = False) -> Caller:
        """Return the caller of an unauthenticated request.

        Args:
            may_look: Whether to check for keys that were created meanwhile.
            is_proxied: Whether the request came through a proxy, and perhaps from elsewhere.

        Raises:
            UnauthorizedError: If authentication is required.
            StoreUnavailableError: If the keys cannot be read.
        """
        is_open = self._allows_anonymous
        is_local = self._is_local and not is_proxied
        if not is_open and is_local and not self.has_other_scheme:
            is_open = self._keyring.is_empty(may_look=may_look)
        if is_open:
            sees_messages = is_local and self._exposes_messages
            return Caller(name="", scopes=ALL_SCOPES, sees_messages=sees_messages)
        if self._knows_callers(default=True):
            raise UnauthorizedError("An API key is needed: Authorization: Bearer <key>.")
        if is_proxied and self._is_local:
            raise UnauthorizedError(
                f"The request came through a proxy, and so perhaps from elsewhere: {WAYS_OUT}."
            )
        raise UnauthorizedError(f"This server lets no caller in yet: {WAYS_OUT}.")

    def record_refusal(self, who: str, request: str, address: str) -> None:
        """Record the refusal of a request; `flush` stores it.

        Args:
            who: The caller's name; ``""`` where it is not known.
            request: The request.
            address: The caller's address.
        """
        with self._lock:
            if len(self._refusals) >= _MAX_REFUSALS:
                self._more_refusals += 1
                return
            self._refusals.append(_refused(who, SECRETS.redact(request), address))

    def flush(self) -> None:
        """Store pending records.

        Raises:
            StoreUnavailableError: If they cannot be stored now; they stay pending.
        """
        self._keyring.refresh()  # so that later requests find them fresh
        with self._lock:
            is_time_for_uses = self._used_at and time.monotonic() >= self._write_uses_at
            if not self._refusals and not is_time_for_uses:
                return
            refusals, more, used_at = self._refusals, self._more_refusals, self._used_at
            self._refusals, self._more_refusals, self._used_at = [], 0, {}
            self._write_uses_at = time.monotonic() + _RECORD_USES_EVERY_S
        records: Sequence[AuditRecord] = refusals
        if more:
            records = [*refusals, _refused("", f"{more} more requests", "")]
        try:
            self._store.flush(records, used_at)
        except StoreUnavailableError:
            with self._lock:
                merged = [*refusals, *self._refusals]
                self._refusals = merged[:_MAX_REFUSALS]
                self._more_refusals += more + len(merged[_MAX_REFUSALS:])
                self._used_at = {**used_at, **self._used_at}
            raise

    def purge(self, before: datetime) -> None:
        """Delete audit records before a time.

        Raises:
            StoreUnavailableError: If they cannot be deleted now.
        """
        self._store.purge(before)


def _refused(who: str, request: str, address: str) -> AuditRecord:
    now = datetime.now(timezone.utc)
    return AuditRecord(time=now, who=who, what="request.refused", subject=request, address=address)
