"""The settings in the project's configuration: ``conf/<env>/server.yml``.

What reads it is in `project`, which knows the project's configuration loader.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any

from kedro_flask_server.config.settings import settings
from kedro_flask_server.errors import ServerSettingsError

CHOOSES_FILE = ("env", "conf_source")
"""The settings that say which file is read, and so cannot be in it."""

_REFERENCE = "credentials"

_KEY = "url"
"""What is taken of credentials that are a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """The settings in the project's configuration; by default there are none.

    Attributes:
        values: The settings, by name; base and environment are merged.
        places: Where each is, for a person: the file, and the line if that is known.
        credentials: Returns the project's credentials; raises `ServerSettingsError` if they
            cannot be read.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    credentials: Callable[[], Mapping[str, object]] = dict


def refuse_what_chooses(file: SettingsFile) -> None:
    """Refuse a file with settings that say which file is read.

    Raises:
        ServerSettingsError: If there is one.
    """
    for name in (*CHOOSES_FILE, "project_path"):
        if name in file.values:
            raise ServerSettingsError(
                f"Setting {name!r} cannot be set in {file.places[name]}: it decides which file is "
                "read. Give it as an argument, an option or an environment variable."
            )


def value_in(file: SettingsFile, setting: Field[Any]) -> object:
    """Return the value of a setting that a file has, from the credentials if it refers to them.

    Args:
        file: The file.
        setting: The setting.

    Raises:
        ServerSettingsError: If there are no such credentials, or the setting takes none. The
            message does not show what they hold.
    """
    value = file.values[setting.name]
    name = _credentials_named_by(value)
    if name is None:
        return value
    if setting.metadata["is_secret"]:
        return _secret_in(file, setting.name, name)
    secret = (each.name for each in settings() if each.metadata["is_secret"])
    raise ServerSettingsError(
        f"Setting {setting.name!r} cannot be {value!r} (given by {file.places[setting.name]}): "
        "only a setting that may hold a secret is looked up in the credentials: "
        f"{', '.join(secret)}."
    )


def _secret_in(file: SettingsFile, setting: str, name: str) -> str:
    """Return what the credentials of a name hold for a setting."""
    credentials = file.credentials()
    what = (
        f"Setting {setting!r} (given by {file.places[setting]}) is to be the credentials {name!r}"
    )
    if name not in credentials:
        raise ServerSettingsError(
            f"{what}, and the project has none of that name.{hint_of(name, credentials)}"
        )
    entry = credentials[name]
    secret = entry.get(_KEY) if isinstance(entry, Mapping) else entry
    if not isinstance(secret, str):
        raise ServerSettingsError(f"{what}: they must be a text, or have a text as {_KEY!r}.")
    return secret


def _credentials_named_by(value: object) -> str | None:
    """Return the NAME of ``{credentials: NAME}``; None of any other value."""
    if not isinstance(value, Mapping) or [*value] != [_REFERENCE]:
        return None
    name = value[_REFERENCE]
    return name if isinstance(name, str) else None  # a number is for a pipeline of that name


def hint_of(name: object, known: Iterable[str]) -> str:
    """Return a sentence with the known name that is close to another, or nothing."""
    close = difflib.get_close_matches(str(name), [*map(str, known)], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
