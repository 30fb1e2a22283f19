"""Decides when the template is renewed, so that it has imported what runs import."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from kedro_flask_server.workers.handles import TemplateHandle
from kedro_flask_server.workers.imports import Imported

logger = logging.getLogger(__name__)

# The number of new modules that makes a renewal worth its cost.
_WORTH_IMPORTING = 10
_MAX_RENEWALS = 3

# Bounds of the parameter names that are sent to a template.
_MAX_PARAMS = 100
_MAX_PARAM_CHARS = 100
_READ_EVERY_S = 0.5


class Renewal:
    """The imports of a server's runs, and when they require another template."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no run.

        Args:
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._clock = clock
        self._imported: dict[str, None] = {}
        self._imported_late: set[str] = set()
        self._left = _MAX_RENEWALS
        self._read_at = 0.0

    @property
    def modules(self) -> list[str]:
        """The modules that a new template imports ahead of the runs."""
        return [name for name in self._imported if name not in self._imported_late]

    def give_up(self) -> None:
        """Stop importing ahead of the runs."""
        self._left = 0

    def have_read(self, template: TemplateHandle, param_names: Sequence[str]) -> None:
        """Make a template cache a configuration that a run had to read, at most twice a second.

        Args:
            template: The template.
            param_names: The names of the run's parameters.
        """
        now = self._clock()
        if now >= self._read_at and template.start_method == "fork":
            self._read_at = now + _READ_EVERY_S
            short = [name for name in param_names if len(name) <= _MAX_PARAM_CHARS]
            template.read(short[:_MAX_PARAMS])

    def is_due(
        self, template: TemplateHandle, *, is_loaded: bool, imported: Imported | None
    ) -> bool:
        """Record a run's imports, and return whether the template must be renewed.

        Args:
            template: The template that the run's worker was forked from.
            is_loaded: Whether the worker could load the pipelines.
            imported: The run's imports.
        """
        if imported is not None:
            if self._has_to_do_without(imported, template):
                return True
            self._imported |= dict.fromkeys(imported.early)
        if is_loaded and not template.is_loaded:
            return True
        new = {*self.modules}.difference(template.modules)
        is_worth_it = template.start_method == "fork" and len(new) >= _WORTH_IMPORTING
        if is_worth_it and self._left > 0:
            self._left -= 1
            return True
        return False

    def _has_to_do_without(self, imported: Imported, template: TemplateHandle) -> bool:
        """Return whether a run needs to change its environment before its imports.

        Modules that the template has imported ahead have then seen the wrong one. A run that
        changes its environment first does not report modules that are already imported.
        """
        self._imported_late.update(imported.late)
        is_hidden = imported.has_set and not imported.late
        if not template.modules or not (is_hidden or template.modules & self._imported_late):
            return False
        logger.info("Runs set something before they import: nothing more is imported ahead of them")
        self._left = 0
        self._imported = {}
        return True
