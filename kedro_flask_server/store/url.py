"""The address of the database: valid URLs, and their display."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from kedro_flask_server.errors import ServerSettingsError

# The supported options of libpq, with their allowed values if restricted.
_LIBPQ: dict[str, tuple[str, ...] | None] = {
    "sslmode": ("disable", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": None,
    "sslcert": None,
    "sslkey": None,
    "target_session_attrs": ("read-write", "primary", "any"),
}
_SEVERAL_HOSTS = re.compile(r"(postgresql://(?:[^:/]*(?::[^@]*)?@)?)([^/?]*,[^/?]*)(.*)")
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d+))?")
_DEFAULT_PORT = 5432
_FILE_NAME = "runs.db"


def locate(database_url: str | None, state_dir: Path) -> URL:
    """Return the address of the database.

    Args:
        database_url: A URL such as ``postgresql://user:password@host/name`` or
            ``sqlite:////folder/file``; None for a file in `state_dir`.
        state_dir: The folder for the server's files.

    Returns:
        The address.

    Raises:
        ServerSettingsError: If the URL is not valid, or names an unsupported database.
    """
    if database_url is None:
        return URL.create("sqlite", database=str(state_dir / _FILE_NAME))
    fault = (
        "it takes postgresql://user:password@host:port/name, with several hosts as "
        "host:port,host:port, or sqlite:////folder/file"
    )
    try:
        url = _parsed(database_url)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number
        raise ServerSettingsError(f"Setting 'database_url' is no URL: {fault}.") from error
    shown = without_secrets(url)
    if url.drivername not in ("postgresql", "sqlite"):
        raise ServerSettingsError(f"Setting 'database_url' cannot be {shown!r}: {fault}.")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise ServerSettingsError(f"Setting 'database_url' cannot be {shown!r}: it names no file.")
    if url.drivername == "postgresql":
        libpq_options(url)
        _refuse_without_driver()
    return url


def _parsed(database_url: str) -> URL:
    """Parse a URL; several hosts, a form that SQLAlchemy does not support, become its host."""
    several = _SEVERAL_HOSTS.fullmatch(database_url)
    if several is None:
        return make_url(database_url)
    start, hosts, rest = several.groups()
    if not all(_HOST.fullmatch(each) for each in hosts.split(",")):
        raise ArgumentError(hosts)
    return make_url(f"{start}several{rest}").set(host=hosts)


def _refuse_without_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ServerSettingsError(
            "Setting 'database_url' names a PostgreSQL database, whose driver is not "
            "installed: pip install 'kedro-flask-server[postgresql]'."
        ) from error


def without_secrets(url: URL) -> str:
    """Return an address for display: without user, password or options."""
    if url.drivername == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{url.host or ''}{port}/{url.database or ''}"


def hosts_of(url: URL) -> Iterator[tuple[str, int]]:
    """Yield host and port of each server of a PostgreSQL address."""
    for each in (url.host or "localhost").split(","):
        host, port = _HOST.fullmatch(each.strip()).groups()  # type: ignore[union-attr]  # located
        yield host.strip("[]"), int(port or url.port or _DEFAULT_PORT)


def libpq_options(url: URL) -> dict[str, str]:
    """Return the options of a PostgreSQL address, which are libpq's.

    Raises:
        ServerSettingsError: If one is unknown, has an unsupported value, or names a file that
            cannot be read.
    """
    options = {name: str(value) for name, value in url.query.items()}
    for name, value in options.items():
        allowed = _LIBPQ.get(name, ())
        if allowed is not None and value not in allowed:
            raise ServerSettingsError(
                f"Setting 'database_url' takes the options {_shown_options()}, and no others."
            )
        if allowed is None and (name, value) != ("sslrootcert", "system"):
            try:
                Path(value).open("rb").close()
            except OSError as error:
                raise ServerSettingsError(
                    f"The {name} of setting 'database_url' cannot be read: {error}."
                ) from error
    return options


def _shown_options() -> str:
    return ", ".join(
        f"{name} ({'a file' if values is None else ', '.join(values)})"
        for name, values in _LIBPQ.items()
    )
