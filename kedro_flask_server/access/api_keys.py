"""API keys: their creation, hashes, and files."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from kedro_flask_server.errors import ApiKeyExistsError, ServerSettingsError
from kedro_flask_server.model.caller import ApiKey, Scope
from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY

PREFIX = "kfs_"
"""The prefix of every key, by which people and secret scanners recognise it."""

_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_PERIOD = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"name", "sha256", "scopes", "pipelines", "max_active", "max_queued"}
_FIELDS |= {"max_priority", "expires_at"}


def create_secret() -> str:
    """Return a new key: the prefix and 256 random bits in URL-safe Base64 (RFC 4648)."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def hash_secret(secret: bytes) -> str:
    """Return the hash of a key to store: its SHA-256, in hexadecimal.

    A slow hash, as for passwords, would gain nothing: 256 random bits cannot be guessed.
    """
    return hashlib.sha256(secret).hexdigest()


def is_name(text: str) -> bool:
    """Return whether a key may have this name: up to 100 letters, digits and ``._@-``."""
    return _NAME.fullmatch(text) is not None


def parse_period(text: str) -> timedelta:
    """Return a period such as ``12h``, ``90d`` or ``4w``.

    Raises:
        ValueError: If it is not valid.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no period such as 12h, 90d or 4w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def dump_entry(key: ApiKey) -> str:
    """Return a key as an entry of an ``api_keys_file``."""
    entry: dict[str, Any] = {
        "name": key.name,
        "sha256": key.sha256,
        "scopes": sorted(key.scopes),
        "pipelines": None if key.pipelines is None else sorted(key.pipelines),
        "max_active": key.max_active,
        "max_queued": key.max_queued,
        "max_priority": key.max_priority,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }
    given = {name: value for name, value in entry.items() if value is not None}
    given["scopes"] = [str(scope) for scope in given["scopes"]]
    return yaml.safe_dump([given], sort_keys=False)


def add_to_file(path: Path, key: ApiKey) -> None:
    """Add a key to an ``api_keys_file``; a new file is readable by its owner alone.

    Raises:
        ApiKeyExistsError: If the file has a key of that name.
        ServerSettingsError: If it is not a list of keys, or cannot be written.
    """
    added = entry = dump_entry(key)
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        if text.strip():
            if key.name in {each.name for each in KeyFile(path).keys}:
                raise ApiKeyExistsError(key.name)
            if not text.endswith("\n"):
                text, added = text + "\n", "\n" + entry
            yaml.safe_load(text + entry)  # appending fails after a list in brackets
        path.touch(0o600)
        with path.open("a", encoding="utf-8") as file:  # existing content is not rewritten
            file.write(added)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ServerSettingsError(
            f"The key cannot be added to {str(path)!r}: {error}. Add it yourself:\n{entry}"
        ) from error


class KeyFile:
    """Keys in a file: a YAML list of mappings, such as `dump_entry` returns."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            ServerSettingsError: If it cannot be read, or is not valid.
        """
        self._path = path
        self._fault_told = ""
        self._state = self._look()
        self.keys = self._read()

    def refresh(self) -> None:
        """Read the file again if it has changed; one that cannot be read changes nothing.

        Raises:
            ServerSettingsError: If it cannot be read now, raised once for each change. Its earlier
                keys stay valid.
        """
        state = self._look()
        if state == self._state:
            return
        try:
            self.keys = self._read()
        except ServerSettingsError as error:
            if str(error) == self._fault_told:
                return
            self._fault_told = str(error)
            raise
        self._state, self._fault_told = state, ""

    def _look(self) -> object:
        try:
            found = self._path.stat()  # of a link's target: that is how mounted secrets change
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> list[ApiKey]:
        try:
            entries = yaml.safe_load(self._path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise self._fault(str(error)) from error
        if not isinstance(entries, list):
            raise self._fault("it holds no list")
        keys = [self._load(entry, number) for number, entry in enumerate(entries, 1)]
        names = [key.name for key in keys]
        if len(set(names)) < len(names):
            raise self._fault("two keys have the same name")
        return keys

    def _load(self, entry: Any, number: int) -> ApiKey:
        try:
            if not isinstance(entry, dict) or not entry.keys() <= _FIELDS:
                raise ValueError(f"it takes a mapping of {', '.join(sorted(_FIELDS))}")
            name, sha256 = entry["name"], entry["sha256"]
            if not isinstance(name, str) or not is_name(name):
                raise ValueError("its name is none")
            if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
                raise ValueError("its sha256 is no SHA-256 in hexadecimal")
            scopes = frozenset(Scope(each) for each in entry["scopes"])
            if not scopes:
                raise ValueError("it has no scopes")
            return ApiKey(
                name=name,
                sha256=sha256,
                scopes=scopes,
                pipelines=_pipelines(entry.get("pipelines")),
                max_active=_limit(entry.get("max_active")),
                max_queued=_limit(entry.get("max_queued")),
                max_priority=_priority(entry.get("max_priority")),
                expires_at=_moment(entry.get("expires_at")),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise self._fault(f"of its entry {number}, {what}") from error

    def _fault(self, reason: str) -> ServerSettingsError:
        return ServerSettingsError(
            f"Setting 'api_keys_file' names {str(self._path)!r}, which is no list of keys: {reason}"
        )


def _pipelines(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("its pipelines are no list of names")
    return frozenset(value)


def _limit(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("max_active and max_queued take whole numbers, 1 or more")
    return value


def _priority(value: Any) -> int | None:
    if value is None:
        return None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and MIN_PRIORITY <= value <= MAX_PRIORITY:
        return int(value)
    raise ValueError(f"max_priority takes whole numbers from {MIN_PRIORITY} to {MAX_PRIORITY}")


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if not isinstance(value, datetime):
        raise ValueError("its expires_at is no time such as 2027-01-31T00:00:00Z")
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
