"""Reads the server's settings by the project's configuration loader: ``conf/<env>/server.yml``.

Where they are, how base and environment are merged and what is resolved is the loader's business,
as for any other configuration (https://docs.kedro.org/en/stable/configure/configuration_basics/).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any

import yaml
from kedro.config import AbstractConfigLoader, MissingConfigException, OmegaConfigLoader
from kedro.framework.project import settings

from kedro_flask_server.config.settings_file import SettingsFile
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.project.configuration.isolated_loader import is_kedro_loader
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.failures import describe, safe

logger = logging.getLogger(__name__)

_KEY = "server"

# No more than these, as Kedro has but globals.yml for its globals: each name in a file that is
# found must be a setting, and "server*" would find the files of a project's own servers.
_PATTERNS = ["server.yml", "server.yaml", "server.json"]

# Of the files that a pattern finds, Kedro reads those.
_SUFFIXES = (".yml", ".yaml", ".json")

# In C where PyYAML was built with it.
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_settings_file(configuration: SelectedConfiguration) -> SettingsFile:
    """Return the server's settings in a configuration; none where its loader knows no such file.

    Args:
        configuration: The configuration.

    Raises:
        ServerSettingsError: If there is a file, and it cannot be read or is no mapping.
    """
    files = _Files.of(configuration)
    if files.paths == () and _own_patterns() is None and is_kedro_loader(_loader_class()):
        return SettingsFile()  # Kedro's loader takes some milliseconds to find the same
    try:
        loader = _loader_of(configuration)
        found = loader[_KEY]
    except (Exception, SystemExit) as error:  # the loader may be the project's
        _refuse_what_is_there(configuration, files, error)
        return SettingsFile()
    if not isinstance(found, Mapping):
        raise ServerSettingsError(
            f"Settings cannot be read from {files}: they are no mapping, but "
            f"{type(found).__name__}."
        )
    return SettingsFile(
        values=found,
        places=files.places(found),
        credentials=partial(_credentials_of, loader),
    )


def _loader_class() -> type[AbstractConfigLoader]:
    loader_class: type[AbstractConfigLoader] = settings.CONFIG_LOADER_CLASS
    return loader_class


def _own_patterns() -> list[str] | None:
    """Return the project's own patterns of the files; None where it has none."""
    patterns: Mapping[str, Any] = settings.CONFIG_LOADER_ARGS.get("config_patterns") or {}
    return patterns.get(_KEY)


def _loader_of(configuration: SelectedConfiguration) -> AbstractConfigLoader:
    """Return a loader that finds the files; all else that it finds stays as it is."""
    loader: Any = configuration.loader()
    patterns = getattr(loader, "config_patterns", None)
    if isinstance(patterns, Mapping):
        loader.config_patterns = {_KEY: _PATTERNS, **patterns}
    made: AbstractConfigLoader = loader
    return made


def _refuse_what_is_there(
    configuration: SelectedConfiguration, files: _Files, error: BaseException
) -> None:
    """Raise for files that cannot be read, and not where the loader knows none.

    Kedro's own loader says alike that there is no file and that a folder is missing. A loader of
    another kind may say in any way that it knows none, unless there is one.
    """
    is_kedros = issubclass(_loader_class(), OmegaConfigLoader)
    may_be_there = files.paths or (is_kedros and files.paths is None)
    missing = (KeyError,) if is_kedros and files.paths else (KeyError, MissingConfigException)
    if not may_be_there or isinstance(error, missing):
        if files.paths:
            logger.warning("The project's configuration loader does not read %s.", files)
        return
    configuration.refuse_unknown_env()
    raise ServerSettingsError(f"Settings cannot be read from {files.fault(error)}.") from error


def _credentials_of(loader: AbstractConfigLoader) -> Mapping[str, object]:
    """Return the project's credentials; none where the loader finds none."""
    try:
        found = loader["credentials"]
    except (KeyError, MissingConfigException):
        return {}
    except (Exception, SystemExit) as error:  # the loader may be the project's
        raise ServerSettingsError(
            f"The project's credentials, which settings refer to, cannot be read: {_say(error)}."
        ) from error
    return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files with the settings.

    Attributes:
        source: The folder, archive or URL of the configuration.
        paths: The files, the one that counts most last; None where that is no folder.
    """

    source: str
    paths: tuple[Path, ...] | None

    @classmethod
    def of(cls, configuration: SelectedConfiguration) -> _Files:
        source = configuration.conf_source or str(configuration.source)
        if not configuration.source.is_dir():
            return cls(source=source, paths=None)
        found = (
            Path(path)
            for folder in configuration.folders_of_kedro()
            for pattern in _own_patterns() or _PATTERNS
            for path in sorted(_glob(folder, pattern))
        )
        paths = (each for each in found if each.suffix in _SUFFIXES and each.is_file())
        return cls(source=source, paths=tuple(dict.fromkeys(paths)))

    def __str__(self) -> str:
        if self.paths:
            return " and ".join(f"'{path}'" for path in self.paths)
        return f"{_PATTERNS[0]} of the configuration in '{safe(self.source)}'"

    def places(self, names: Iterable[str]) -> dict[str, str]:
        """Return where names are, for a person: all the files for one whose line is not known."""
        last = {name: place for each in self._places_by_file() for name, place in each.items()}
        return {name: last.get(name, str(self)) for name in names}

    def _places_by_file(self) -> list[dict[str, str]]:
        return [
            {name: f"'{path}', line {line}" for name, line in _lines_in(path).items()}
            for path in self.paths or ()
        ]

    def fault(self, error: BaseException) -> str:
        """Return what is wrong, and where: what a file shows by itself, or else what was raised."""
        for path in self.paths or ():
            fault = _fault_in(path)
            if fault is not None:
                return f"'{path}'{fault}"
        name = re.split(r"[.\[]", str(getattr(error, "full_key", "")))[0]  # by OmegaConf
        there = [each[name] for each in self._places_by_file() if name in each]
        return f"{' and '.join(there) or self}: {_say(error)}"


def _glob(folder: Path, pattern: str) -> list[str]:
    """Return what a pattern finds, which Kedro puts after the folder's path."""
    return glob(f"{escape(str(folder))}/{pattern}", recursive=True)  # noqa: PTH207  any pattern


def _lines_in(path: Path) -> dict[str, int]:
    """Return the lines of the names in a file; none where it is no plain YAML or JSON."""
    try:
        root = _composed(path)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    keys = root.value if isinstance(root, yaml.MappingNode) else ()
    return {str(key.value): key.start_mark.line + 1 for key, _ in keys}


def _fault_in(path: Path) -> str | None:
    """Return what is wrong with a file by itself; None where nothing is."""
    try:
        root = _composed(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return f": {_say(error)}"
    if root is None or isinstance(root, yaml.MappingNode):
        return None
    return ": it is no mapping of settings, such as 'port: 8000'"


def _composed(path: Path) -> yaml.Node | None:
    """Return what is in a file of YAML, or of JSON, as nodes: nothing in it is executed."""
    node: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8"), _YAML)
    return node


def _say(error: BaseException) -> str:
    """Return an error in one line, without a full stop."""
    what = describe(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return safe(f"{what.type}: {error.problem} in line {error.problem_mark.line + 1}")
    message, _, _ = what.message.partition("\n    full_key: ")  # by OmegaConf
    return f"{what.type}: {' '.join(message.split()).rstrip('.')}"
