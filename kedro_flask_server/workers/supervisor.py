"""The thread that starts worker processes, and detects which are ready or have ended."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from itertools import count
from multiprocessing.connection import wait
from typing import Any

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.errors import UNLOCATED
from kedro_flask_server.open_files import allow_descriptors
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.backoff import FIRST_PAUSE_S, Backoff
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    TemplateHandle,
    WorkerHandle,
    how_it_ended,
)
from kedro_flask_server.workers.killing import kill_tree, kill_what_is_left
from kedro_flask_server.workers.protocol import WorkerSettings
from kedro_flask_server.workers.renewal import Renewal
from kedro_flask_server.workers.template_set import TemplateSet

logger = logging.getLogger(__name__)

# Everything else that a server opens, above all connections.
_OTHER_DESCRIPTORS = 5_000


class WorkerSupervisor:
    """Maintains a number of workers, and their template."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        size: int,
        secrets: set[str],
        template: TemplateHandle | None = None,
    ) -> None:
        """Prepare; `start` starts the workers.

        Args:
            settings: The settings of the workers.
            size: The maximum number of workers.
            secrets: The names of environment variables that are withheld from workers.
            template: The template, if it was started ahead with these settings.
        """
        self._size = size
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._templates = TemplateSet(settings, secrets, template)
        self._renewal = Renewal()
        self._backoff = Backoff()
        self._workers: set[WorkerHandle] = set()
        self._idle: list[WorkerHandle] = []
        self._is_closing = False
        self._has_served = False
        self._has_locks = settings.has_locks
        self._unlocated: set[str] = set()
        self._wake = self._wake_sender = -1
        self._look_at = 0.0
        self._thread = BackgroundThread(self._work, name="kedro-workers")

    def start(self) -> None:
        """Start the workers."""
        allow_descriptors(_OTHER_DESCRIPTORS + 3 * self._size)
        self._wake, self._wake_sender = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_sender, False)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether its thread is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End all workers and the template, and wait for them."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._kick()
            self._thread.join()
        for template in self._templates.all():
            template.end()
        for worker in self._idle:
            worker.close()
        self._idle = []
        ends = (self._wake, self._wake_sender)
        self._wake = self._wake_sender = -1
        for end in ends:
            if end >= 0:
                os.close(end)

    def _kick(self) -> None:
        with suppress(OSError):  # full, or closed
            os.write(self._wake_sender, b".")

    def _work(self) -> None:
        while not self._is_closing:
            try:
                self._look_after_all()
            except Exception:  # without this thread there are no workers
                logger.exception("The worker processes could not be looked after")
                time.sleep(FIRST_PAUSE_S)

    def _look_after_all(self) -> None:
        with self._changed:
            self._start_missing()
            by_source: dict[Any, TemplateHandle | WorkerHandle | None] = {self._wake: None}
            by_source |= {template.control.fileno(): template for template in self._templates.all()}
            by_source |= {worker.channel.fileno(): worker for worker in self._idle}
            pause_s = LOOK_EVERY_S
            if len(self._workers) < self._size:
                pause_s = min(pause_s, max(0.001, self._backoff.pause_s))
        for source in wait([*by_source], pause_s):
            self._attend_to(by_source[source])
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            with self._changed:
                self._look_at_templates()

    def _look_at_templates(self) -> None:
        """Detect templates that have ended or do not respond, which not all report."""
        for template in self._templates.all():
            if template.process.poll() is not None:  # its forks hold its channel open
                self._lose(template)
        current = self._templates.current
        awaited = [each for each in self._idle if not each.is_ready]
        if self._templates.is_silent(awaited) and current is not None:
            self.kill_template(current)

    def _attend_to(self, source: TemplateHandle | WorkerHandle | None) -> None:
        with self._changed:
            if source is None:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            elif isinstance(source, TemplateHandle):
                self._attend_to_template(source)
            elif source in self._idle:  # otherwise a run has acquired it
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
                    self._warn_of_unlocated([str(name) for name in body.get("unlocated", ())])
                    self._templates.limit(template)
                    if template is self._templates.next:
                        self._promote_next()
        except EOFError:
            self._lose(template)

    def _warn_of_unlocated(self, names: list[str]) -> None:
        new = [name for name in names if name not in self._unlocated]
        if new and self._has_locks:
            self._unlocated.update(new)
            logger.warning(UNLOCATED, ", ".join(map(repr, new)))

    def _promote_next(self) -> None:
        if not self._templates.promote_next():
            self._renewal.give_up()
            return
        idle, self._idle = self._idle, []
        for worker in idle:
            self._workers.discard(worker)
            worker.close()

    def _attend_to_worker(self, worker: WorkerHandle) -> None:
        try:
            # A run may have used it meanwhile, and read its messages.
            for kind, body in worker.messages():
                if kind == "ready":
                    worker.is_ready, worker.pid = True, body.get("pid")
                    worker.preparation = body.get("preparation")
                    why = why_unprepared(worker) if self._has_served else None
                    if why is not None:  # the first are looked at by who waits for them
                        self._lose_idle(worker, f"it could not load what it serves: {why}.")
                        return
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
        if self.is_current(worker):
            self._fail(f"Worker process {worker.pid or ''} ended: {how}")

    def _lose(self, template: TemplateHandle) -> None:
        how = how_it_ended({"code": template.end()})
        is_next, is_current = (
            template is each for each in (self._templates.next, self._templates.current)
        )
        self._templates.remove(template)
        if is_next:
            logger.warning("The worker processes cannot be renewed: %s", how)
            self._renewal.give_up()
            return
        if is_current:
            self._fail(f"The process that starts them ended: {how}")
        # Only a template reports how its workers end, and kills their leftovers.
        kill_what_is_left(template.origin)
        for worker in [each for each in self._workers if each.template is template]:
            if worker.pid is not None:
                kill_tree(worker.pid)
            worker.end = f"so did the process that had started it: {how}"
            worker.channel.hang_up()  # other processes may hold the other end, too
            if worker in self._idle:
                self._idle.remove(worker)
                self._workers.discard(worker)
                worker.close()

    def _fail(self, failure: str) -> None:
        self._changed.notify_all()
        if self._backoff.fail(failure):
            logger.error("%s The next is started in %.1f s", failure, self._backoff.pause_s)

    def _start_missing(self) -> None:
        if self._is_closing or self._backoff.pause_s:
            return
        try:
            template = self._templates.start()
            while len(self._workers) < self._size:
                worker = template.start_worker(next(self._numbers))
                self._workers.add(worker)
                self._idle.append(worker)
        except OSError as error:
            self._fail(f"They cannot be started: {error}.")

    def is_current(self, worker: WorkerHandle) -> bool:
        """Return whether a worker belongs to the current template."""
        return worker.template is self._templates.current

    def kill_template(self, template: TemplateHandle) -> None:
        """Kill a template that does not respond, and all its workers."""
        logger.error("The process that starts the workers does not answer, and is ended")
        template.process.kill()


def why_unprepared(worker: WorkerHandle) -> str | None:
    """Return why a worker does not serve what it should; None where it does, or need not."""
    found = worker.preparation or {}
    if found.get("missing") is not None:
        return f"the dataset {found['missing']!r} is not there"
    error = found.get("error")
    return None if error is None else f"{error.get('type')}: {error.get('message')}"


def _learn(body: dict[str, Any]) -> None:
    """Record what a template has found: secrets, and the project's names."""
    is_loaded = bool(body.get("is_loaded"))
    SECRETS.learn_names(body.get("names", ()), are_pipelines_known=is_loaded)
    SECRETS.learn(body.get("secrets", ()), is_lasting=True)
    SECRETS.learn(body.get("guessed", ()), is_certain=False, is_lasting=True)
