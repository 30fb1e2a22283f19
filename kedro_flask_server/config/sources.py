"""Looks settings up where they can be set.

In this order: an argument of ``create_http_server`` or an option of the command; an environment
variable; ``SERVER = {...}`` in the project's settings.py; the default.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

from kedro_flask_server.config.settings import (
    VARIABLE_PREFIX,
    ServerConfig,
    settings,
    variables_of,
)
from kedro_flask_server.errors import ServerSettingsError

# These are the client's, which may run where the server does.
_CLIENT_SETTINGS = ("url", "api_key")

# In settings.py, these are relative to the project.
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


def load_config(
    project_path: Path,
    *,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    project_settings: Mapping[str, object],
) -> ServerConfig:
    """Return the settings of a server from the four sources where they can be set.

    Args:
        project_path: The project that is served.
        arguments: Settings given in the program or on the command line; None is not given.
        environ: The process's environment.
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
    _refuse_unknown(arguments, "an argument")
    _refuse_unknown(project_settings, "SERVER in settings.py")
    _refuse_unknown(_settings_in(environ), "an environment variable", prefix=VARIABLE_PREFIX)
    values: dict[str, Any] = {}
    for setting in settings():
        name = setting.name
        if arguments.get(name) is not None:
            values[name] = _parse(setting, arguments[name], name)
        elif variable := _set_variable(setting, environ):
            values[name] = _parse(setting, environ[variable], variable)
        elif project_settings.get(name) is not None:
            value = project_settings[name]
            if name in _PATHS and isinstance(value, str) and "://" not in value:
                value = project_path / value
            values[name] = _parse(setting, value, f"SERVER[{name!r}]")
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


def _refuse_unknown(names: Mapping[str, object] | list[str], where: str, prefix: str = "") -> None:
    known = [setting.name for setting in settings()]
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        shown = prefix + name.upper() if prefix else str(name)
        raise ServerSettingsError(
            f"Unknown setting {shown!r}, given as {where}.{hint} "
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
