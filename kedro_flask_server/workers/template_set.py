"""The templates of a pool: the current one, its successor, and those that workers still need."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    TemplateHandle,
    WorkerHandle,
)
from kedro_flask_server.workers.protocol import WorkerSettings

logger = logging.getLogger(__name__)

# How long a template may be late with a worker, which takes milliseconds, or be suspended.
_LATE_S = 10.0


class TemplateSet:
    """Starts and replaces templates. Callers hold the lock of the pool."""

    def __init__(
        self,
        settings: WorkerSettings,
        secrets: set[str],
        current: TemplateHandle | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin, with a template that was started ahead if there is one.

        Args:
            settings: The settings of the workers.
            secrets: The names of environment variables that are withheld from them.
            current: The template that was started with these settings.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._retired: list[TemplateHandle] = []
        self._ends_at: float | None = None
        self._timeout = SuspensionAwareTimeout(_LATE_S, clock=clock)
        self.current = current
        self.next: TemplateHandle | None = None

    def all(self) -> list[TemplateHandle]:
        """Return all templates."""
        return [*self._retired, *filter(None, (self.current, self.next))]

    def start(self) -> TemplateHandle:
        """Return the current template, and start it if there is none.

        Raises:
            OSError: If the system refuses another process or descriptor.
        """
        if self.current is None:
            self.current = TemplateHandle.start(self._settings, self._secrets)
        return self.current

    def start_next(self, modules: Sequence[str]) -> None:
        """Start a template that replaces the current one once it is ready.

        Args:
            modules: The modules to import ahead of the runs.
        """
        settings = replace(self._settings, modules=[*modules])
        try:
            self.next = TemplateHandle.start(settings, self._secrets)
        except OSError as error:
            logger.warning("The worker processes cannot be renewed: %s", error)

    def promote_next(self) -> bool:
        """Replace the current template by the next, which is ready.

        Returns:
            False if the next was discarded, because its imports prevent forking.
        """
        template, self.next = self.next, None
        assert template is not None  # noqa: S101  checked by the caller
        current = self.current
        if current is not None:
            if current.is_loaded and template.start_method != current.start_method:
                logger.info("What the runs import cannot be imported ahead of them")
                template.end()
                return False
            current.retire()
            self._retired.append(current)
        self.current = template
        return True

    def remove(self, template: TemplateHandle) -> None:
        """Remove a template that has ended."""
        if template in self._retired:
            self._retired.remove(template)
        elif template is self.next:
            self.next = None
        else:
            self.current = None

    def renew_lease(self, seconds: float | None) -> None:
        """Have all workers end unless this is called again in time, as `WorkerPool` says."""
        self._ends_at = None if seconds is None else self._clock() + seconds
        for template in self.all():
            if template.is_ready:  # before that, it reads nothing
                template.renew_lease(seconds)

    def limit(self, template: TemplateHandle) -> None:
        """Pass the lease to a template that has become ready."""
        if self._ends_at is not None:
            template.renew_lease(self._ends_at - self._clock())

    def is_silent(self, awaited: Sequence[WorkerHandle]) -> bool:
        """Return whether the current template has not responded for long.

        Args:
            awaited: The workers that are not ready.
        """
        current = self.current
        if current is None:
            return False
        latest = self._clock() - LOOK_EVERY_S
        is_awaited = current.start_method == "fork" and any(
            each.template is current and each.asked_for_at < latest for each in awaited
        )
        return self._timeout.is_over(current.is_stopped or is_awaited)
