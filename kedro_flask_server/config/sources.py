"""Looks settings up where they can be set.

In this order: an argument of ``create_http_server`` or an option of the command; an environment
variable; ``conf/<env>/server.yml``; ``SERVER = {...}`` in the project's settings.py; the default.
What chooses that file, `env` and `conf_source`, is looked up in the other places first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, replace
from pathlib import Path
from typing import Any

from kedro_flask_server.config.settings import (
    VARIABLE_PREFIX,
    ServerConfig,
    settings,
    variables_of,
)
from kedro_flask_server.config.settings_file import (
    CHOOSES_FILE,
    SettingsFile,
    hint_of,
    refuse_what_chooses,
    value_in,
)
from kedro_flask_server.errors import ServerSettingsError

# These are the client's, which may run where the server does.
_CLIENT_SETTINGS = ("url", "api_key")

# In settings.py and server.yml, these are relative to the project.
_PATHS = ("conf_source", "state_dir", "api_keys_file")

# Kubernetes describes each service of a namespace in the environment of its pods, and a
# service may well be called kedro-server, or kedro-server-test.
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def resolve_project_path(argument: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the project to serve.

    Args:
        argument: The path given to ``create_http_server``.
        environ: The environment, for ``KEDRO_PROJECT_PATH`` where there is no argument.

    Returns:
        An absolute path to a folder that exists.

    Raises:
        ServerSettingsError: If no path is given, or if it is not a folder.
    """
    given = argument if argument is not None else environ.get("KEDRO_PROJECT_PATH")
    if not given:
        raise ServerSettingsError(
            "No Kedro project is given: pass project_path, or set KEDRO_PROJECT_PATH to the "
            "folder that holds the project's pyproject.toml."
        )
    path = Path(os.path.expanduser(given)).resolve()  # noqa: PTH111  it takes any "~"
    if not path.is_dir():
        raise ServerSettingsError(
            f"The project path {str(given)!r} does not exist or is not a folder: project_path "
            "and KEDRO_PROJECT_PATH take the folder that holds the project's pyproject.toml."
        )
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """The sources of settings but for the defaults."""

    project_path: Path
    arguments: Mapping[str, object]
    environ: Mapping[str, str]
    file: SettingsFile = field(default_factory=SettingsFile)
    project_settings: Mapping[str, object]

    def values_of(self, given: Iterable[Field[Any]]) -> dict[str, Any]:
        """Return the values of some settings, parsed, without those that are not given."""
        found = {each: self._look_up(each) for each in given}
        return {
            setting.name: _parse(setting, *each)
            for setting, each in found.items()
            if each is not None
        }

    def _look_up(self, setting: Field[Any]) -> tuple[object, str] | None:
        """Return a value as it is given, and by what; None where it is not."""
        name = setting.name
        if self.arguments.get(name) is not None:
            return self.arguments[name], name
        if variable := _set_variable(setting, self.environ):
            return self.environ[variable], variable
        if self.file.values.get(name) is not None:
            value = value_in(self.file, setting)
            return self._from_project(name, value), self.file.places[name]
        if self.project_settings.get(name) is not None:
            value = self.project_settings[name]
            return self._from_project(name, value), f"SERVER[{name!r}]"
        return None

    def _from_project(self, name: str, value: object) -> object:
        if name in _PATHS and isinstance(value, str) and "://" not in value:
            return self.project_path / value
        return value


def load_config(
    project_path: Path,
    *,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    read_file: Callable[[str | None, str | None], SettingsFile],
    project_settings: Mapping[str, object],
) -> ServerConfig:
    """Return the settings of a server from the sources where they can be set.

    Args:
        project_path: The project that is served.
        arguments: Settings given in the program or on the command line; None is not given.
        environ: The process's environment.
        read_file: Returns the settings in the configuration, whose `env` and `conf_source` it is
            called with.
        project_settings: ``SERVER`` of the project's settings.py.

    Returns:
        The settings, each parsed and checked.

    Raises:
        ServerSettingsError: If a name is unknown or a value is not allowed.
    """
    if not isinstance(project_settings, Mapping):
        raise ServerSettingsError(
            f"SERVER in settings.py cannot be {project_settings!r}: it takes a dictionary, such as "
            "{'workers': 2}."
        )
    _refuse_unknown(arguments, "as an argument")
    _refuse_unknown(project_settings, "as SERVER in settings.py")
    _refuse_unknown(_settings_in(environ), "as an environment variable", prefix=VARIABLE_PREFIX)
    sources = _Sources(
        project_path=project_path,
        arguments=arguments,
        environ=environ,
        project_settings=project_settings,
    )
    choosing = sources.values_of(each for each in settings() if each.name in CHOOSES_FILE)
    file = read_file(choosing.get("env"), choosing.get("conf_source"))
    refuse_what_chooses(file)
    for name in file.values:
        _refuse_unknown([name], f"in {file.places[name]}")
    others = (each for each in settings() if each.name not in CHOOSES_FILE)
    values = choosing | replace(sources, file=file).values_of(others)
    return ServerConfig(project_path=project_path, **values)


def _set_variable(setting: Field[Any], environ: Mapping[str, str]) -> str | None:
    for variable in variables_of(setting):
        value = environ.get(variable)
        if value and not _SERVICE_ADDRESS.match(value):
            return variable
    return None


def _settings_in(environ: Mapping[str, str]) -> list[str]:
    """Return the names, in lower case, of the environment's variables that name a setting."""
    given = (
        name.removeprefix(VARIABLE_PREFIX) for name in environ if name.startswith(VARIABLE_PREFIX)
    )
    names = [name for name in given if name.lower() not in _CLIENT_SETTINGS]
    own = {setting.name for setting in settings()}
    return [
        name.lower() for name in names if name.lower() in own or not _SERVICE_LINK.fullmatch(name)
    ]


def _refuse_unknown(names: Iterable[str], where: str, prefix: str = "") -> None:
    known = [setting.name for setting in settings()]
    for name in names:
        if name in known:
            continue
        shown = prefix + name.upper() if prefix else str(name)
        raise ServerSettingsError(
            f"Unknown setting {shown!r}, given {where}.{hint_of(name, known)} "
            f"The settings are: {', '.join(known)}."
        )


def _parse(setting: Field[Any], value: object, where: str) -> Any:
    try:
        return setting.metadata["parse"](value)
    except (ValueError, OSError, RuntimeError) as error:  # the latter two: paths that cannot be
        shown = "what it is" if setting.metadata["is_secret"] else repr(value)
        raise ServerSettingsError(
            f"Setting {setting.name!r} cannot be {shown} (given by {where}): "
            f"it takes {setting.metadata['allowed']}."
        ) from error
