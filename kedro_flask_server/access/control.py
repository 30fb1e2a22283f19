"""Identifies callers, and records refusals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from kedro_flask_server.access.api_keys import PREFIX, KeyFile
from kedro_flask_server.access.keyring import Keyring
from kedro_flask_server.errors import (
    ServerSettingsError,
    StoreUnavailableError,
    UnauthorizedError,
)
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.caller import ALL_SCOPES, ApiKey, Caller
from kedro_flask_server.model.queue import MAX_PRIORITY
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store.api_keys import AccessStore

logger = logging.getLogger(__name__)

# How often to store when keys were used.
_RECORD_USES_EVERY_S = 60.0

# For how long cookies count whose key was renewed elsewhere.
_PAGE_KEY_FOR_S = 5.0

# The maximum number of pending refusals; further ones are only counted.
_MAX_REFUSALS = 100

_INVALID_KEY = "The API key is unknown, expired or revoked."

WAYS_OUT = (
    "create a key with `kedro server keys create NAME --scope run` (for the same --env), or set "
    "allow_anonymous (--allow-anonymous), which lets all callers in"
)
"""How to fix a server that admits no caller."""


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
        self._page_key = ""
        self._page_key_until = 0.0
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
        return self._bearer_of(self._find(secret))

    def caller_with_id(self, key_id: str) -> Caller:
        """Return the caller with the key that has an id.

        Raises:
            UnauthorizedError: If the key is not valid.
        """
        return self._bearer_of(self._keyring.with_id(key_id))

    def id_of_key(self, secret: bytes) -> str:
        """Return the id of the key with a secret.

        Raises:
            UnauthorizedError: If the key is not valid.
            StoreUnavailableError: If the keys cannot be read.
        """
        key = self._find(secret)
        if key is None:
            raise UnauthorizedError(_INVALID_KEY)
        return key.id

    def _find(self, secret: bytes) -> ApiKey | None:
        return self._keyring.find(secret) if secret.startswith(PREFIX.encode()) else None

    def _bearer_of(self, key: ApiKey | None) -> Caller:
        if key is None:
            raise UnauthorizedError(_INVALID_KEY)
        with self._lock:
            self._used_at[key.name] = datetime.now(timezone.utc)
        return self.limited(key.caller)

    def page_key(self) -> str:
        """Return what the cookies of pages are signed with, as of a few seconds ago.

        Raises:
            StoreUnavailableError: If it was never read, and cannot be.
        """
        if time.monotonic() >= self._page_key_until or not self._page_key:
            self._page_key_until = time.monotonic() + _PAGE_KEY_FOR_S
            try:
                self._page_key = self._store.page_key()
            except StoreUnavailableError:
                if not self._page_key:
                    raise
        return self._page_key

    def keys(self) -> list[ApiKey]:
        """Return all keys, those of the file first, including revoked and expired ones."""
        return self._keyring.all()

    def audit(self, limit: int) -> list[AuditRecord]:
        """Return the newest audit records, the newest first."""
        return self._store.audit(limit)

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
            return Caller(
                name="",
                scopes=ALL_SCOPES,
                sees_messages=sees_messages,
                max_priority=MAX_PRIORITY if is_local else 0,
            )
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
    return AuditRecord.of(who, "request.refused", request, address=address)
