"""The imports of a run that a template may do ahead of the next runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from kedro_flask_server.origins import (
    InstalledOnly,
    OwnModuleError,
    is_asked_for_by_own_code,
    is_installed_module,
)
from kedro_flask_server.workers.audit_hook import Audit

# Audit events of changes that a module may read on import.
_SETTING = ("os.putenv", "os.unsetenv", "os.chdir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The imports of a run, in order.

    Attributes:
        early: Modules of installed distributions that can be imported ahead of the run.
        late: Modules imported after the run had changed its environment.
        has_set: Whether the run has changed its environment, such as a variable.
    """

    early: list[str]
    late: list[str]
    has_set: bool


class Imports:
    """Records the imports of runs."""

    def __init__(self, audit: Audit) -> None:
        """Prepare; `watch` begins to record.

        Args:
            audit: Reports changes by the run.
        """
        self._audit = audit
        # Listing them in a worker would copy the memory of each name.
        self._before = frozenset(sys.modules)
        self._path: list[str] = []
        self._imported_when_set: int | None = None

    def watch(self) -> None:
        """Begin to record, before a run."""
        self._path = [*sys.path]
        self._imported_when_set = None
        self._audit.calls |= dict.fromkeys(_SETTING, self._on_setting)

    def _on_setting(self, _: tuple[Any, ...]) -> None:
        # Changes by a library during its import happen ahead of the run, too.
        if self._imported_when_set is None and is_asked_for_by_own_code(otherwise=True):
            self._imported_when_set = len(self.names())

    def found(self) -> Imported:
        """Return the imports of the runs of this process."""
        new = self.names()
        count = 0 if sys.path != self._path else self._imported_when_set
        early = new if count is None else new[:count]
        late = [] if count is None else new[count:]
        return Imported(
            early=[name for name in early if _is_installed(name)],
            late=[name for name in late if _is_installed(name)],
            has_set=count is not None,
        )

    def names(self) -> list[str]:
        """Return the modules imported since the template, in order."""
        with suppress(RuntimeError):  # a leftover thread of the run is importing
            new = [*takewhile(lambda name: name not in self._before, reversed(sys.modules))]
            return new[::-1]
        return []


def import_ahead(names: Sequence[str]) -> str | None:
    """Import modules of installed distributions in order, but none of the project.

    Args:
        names: The modules.

    Returns:
        None; or a module of the project that one of them would have imported. Its import counts as
        failed, so this process must not execute a run.
    """
    with InstalledOnly() as installed:
        for name in names:
            try:
                with suppress(Exception):  # it fails again where it is used
                    importlib.import_module(name)
            except OwnModuleError:
                break
    return installed.refused


def _is_installed(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and is_installed_module(module)
