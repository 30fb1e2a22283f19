"""What a run imports that may be imported ahead of the next ones."""

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
from kedro_flask_server.workers.audit import Audit

# What a module may look at when it is imported.
_SETTING = ("os.putenv", "os.unsetenv", "os.chdir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a run has imported, in that order.

    Attributes:
        early: Modules of installed distributions that could as well have been imported before it.
        late: Those that have been imported after the run had set something.
        has_set: Whether it has set something, such as an environment variable.
    """

    early: list[str]
    late: list[str]
    has_set: bool


class Imports:
    """Waiters the imports of a run."""

    def __init__(self, audit: Audit) -> None:
        """Prepare.

        Args:
            audit: Tells of what the run sets.
        """
        self._audit = audit
        # To list them in a worker would copy the memory of each name.
        self._before = frozenset(sys.modules)
        self._path: list[str] = []
        self._imported_when_set: int | None = None

    def watch(self) -> None:
        """Begin, before a run."""
        self._path = [*sys.path]
        self._imported_when_set = None
        self._audit.calls |= dict.fromkeys(_SETTING, self._hear_setting)

    def _hear_setting(self, _: tuple[Any, ...]) -> None:
        # What a library sets while it is imported is as much part of that ahead of a run.
        if self._imported_when_set is None and is_asked_for_by_own_code(otherwise=True):
            self._imported_when_set = len(self.names())

    def found(self) -> Imported:
        """Return what the runs of this process have imported."""
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
        """Return the modules that are imported beside those of the template, in that order."""
        with suppress(RuntimeError):  # a thread that the run has left imports
            new = [*takewhile(lambda name: name not in self._before, reversed(sys.modules))]
            return new[::-1]
        return []


def import_ahead(names: Sequence[str]) -> str | None:
    """Import modules of installed distributions, in this order, and nothing of the project's.

    Args:
        names: The modules.

    Returns:
        None; or a module of the project's own that one of them would have imported. That one is
        as if its import had failed, so that no run may be executed in this process.
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
