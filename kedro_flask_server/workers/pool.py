"""The worker processes of a server: started before they are needed, and replaced."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing.connection import wait
from typing import Any

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.errors import NOT_LOADED
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.open_files import allow_descriptors
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    TemplateHandle,
    WorkerHandle,
    how_it_ended,
)
from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.killing import kill_tree, kill_what_is_left
from kedro_flask_server.workers.protocol import WorkerSettings

logger = logging.getLogger(__name__)

# After as many workers in vain, a run does not wait for another.
_MAX_FAILURES = 3

# As many modules take their time in each run that imports them anew.
_WORTH_IMPORTING = 10
_MAX_RENEWALS = 3

# How late a template may be with a worker, which takes milliseconds, and how long stopped.
_PATIENCE_S = 10.0

# Of a run, that a template is told of.
_MAX_PARAMS = 100
_MAX_PARAM_CHARS = 100
_READ_EVERY_S = 0.5

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0

# What else a server opens: connections above all.
_OTHER_DESCRIPTORS = 5_000


class NoWorkerError(Exception):
    """Raised when no worker process can be started. The message says why."""


class WorkerPool:
    """Keeps as many workers as runs may execute, and one more, and gives them to runs."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        size: int,
        secrets: set[str],
        template: TemplateHandle | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: What the workers run, and how.
            size: How many workers there are, at most.
            secrets: The names of environment variables that workers do not get.
            template: The process that they come from, if it was started with these settings.
        """
        self._settings = settings
        self._secrets = secrets
        self._size = size
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._template = template
        self._next: TemplateHandle | None = None
        self._retired: list[TemplateHandle] = []
        self._imported: dict[str, None] = {}
        self._imported_late: set[str] = set()
        self._renewals = _MAX_RENEWALS
        self._workers: set[WorkerHandle] = set()
        self._idle: list[WorkerHandle] = []
        self._failures = 0
        self._last_failure = ""
        self._start_at = 0.0
        self._ends_at: float | None = None
        self._is_closing = False
        self._wake = self._wake_sender = -1
        self._patience = SuspensionAwareTimeout(_PATIENCE_S)
        self._look_at = self._read_at = 0.0
        self._thread = BackgroundThread(self._work, name="kedro-workers")

    def start(self) -> None:
        """Start the workers."""
        allow_descriptors(_OTHER_DESCRIPTORS + 3 * self._size)
        self._wake, self._wake_sender = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_sender, False)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether its thread is at work."""
        return self._thread.is_alive()

    def faults(self) -> dict[str, str]:
        """Return why runs get no worker: what is at fault, and how."""
        with self._changed:
            template = self._template
            if not self._thread.is_alive():
                return {"workers": "The server starts no more workers; start it again."}
            if self._failures and not any(worker.is_ready for worker in self._idle):
                pause_s = max(0.0, self._start_at - time.monotonic())
                reason = f"{self._last_failure} The next is started in {pause_s:.1f} s."
                return {"workers": f"Worker processes end before they take a run: {reason}"}
            if template is None or not template.is_ready:
                return {"workers": "The worker processes are being started."}
            return {} if template.is_loaded else {"pipelines": NOT_LOADED}

    @property
    def pipelines(self) -> list[str] | None:
        """The names of the project's pipelines; None where they are not known now."""
        template = self._template
        return None if template is None else template.pipelines

    def resize(self, more: int) -> None:
        """Have more workers."""
        with self._changed:
            self._size += more
        self._kick()

    def acquire(self, stop: StopRequest) -> WorkerHandle | None:
        """Return a worker that is ready, as soon as there is one.

        Args:
            stop: Ends the waiting; `wake` makes that known.

        Returns:
            A worker, which must be given to `return_worker` or `discard`; None where there is no
            need of one any more.

        Raises:
            NoWorkerError: If workers cannot be started.
        """
        with self._changed:
            enough = self._failures + _MAX_FAILURES
            while stop.reason is None:
                if self._is_closing:
                    raise NoWorkerError("The server stops.")
                for worker in self._idle:
                    if worker.is_ready:
                        self._idle.remove(worker)
                        self._failures = 0
                        return worker
                if self._failures >= enough:
                    raise NoWorkerError(self._last_failure)
                self._changed.wait()
        return None

    def wake(self) -> None:
        """Have those that wait for a worker see whether they still need one."""
        with self._changed:
            self._changed.notify_all()

    def return_worker(self, worker: WorkerHandle) -> None:
        """Take a worker back that can execute another run."""
        if not self.is_current(worker):
            self.discard(worker)
            return
        with self._changed:
            self._idle.insert(0, worker)
            self._changed.notify_all()

    def discard(self, worker: WorkerHandle) -> None:
        """Forget a worker that has ended, or is to end, and start another."""
        with self._changed:
            self._workers.discard(worker)
            worker.close()
            self._start_missing()
            self._changed.notify_all()
        self._kick()

    def is_current(self, worker: WorkerHandle) -> bool:
        """Whether a worker comes from the template from which others would come now."""
        return worker.template is self._template

    def kill_template(self, template: TemplateHandle) -> None:
        """End a template, and all its workers: it does not do what it is told."""
        logger.error("The process that starts the workers does not answer, and is ended")
        template.process.kill()

    def stop(self, worker: WorkerHandle, grace_s: float) -> None:
        """Have a worker and all that it has started stopped, and killed after a grace."""
        with suppress(OSError):  # its template has gone, and with it the worker
            worker.template.stop(worker, grace_s)

    def renew_lease(self, seconds: float | None) -> None:
        """Have all workers end unless this is called again in time.

        Args:
            seconds: After how long; None for never.
        """
        with self._changed:
            self._ends_at = None if seconds is None else time.monotonic() + seconds
            for template in self._templates:
                if template.is_ready:  # one that is not reads nothing
                    template.renew_lease(seconds)

    def _limit(self, template: TemplateHandle) -> None:
        if self._ends_at is not None:
            template.renew_lease(self._ends_at - time.monotonic())

    @property
    def _templates(self) -> list[TemplateHandle]:
        return [*self._retired, *filter(None, (self._template, self._next))]

    def record_findings(
        self,
        *,
        is_loaded: bool,
        imported: Imported | None = None,
        read_with: Sequence[str] | None = None,
    ) -> None:
        """Take down what a worker has found; where others need not find it again, renew them.

        Args:
            is_loaded: Whether it could load the pipelines.
            imported: What its run has imported.
            read_with: With which runtime parameters it has read a configuration that its template
                does not know.
        """
        with self._changed:
            template = self._template
            if template is None or not template.is_ready or self._next is not None:
                return
            now = time.monotonic()
            if read_with is not None and now >= self._read_at and template.start_method == "fork":
                self._read_at = now + _READ_EVERY_S
                short = [name for name in read_with if len(name) <= _MAX_PARAM_CHARS]
                template.read(short[:_MAX_PARAMS])
            if imported is not None and not self._has_to_do_without(imported, template):
                self._imported |= dict.fromkeys(imported.early)
            new = self._importable.difference(template.modules)
            is_worth_it = template.start_method == "fork" and len(new) >= _WORTH_IMPORTING
            if (is_loaded and not template.is_loaded) or (is_worth_it and self._renewals > 0):
                self._renewals -= is_worth_it
                self._start_next()

    @property
    def _importable(self) -> set[str]:
        return set(self._imported) - self._imported_late

    def _has_to_do_without(self, imported: Imported, template: TemplateHandle) -> bool:
        """Renew the template if a run has set something for modules that it has imported ahead.

        Of what is imported already, a run that sets something before it imports that says nothing.
        """
        self._imported_late.update(imported.late)
        is_hidden = imported.has_set and not imported.late
        if not template.modules or not (is_hidden or template.modules & self._imported_late):
            return False
        logger.info("Runs set something before they import: nothing more is imported ahead of them")
        self._renewals = 0
        self._imported = {}
        self._start_next()
        return True

    def _start_next(self) -> None:
        """Start a template that is to take the place of this one when it is ready."""
        modules = [name for name in self._imported if name not in self._imported_late]
        try:
            self._next = TemplateHandle.start(
                replace(self._settings, modules=modules), self._secrets
            )
        except OSError as error:
            logger.warning("The worker processes cannot be renewed: %s", error)
        self._kick()

    def _promote_next(self, template: TemplateHandle) -> None:
        self._next, current = None, self._template
        if current is not None:
            if current.is_loaded and template.start_method != current.start_method:
                logger.info("What the runs import cannot be imported ahead of them")
                self._renewals = 0
                template.end()
                return
            current.retire()
            self._retired.append(current)
        self._template = template
        idle, self._idle = self._idle, []
        for worker in idle:
            self._workers.discard(worker)
            worker.close()

    def close(self) -> None:
        """End all workers and the template, and wait until they have."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._kick()
            self._thread.join()
        for template in self._templates:
            template.end()
        for worker in self._idle:
            worker.close()
        self._idle = []

    def _kick(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_sender, b".")

    def _work(self) -> None:
        while not self._is_closing:
            try:
                self._look_after_all()
            except Exception:  # without this thread there are no workers
                logger.exception("The worker processes could not be looked after")
                time.sleep(_FIRST_PAUSE_S)

    def _look_after_all(self) -> None:
        with self._changed:
            self._start_missing()
            by_source: dict[Any, TemplateHandle | WorkerHandle | None] = {self._wake: None}
            by_source |= {template.control.fileno(): template for template in self._templates}
            by_source |= {worker.channel.fileno(): worker for worker in self._idle}
            pause_s = LOOK_EVERY_S
            if len(self._workers) < self._size:
                pause_s = min(pause_s, max(0.001, self._start_at - time.monotonic()))
        for source in wait([*by_source], pause_s):
            self._attend_to(by_source[source])
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            with self._changed:
                self._look_at_templates()

    def _look_at_templates(self) -> None:
        """See whether they are there and do what they are told, which not all of them say."""
        for template in self._templates:
            if template.process.poll() is not None:  # who was forked from it holds its channel
                self._lose(template)
        current = self._template
        if current is not None:
            is_late = current.is_stopped or self._is_waited_for(current)
            if self._patience.is_over(is_late):
                self.kill_template(current)

    def _is_waited_for(self, template: TemplateHandle) -> bool:
        """Whether it has been told to fork a worker, and there is none."""
        latest = time.monotonic() - LOOK_EVERY_S
        return template.start_method == "fork" and any(
            not each.is_ready and each.asked_for_at < latest
            for each in self._idle
            if each.template is template
        )

    def _attend_to(self, source: TemplateHandle | WorkerHandle | None) -> None:
        with self._changed:
            if source is None:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            elif isinstance(source, TemplateHandle):
                self._attend_to_template(source)
            elif source in self._idle:  # otherwise a run has it by now
                self._attend_to_worker(source)
            self._changed.notify_all()

    def _attend_to_template(self, template: TemplateHandle) -> None:
        try:
            for kind, body in template.control.receive():
                if kind == "ready":
                    template.is_ready = True
                    template.is_loaded = bool(body.get("is_loaded"))
                    template.pipelines = body.get("pipelines")
                    template.start_method = str(body.get("start_method"))
                    _learn(body)
                    self._limit(template)
                    if template is self._next:
                        self._promote_next(template)
        except EOFError:
            self._lose(template)

    def _attend_to_worker(self, worker: WorkerHandle) -> None:
        try:
            # A run may have had it meanwhile, and have read what there was.
            for kind, body in worker.messages():
                if kind == "ready":
                    worker.is_ready, worker.pid = True, body.get("pid")
                    worker.has_arrived()
                elif kind == "ended":
                    self._lose_idle(worker, how_it_ended(body))
                    return
        except EOFError:
            self._lose_idle(worker, "it is gone.")

    def _lose_idle(self, worker: WorkerHandle, how: str) -> None:
        self._idle.remove(worker)
        self._workers.discard(worker)
        worker.close()
        if worker.template is self._template:
            self._fail(f"WorkerHandle process {worker.pid or ''} ended: {how}")

    def _lose(self, template: TemplateHandle) -> None:
        code = template.end()
        is_retired = template in self._retired
        if is_retired:
            self._retired.remove(template)
        if template is self._next:
            logger.warning(
                "The worker processes cannot be renewed: %s", how_it_ended({"code": code})
            )
            self._next = None
            self._renewals = 0
            return
        if not is_retired:
            self._template = None
            self._fail(f"The process that starts them ended: {how_it_ended({'code': code})}")
        # Without it nobody would say how they end, nor end what they leave behind.
        kill_what_is_left(template.origin)
        for worker in [each for each in self._workers if each.template is template]:
            if worker.pid is not None:
                kill_tree(worker.pid)
            worker.end = f"so did the process that had started it: {how_it_ended({'code': code})}"
            worker.channel.hang_up()  # it is not alone in holding the other end
            if worker in self._idle:
                self._idle.remove(worker)
                self._workers.discard(worker)
                worker.close()

    def _fail(self, failure: str) -> None:
        self._changed.notify_all()
        self._last_failure = failure
        if time.monotonic() < self._start_at:
            return  # they have died together
        self._failures += 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (self._failures - 1))
        self._start_at = time.monotonic() + pause_s
        logger.error("%s The next is started in %.1f s", failure, pause_s)

    def _start_missing(self) -> None:
        if self._is_closing or time.monotonic() < self._start_at:
            return
        try:
            if self._template is None:
                self._template = TemplateHandle.start(self._settings, self._secrets)
            while len(self._workers) < self._size:
                worker = self._template.start_worker(next(self._numbers))
                self._workers.add(worker)
                self._idle.append(worker)
        except OSError as error:
            self._fail(f"They cannot be started: {error}.")


def _learn(body: dict[str, Any]) -> None:
    """Take down what a template has found out: secrets, and the project's names."""
    is_loaded = bool(body.get("is_loaded"))
    SECRETS.learn_names(body.get("names", ()), are_pipelines_known=is_loaded)
    SECRETS.learn(body.get("secrets", ()), is_lasting=True)
    SECRETS.learn(body.get("guessed", ()), is_certain=False, is_lasting=True)
