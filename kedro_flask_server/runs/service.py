"""Takes runs in, within limits, and answers for them."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.config.settings import ServerConfig, unknown_pipelines
from kedro_flask_server.errors import (
    KeyInUseError,
    RunEndedError,
    RunGoneError,
    ServerBusyError,
    ServerSettingsError,
    ServerStoppingError,
    StoreUnavailableError,
    UnknownRunError,
)
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.event import EventPage, EventType
from kedro_flask_server.model.run import (
    NOBODY,
    ErrorDetail,
    Run,
    RunFilter,
    RunPage,
    RunPart,
    RunRequest,
    RunStatus,
    Snapshot,
    Submitter,
)
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.housekeeping import Housekeeper, MaintenanceTask
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.waiters import Waiter, Waiters
from kedro_flask_server.store import ClaimedRun, RunStore

logger = logging.getLogger(__name__)

# How often who waits for events of a run looks for those that another server has stored.
_LOOK_EVERY_S = 0.5

# How often who waits for a run looks whether the client is there.
_LOOK_FOR_CLIENT_EVERY_S = 0.4

# Each with parameters of its own.
_MAX_SNAPSHOTS = 16


def _no() -> bool:
    return False


class RunService:
    """Takes runs in, has them executed when their turn comes, and tells how they are.

    Nothing starts with it: the store and its threads do so with the first call that needs them,
    or with `start`. Methods that need the store raise `StoreUnavailableError` while it cannot
    be reached.
    """

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        config: ServerConfig,
        *,
        maintenance_tasks: Sequence[MaintenanceTask] = (),
        fingerprint: Callable[[Iterable[str]], str | None] = lambda sources: None,
    ) -> None:
        """Prepare.

        Args:
            store: Keeps the runs.
            executor: Executes them.
            config: The settings of the server.
            maintenance_tasks: What else is to be done from time to time while the store is open.
            fingerprint: Returns, of files of Python, what a snapshot of the project depends on;
                None where that cannot be told.
        """
        self._store = store
        self._executor = executor
        self._config = config
        self._fingerprint = fingerprint
        self._snapshots: BoundedCache[str | None, Snapshot] = BoundedCache(_MAX_SNAPSHOTS)
        self._inspecting = threading.Lock()
        self._ids = RunIds()
        self._waiters = Waiters()
        self._event_waiters = Waiters()
        self._lease = ServerLease(
            store,
            lease_s=config.lease_s,
            limit=executor.renew_lease,
            in_hand=lambda: self._dispatcher.in_hand | self._waiters.run_ids,
            on_return=self._waiters.wake_all,
        )
        self._recorder = Recorder(store, self._event_waiters, max_log_bytes=config.max_log_bytes)
        self._dispatcher = Dispatcher(
            store, executor, self._lease, self._recorder, self._waiters, config=config
        )
        self._housekeeper = Housekeeper(
            store,
            self._lease,
            self._dispatcher,
            self._waiters,
            config,
            maintenance_tasks=maintenance_tasks,
        )
        # Those who look at runs never take the places of those who send them.
        places = config.workers + config.max_waiting
        self._places = threading.BoundedSemaphore(places)
        self._places_of_watchers = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._is_started = False
        self._is_about_to_stop = False
        self._is_stopping = False
        self._is_stopped = False
        self._keys_in_use: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Open the store and begin to execute what is queued there; again, do nothing.

        A store that cannot be reached now is tried again, and `faults` says so.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
        """
        if self._is_started:
            return
        with self._lock:
            if self._is_started or self._is_stopping:
                return
            try:
                self._lease.join()
            except StoreUnavailableError as error:
                self._lease.record_failure(error)
            self._dispatcher.start()
            self._recorder.start()
            self._housekeeper.start()
            self._is_started = True
            # For servers that do not call `drain`; by then their runs have ended.
            atexit.register(self.drain, 0)

    def submit(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        wait_s: float = 0,
        submitter: Submitter = NOBODY,
        is_gone: Callable[[], bool] = _no,
    ) -> Run:
        """Take in a run that need not be waited for.

        Args:
            request: What to run.
            key: An idempotency key: the same one and the same request again are the same run.
            wait_s: How many seconds to wait for its end, if there is a place to wait in.
            submitter: Who sends it; keys count among their own.
            is_gone: Tells whether the client that waits is gone, whose place is free then.

        Returns:
            The run, stored, as it was last seen.

        Raises:
            QuotaError: If the submitter has as many runs as they may.
            ServerBusyError: If as many runs are queued as may.
            ServerStoppingError: If the server stops.
            KeyReusedError: If the key was sent before, with another request.
            KeyInUseError: If a request with the key is just being taken in.
        """
        with self._waiters.waiter() as waiter:
            run = self._take_in(request, key, submitter, waiter, is_held=False)
            if wait_s <= 0 or not self._places.acquire(blocking=False):
                return run
            try:
                seen = self._wait_for_taken_in(run, waiter, _monotonic_end(wait_s), is_gone)
                return replace(seen, is_replay=run.is_replay)
            except StoreUnavailableError:  # it is taken in all the same
                return run
            finally:
                self._places.release()

    def run(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        submitter: Submitter = NOBODY,
        is_gone: Callable[[], bool] = _no,
    ) -> Run:
        """Take in a run, and wait for its end.

        Without a key, nobody else knows of the run: should the server stop before it starts, it
        is cancelled.

        Args:
            request: What to run.
            key: As for `submit`.
            timeout_s: How many seconds to wait at most; None for any time.
            submitter: As for `submit`.
            is_gone: As for `submit`. The run goes on; should the server stop before it starts, it
                is cancelled.

        Returns:
            The run, as it was last seen; not ended where the time was over, where its end cannot
            be stored, where another server executes it and this one stops, or where the client
            is gone.

        Raises:
            QuotaError: As for `submit`.
            ServerBusyError: If as many requests wait, or as many runs are queued, as may.
            ServerStoppingError: If the server stops before the run has started.
            KeyReusedError: As for `submit`.
            KeyInUseError: As for `submit`.
        """
        ends_at = _monotonic_end(timeout_s)
        with self._place(), self._waiters.waiter() as waiter:
            run = self._take_in(request, key, submitter, waiter, is_held=key is None)
            is_replay = run.is_replay
            try:
                run = self._wait_as_asker(run, waiter, ends_at, is_gone, is_held=key is None)
                if key is None and not run.status.is_final and not is_gone():
                    self._store.release_hold(run.run_id)
            except StoreUnavailableError as error:  # it is taken in all the same
                self._lease.record_failure(error)
        return replace(run, is_replay=is_replay)

    def _wait_as_asker(
        self,
        run: Run,
        waiter: Waiter,
        ends_at: float,
        is_gone: Callable[[], bool],
        *,
        is_held: bool,
    ) -> Run:
        """Wait as the one who has sent a run, and refuse it if this server stops before it ran."""
        while True:
            run = self._wait_for_taken_in(run, waiter, ends_at, is_gone)
            if not (self._is_stopping and run.status is RunStatus.QUEUED):
                return run
            if not is_held or self._store.cancel_unclaimed(run.run_id):
                raise ServerStoppingError

    def wait(self, run_id: str, timeout_s: float, *, is_gone: Callable[[], bool] = _no) -> Run:
        """Wait for a run's end, if there is a place to wait in.

        Args:
            run_id: The run.
            timeout_s: How many seconds to wait at most.
            is_gone: As for `submit`.

        Returns:
            The run as it is then.

        Raises:
            UnknownRunError: If there is none of that id.
        """
        if timeout_s <= 0 or not self._places_of_watchers.acquire(blocking=False):
            return self.get(run_id)
        try:
            with self._waiters.waiter(run_id) as waiter:
                return self._wait(self.get(run_id), waiter, _monotonic_end(timeout_s), is_gone)
        finally:
            self._places_of_watchers.release()

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            UnknownRunError: If there is none of that id in this project and environment.
        """
        self._open()
        run = self._store.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    def page(
        self,
        wanted: RunFilter,
        *,
        limit: int,
        cursor: str | None = None,
        include: Collection[RunPart] = (),
    ) -> RunPage:
        """Return summaries of runs of this project and environment, the newest first.

        The request of a summary says the pipelines alone, and its error has no traceback.

        Args:
            wanted: Which runs.
            limit: How many at most; fewer where they are large.
            cursor: ``next`` of the page before.
            include: What is returned of them besides.
        """
        self._open()
        return self._store.page(wanted, limit=limit, cursor=cursor, include=include)

    def cancel(self, run_id: str, *, by: Submitter = NOBODY) -> Run:
        """Cancel a run: at once where it is queued, between two nodes where it executes.

        Args:
            run_id: The run.
            by: Who cancels it.

        Returns:
            The run as it is now.

        Raises:
            UnknownRunError: If there is none of that id.
            RunEndedError: If it has ended in another way.
        """
        self._open()
        run = self._store.request_cancel(run_id, by)
        if run is None:
            raise UnknownRunError(run_id)
        if run.status.is_final and run.status is not RunStatus.CANCELLED:
            raise RunEndedError(run_id, run.status)
        self._dispatcher.cancel(run_id)
        if run.status.is_final:
            self._waiters.wake(run_id)
            self._event_waiters.wake(run_id)
        return run

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        limit: int = 1000,
        kind: EventType | None = None,
        wait_s: float = 0,
    ) -> EventPage:
        """Return what has happened in a run, in order.

        Args:
            run_id: The run.
            after: The id after which the events begin.
            limit: How many at most.
            kind: Those of this type; None for all.
            wait_s: How many seconds to wait for the first.

        Returns:
            A page; it may be empty where the run has not ended.

        Raises:
            UnknownRunError: If there is no such run.
            ServerStoppingError: If the server stops while there is nothing to return.
        """
        self._open()
        ends_at = time.monotonic() + wait_s
        with self._event_waiters.waiter(run_id) as waiter:
            while True:
                page = self._store.event_page(run_id, after=after, limit=limit, kind=kind)
                if page is None:
                    raise UnknownRunError(run_id)
                remaining_s = ends_at - time.monotonic()
                if page.events or page.next is None or remaining_s <= 0:
                    return page
                if self._is_stopped:
                    raise ServerStoppingError
                waiter.wait(min(remaining_s, _LOOK_EVERY_S))

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project, as for `Executor`; the same snapshot for as long as it is true.

        Raises:
            ServerStoppingError: If the server stops.
        """
        if self._is_stopping:
            raise ServerStoppingError
        self.start()
        kept = self._kept_snapshot(params)
        if kept is not None:
            return kept
        with self._inspecting:
            kept = self._kept_snapshot(params)  # somebody may have made it meanwhile
            if kept is not None:
                return kept
            snapshot = self._executor.snapshot(params)
            if isinstance(snapshot, Snapshot) and snapshot.fingerprint is not None:
                self._snapshots.put(params, snapshot)
            return snapshot

    def _kept_snapshot(self, params: str | None) -> Snapshot | None:
        kept = self._snapshots.get(params)
        if kept is None or kept.fingerprint != self._fingerprint(kept.sources):
            return None
        return kept

    def faults(self) -> dict[str, str]:
        """Return why no runs can be taken in: what is at fault, and how; empty where they can."""
        if self._is_about_to_stop or self._is_stopping:
            return {"draining": "The server is stopping."}
        try:
            self.start()
        except ServerSettingsError as error:
            return {"store": str(error)}
        if self._lease.fault is not None:
            return {"store": self._lease.fault}
        dead = self.dead_threads()
        if dead:
            names = ", ".join(dead)
            return {
                "threads": "The server does not take up runs any more; start it again. "
                f"What has ended: {names}."
            }
        faults = self._executor.faults()
        wrong = unknown_pipelines(self._config, self._executor.pipelines())
        return {"settings": wrong, **faults} if wrong else faults

    def dead_threads(self) -> list[str]:
        """Return the names of the threads that have ended, though the server cannot do without.

        It asks neither the store nor the network, and waits for nothing.
        """
        if not self._is_started or self._is_stopping:
            return []
        is_alive = {
            "kedro-dispatcher": self._dispatcher.is_alive(),
            "kedro-recorder": self._recorder.is_alive(),
            "kedro-housekeeper": self._housekeeper.is_alive(),
        }
        dead = [name for name, is_at_work in is_alive.items() if not is_at_work]
        return [*dead, *self._executor.dead_threads()]

    def begin_to_stop(self) -> None:
        """Have `faults` say that the server stops, so that no more is sent; it still works."""
        self._is_about_to_stop = True

    def drain(self, timeout_s: float) -> bool:
        """Take no more runs and let those under way end.

        What is queued stays so, for the next start or another server, but for what was sent by
        those who wait here and know no more of their run than that: it is cancelled. What still
        executes when the time is over is recorded as a failure, ``ServerStopped``: the process
        must end then.

        Args:
            timeout_s: How many seconds the runs under way get.

        Returns:
            Whether every run that had started here came to its own end.
        """
        with self._lock:
            self._is_stopping = True
            if self._is_stopped or not self._is_started:
                self._is_stopped = True
                return True
        self._dispatcher.stop()
        self._waiters.wake_all()
        executing = len(self._dispatcher.run_ids)
        if executing:
            logger.info("Waiting up to %g s for the end of %d runs", timeout_s, executing)
        is_idle = self._dispatcher.wait_until_idle(timeout_s)
        for run_id in self._dispatcher.run_ids:
            logger.warning("Run %s is cut off: the server stops", run_id)
        self._executor.shutdown()
        cut_off = self._dispatcher.give_up()
        self._is_stopped = True
        self._waiters.wake_all()
        self._event_waiters.wake_all()
        self._housekeeper.stop()
        self._recorder.stop()
        try:
            self._dispatcher.record_again()
            # A server that is not to be found dead has nothing left to be told of.
            if not cut_off and not self._dispatcher.has_unrecorded():
                self._lease.leave()
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
        self._store.close()
        return is_idle

    def _take_in(
        self,
        request: RunRequest,
        key: str | None,
        submitter: Submitter,
        waiter: Waiter,
        *,
        is_held: bool,
    ) -> Run:
        if self._is_stopping:
            raise ServerStoppingError
        server_id = self._open()
        try:
            with self._in_use(key, submitter), self._dispatcher.place(request) as place:

                def next_id() -> str:
                    run_id = self._ids.next()
                    waiter.attach(run_id)
                    return run_id

                found = self._store.add(
                    request,
                    submitter=submitter,
                    run_id=next_id,
                    server_id=server_id,
                    is_held=is_held,
                    key=key,
                    key_hours=self._config.idempotency_hours,
                    workers=self._config.workers,
                    max_queued=self._config.max_queued,
                    may_start=place.is_free,
                )
                if isinstance(found, ClaimedRun):
                    has_started = place.start(found, server_id)
                    return found.run if has_started else self.get(found.run.run_id)
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
            raise
        if found.status is RunStatus.QUEUED:
            self._dispatcher.wake()
        if key is None or found.status.is_final:
            return found
        waiter.attach(found.run_id)  # it may be one that was sent before, and end in this moment
        return replace(self.get(found.run_id), is_replay=found.is_replay)

    def _open(self) -> str:
        """Start, if that has not been done, and return by which id the store knows this server.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
            StoreUnavailableError: If it has not been reached yet.
        """
        self.start()
        server_id = self._lease.server_id
        if server_id is None and not self._is_stopping:
            raise StoreUnavailableError(self._lease.fault or "it is being opened")
        return server_id or ""

    def _wait(self, run: Run, waiter: Waiter, ends_at: float, is_gone: Callable[[], bool]) -> Run:
        """Wait until a run has ended, the time is over, or the server stops before it does.

        Args:
            run: The run as it was last seen, after it was watched.
            waiter: Of the run.
            ends_at: Until when, by the monotonic clock.
            is_gone: Ends the wait, too.
        """
        while True:
            run = waiter.ended or run
            is_left = self._is_stopping and run.status is RunStatus.QUEUED
            if run.status.is_final or is_left or waiter.is_unrecordable or self._is_stopped:
                return run
            remaining_s = ends_at - time.monotonic()
            if remaining_s <= 0 or is_gone():
                return run
            has_news = waiter.wait(min(remaining_s, _LOOK_FOR_CLIENT_EVERY_S))
            if waiter.ended is None and (has_news or time.monotonic() >= ends_at):
                run = self._get_again(run, waiter)

    def _wait_for_taken_in(
        self, run: Run, waiter: Waiter, ends_at: float, is_gone: Callable[[], bool]
    ) -> Run:
        """Wait as `_wait` does, for a run that was taken in with this request."""
        try:
            return self._wait(run, waiter, ends_at, is_gone)
        except UnknownRunError as error:
            raise RunGoneError(run.run_id) from error

    def _get_again(self, run: Run, waiter: Waiter) -> Run:
        try:
            return self.get(run.run_id)
        except UnknownRunError:
            # Its row is gone with the database that it was in. If it executes it has an end to
            # come, and if it does no more, one that is about to be told.
            if run.run_id in self._dispatcher.in_hand:
                return run
            waiter.wait(_LOOK_EVERY_S)
            if waiter.ended is None:
                raise
            return waiter.ended

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ServerBusyError(
                "runs", limit=self._config.workers + self._config.max_waiting, setting="max_waiting"
            )
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def _in_use(self, key: str | None, submitter: Submitter) -> Iterator[None]:
        """Refuse a key whose first request is not stored yet."""
        if key is None:
            yield
            return
        whose = (submitter.name, key)
        with self._lock:
            is_first = whose not in self._keys_in_use
            self._keys_in_use.add(whose)
        try:
            if not is_first:
                self._open()
                if not self._store.has_key(key, submitter.name):
                    raise KeyInUseError
            yield
        finally:
            if is_first:
                self._keys_in_use.discard(whose)


def _monotonic_end(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s
