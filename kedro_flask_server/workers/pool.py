"""The pool of a server's worker processes: started ahead, and replaced."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from kedro_flask_server.errors import NOT_LOADED
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.workers.handles import (
    WorkerHandle,
)
from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.supervisor import WorkerSupervisor, why_unprepared

logger = logging.getLogger(__name__)

# As of nice(2).
_LOWEST_PRIORITY = 19

# A run gives up waiting for a worker after so many further failures.
_MAX_FAILURES = 3


class NoWorkerError(Exception):
    """Raised when no worker process can be started. The message says why."""


class WorkerPool(WorkerSupervisor):
    """Keeps one worker more than runs may execute at a time, and hands workers to runs."""

    def faults(self) -> dict[str, str]:
        """Return why runs get no worker: the faulty component, and its fault."""
        with self._changed:
            template, backoff = self._templates.current, self._backoff
            if not self._thread.is_alive():
                return {"workers": "The server starts no more workers; start it again."}
            if backoff.failures and not any(worker.is_ready for worker in self._idle):
                reason = f"{backoff.last_failure} The next is started in {backoff.pause_s:.1f} s."
                return {"workers": f"Worker processes end before they take a run: {reason}"}
            if template is None or not template.is_ready:
                return {"workers": "The worker processes are being started."}
            return {} if template.is_loaded else {"pipelines": NOT_LOADED}

    @property
    def pipelines(self) -> list[str] | None:
        """The names of the project's pipelines; None while they are not known."""
        template = self._templates.current
        return None if template is None else template.pipelines

    def resize(self, more: int) -> None:
        """Increase the number of workers."""
        with self._changed:
            self._size += more
        self._kick()

    def acquire(
        self, stop: StopRequest, look: Callable[[], float | None] = lambda: None
    ) -> WorkerHandle | None:
        """Return a ready worker, as soon as there is one.

        Args:
            stop: Ends the wait; call `wake` after a request to stop.
            look: Called while it waits; returns after how many seconds at the latest it is to be
                called again.

        Returns:
            A worker, which must be passed to `return_worker` or `discard`; None if the run was
            asked to stop.

        Raises:
            NoWorkerError: If workers cannot be started.
        """
        with self._changed:
            enough = self._backoff.failures + _MAX_FAILURES
            while stop.reason is None:
                if self._is_closing:
                    raise NoWorkerError("The server stops.")
                for worker in self._idle:
                    if worker.is_ready:
                        self._idle.remove(worker)
                        self._backoff.succeed()
                        return worker
                if self._backoff.failures >= enough:
                    raise NoWorkerError(self._backoff.last_failure)
                self._changed.wait(look())
        return None

    def wait_until_ready(self) -> list[WorkerHandle]:
        """Wait until all workers are ready, or one has not prepared what it is to serve.

        Returns:
            Those that are ready.

        Raises:
            NoWorkerError: If workers cannot be started.
        """
        with self._changed:
            while True:
                ready = [worker for worker in self._idle if worker.is_ready]
                is_unprepared = any(map(why_unprepared, ready))
                if is_unprepared or len(ready) >= self._size:
                    self._has_served = not is_unprepared
                    return ready
                if self._is_closing:
                    raise NoWorkerError("The server stops.")
                if self._backoff.failures >= _MAX_FAILURES:
                    raise NoWorkerError(self._backoff.last_failure)
                self._changed.wait()

    def why_down(self) -> str | None:
        """Return why there is no worker, if several could not be started; None otherwise."""
        with self._changed:
            is_down = self._backoff.failures >= _MAX_FAILURES
            if not is_down or any(worker.is_ready for worker in self._workers):
                return None
            return self._backoff.last_failure

    def lower_priority(self) -> None:
        """Let all else go before these processes, which are about to end.

        The end of one that has much memory takes a processor for a while.
        """
        with self._changed:
            pids = [template.process.pid for template in self._templates.all()]
            pids += [worker.pid for worker in self._workers if worker.pid is not None]
        for pid in pids:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, pid, _LOWEST_PRIORITY)

    def wake(self) -> None:
        """Make the threads that wait for a worker check their stop requests."""
        with self._changed:
            self._changed.notify_all()

    def return_worker(self, worker: WorkerHandle) -> None:
        """Return a worker that can execute another run to the pool."""
        if not self.is_current(worker):
            self.discard(worker)
            return
        with self._changed:
            self._idle.insert(0, worker)
            self._changed.notify_all()

    def discard(self, worker: WorkerHandle) -> None:
        """Remove a worker that has ended or is about to, and start another."""
        with self._changed:
            self._workers.discard(worker)
            worker.close()
            self._start_missing()
            self._changed.notify_all()
        self._kick()

    def stop(self, worker: WorkerHandle, grace_s: float) -> None:
        """Stop a worker and all its processes; kill them after a grace period.

        Args:
            worker: The worker.
            grace_s: The grace period, in seconds.
        """
        with suppress(OSError):  # the template is gone, and the worker with it
            worker.template.stop(worker, grace_s)

    def renew_lease(self, seconds: float | None) -> None:
        """End all workers unless the lease is renewed in time.

        Args:
            seconds: How long the lease lasts; None for ever.
        """
        with self._changed:
            self._templates.renew_lease(seconds)

    def record_findings(
        self,
        *,
        is_loaded: bool,
        imported: Imported | None = None,
        read_with: Sequence[str] | None = None,
    ) -> None:
        """Record what a worker has found, and renew the template where later runs benefit.

        Args:
            is_loaded: Whether the worker could load the pipelines.
            imported: What its run has imported.
            read_with: The runtime parameters with which it has read a configuration that its
                template has not cached; None if it has not.
        """
        with self._changed:
            template = self._templates.current
            if template is None or not template.is_ready or self._templates.next is not None:
                return
            if read_with is not None:
                self._renewal.have_read(template, read_with)
            if self._renewal.is_due(template, is_loaded=is_loaded, imported=imported):
                self._templates.start_next(self._renewal.modules)
                self._kick()
