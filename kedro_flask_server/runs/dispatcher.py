"""Takes up queued runs as there are slots, and records how they ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.config.settings import ServerConfig, timeout_of
from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run import (
    ErrorDetail,
    Run,
    RunOutcome,
    RunRequest,
    RunStatus,
    StopReason,
)
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import ClaimedRun, RunStore

logger = logging.getLogger(__name__)

# How often it looks for runs that other servers have queued.
_POLL_S = 0.5

# How often it compares what it executes with what the store takes it to execute: no answer of the
# store takes longer.
_CHECK_EVERY_S = 5.0

# How long those who wait for a run do so while its end cannot be stored.
_UNRECORDABLE_WAIT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Execution:
    """A run while it executes here; times are monotonic, in seconds."""

    run: Run
    server_id: str
    started_at: float
    ends_at: float | None
    timeout_s: float | None

    @property
    def run_id(self) -> str:
        return self.run.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unrecorded:
    """The end of a run that could not be stored yet, and since when (monotonic, in seconds)."""

    execution: _Execution
    outcome: RunOutcome
    since: float


class Place:
    """A place for a run that is about to be taken in, if there is one."""

    def __init__(self, dispatcher: Dispatcher, *, is_free: bool) -> None:
        """Take one that is reserved, where it is free."""
        self._dispatcher = dispatcher
        self.is_free = is_free
        """Whether the run may start at once, if no other is queued."""

    def start(self, claim: ClaimedRun, server_id: str) -> bool:
        """Start a run that was taken up for this place.

        Returns:
            Whether it executes; otherwise it is queued again.
        """
        return self._dispatcher.start_claimed(claim, server_id)


class Dispatcher:
    """Starts queued runs on an executor, and sees to it that their ends are stored."""

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        lease: ServerLease,
        recorder: Recorder,
        waiters: Waiters,
        *,
        config: ServerConfig,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: Has the queue.
            executor: Executes the runs.
            lease: This server's place in the store.
            recorder: Stores what the runs tell.
            waiters: Who waits for runs.
            config: ``workers``, ``concurrency`` and ``run_timeout_s``.
        """
        self._store = store
        self._executor = executor
        self._lease = lease
        self._recorder = recorder
        self._waiters = waiters
        self._config = config
        self._wake = threading.Event()
        # Of this server's runs; for those of others it looks from time to time.
        self._may_be_queued = False
        self._is_stopping = False
        self._check_at = 0.0
        self._changed = threading.Condition()
        self._executing: dict[str, _Execution] = {}
        self._reserved = 0
        # What the store takes for running here, and did not at the last look.
        self._unknown: set[str] = set()
        self._unrecorded: dict[str, _Unrecorded] = {}
        self._thread = BackgroundThread(self._work, name="kedro-dispatcher")

    def start(self) -> None:
        """Begin to take up runs.

        Raises:
            ServerSettingsError: If the executor cannot start.
        """
        self._executor.start()
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Look for runs now: there is one."""
        self._may_be_queued = True
        if self._may_start():  # otherwise whoever has a place does so when it is free
            self._wake.set()

    @contextmanager
    def place(self, request: RunRequest) -> Iterator[Place]:
        """Reserve a place for a run that is about to be taken in, if there is one.

        Args:
            request: What is to run. What has a limit of its own waits for its turn.
        """
        is_limited = not self._config.concurrency.keys().isdisjoint(request.pipelines)
        place = Place(self, is_free=not is_limited and self._reserve())
        try:
            yield place
        finally:
            if place.is_free:
                self._release()
                if self._may_be_queued:
                    self._wake.set()

    def _reserve(self) -> bool:
        with self._changed:
            is_free = self._may_start()
            self._reserved += is_free
        return is_free

    def _release(self) -> None:
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Take up no more runs; those that execute go on."""
        self._is_stopping = True
        self._wake.set()
        self._thread.join()
        self._executor.stop_accepting()

    @property
    def run_ids(self) -> set[str]:
        """The runs that execute here."""
        with self._changed:
            return set(self._executing)

    def _work(self) -> None:
        while not self._is_stopping:
            is_woken = self._wake.wait(_POLL_S)
            self._wake.clear()
            with self._told_of_faults():
                self._put_back_what_never_started()
                # Where nothing has happened here, to look takes less than to take up nothing.
                if is_woken or self._store.has_queued():
                    self._start_all()

    @contextmanager
    def _told_of_faults(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
        except Exception:  # the queue must go on, whatever one run brings with it
            logger.exception("A queued run could not be started")

    def _start_all(self) -> None:
        """Start the queued runs for which there are places."""
        while self._reserve():
            try:
                # Whoever queues another from now on says so.
                self._may_be_queued = False
                if self._start_one():  # there may be more
                    self._may_be_queued = True
            finally:
                self._release()
            if not self._may_be_queued:
                return

    def _put_back_what_never_started(self) -> None:
        """Put back the runs that the store took for taken up when its answer was lost."""
        server_id = self._lease.server_id
        now = time.monotonic()
        if now < self._check_at or server_id is None:
            return
        self._check_at = now + _CHECK_EVERY_S
        running = set(self._store.running_at(server_id))
        with self._changed:
            unknown = running - self._executing.keys() - self._unrecorded.keys()
        # One that is just being taken up has its answer by the next look, or has lost it.
        for run_id in unknown & self._unknown:
            self._store.requeue(run_id, server_id)
        self._unknown = unknown

    def _may_start(self) -> bool:
        is_place = len(self._executing) + self._reserved < self._config.workers
        return is_place and self._takes_up()

    def _takes_up(self) -> bool:
        """Whether runs may start here, if there is a place."""
        return not self._is_stopping and self._lease.may_start()

    def _start_one(self) -> bool:
        """Start the run whose turn it is, and return whether there was one."""
        server_id = self._lease.server_id
        if server_id is None:
            return False
        claim = self._store.claim(server_id, self._config.concurrency)
        return claim is not None and self.start_claimed(claim, server_id)

    def start_claimed(self, claim: ClaimedRun, server_id: str) -> bool:
        """Have a run executed that was taken up, for which there is a place.

        Args:
            claim: The run.
            server_id: This server.

        Returns:
            Whether it executes; otherwise it is queued again.
        """
        run = claim.run
        execution = self._execution_of(run, server_id)
        with self._changed:
            self._executing[run.run_id] = execution
            self._lease.set_executing(True)
        # That took longer than there was time, or the server stops.
        if not self._takes_up():
            self._put_back(execution)
            return False
        report = self._recorder.open(run.run_id, server_id, after=claim.event_id)
        try:
            future = self._executor.submit(run.run_id, run.request, report)
        except RuntimeError:  # the interpreter is about to end, and waits for those that execute
            self._is_stopping = True
            self._put_back(execution)
            return False
        future.add_done_callback(self._on_end(execution))
        return True

    def _put_back(self, execution: _Execution) -> None:
        self._forget(execution)
        self._recorder.close(execution.run_id)
        self._store.requeue(execution.run_id, execution.server_id)

    def _execution_of(self, run: Run, server_id: str) -> _Execution:
        now = time.monotonic()
        timeout_s = timeout_of(self._config, run.request.pipelines)
        return _Execution(
            run=run,
            server_id=server_id,
            started_at=now,
            ends_at=None if timeout_s is None else now + timeout_s,
            timeout_s=timeout_s,
        )

    def _on_end(self, execution: _Execution) -> Callable[[Future[RunOutcome]], None]:
        def record_and_go_on(future: Future[RunOutcome]) -> None:
            fault = future.exception()
            if fault is not None:
                logger.error("Run %s could not be executed", execution.run_id, exc_info=fault)
                outcome = _failure_of_the_server(execution, fault)
            else:
                outcome = future.result()
            # Whoever has had the place takes up the next: another thread would have to be woken.
            with self._told_of_faults():
                self._record(execution, outcome, goes_on=True)
                if self._may_be_queued:
                    self._start_all()

        return record_and_go_on

    def _record(self, execution: _Execution, outcome: RunOutcome, *, goes_on: bool = False) -> bool:
        """Store how a run ended, or keep it in mind where that cannot be done now.

        Args:
            execution: The run.
            outcome: How it ended.
            goes_on: Whether its place is for the next run, if one is queued.

        Returns:
            Whether it is stored.
        """
        run_id = execution.run_id
        is_stored, ended, claim = self._finish(execution, outcome, claims=goes_on)
        with self._changed:
            if is_stored:
                self._unrecorded.pop(run_id, None)
            elif run_id not in self._unrecorded:
                self._unrecorded[run_id] = _Unrecorded(
                    execution=execution, outcome=outcome, since=time.monotonic()
                )
            self._reserved += claim is not None
        self._forget(execution)
        if is_stored:
            self._waiters.wake(run_id, ended=ended)
        if claim is not None:
            try:
                self.start_claimed(claim, execution.server_id)
            finally:
                self._release()
        return is_stored

    def _finish(
        self, execution: _Execution, outcome: RunOutcome, *, claims: bool
    ) -> tuple[bool, Run | None, ClaimedRun | None]:
        """Store how a run ended, and which is the next.

        Returns:
            Whether it is stored; the run, if that is its end; and the run that is taken up for
            its place.
        """
        run_id, server_id = execution.run_id, execution.server_id
        told = self._recorder.drain(run_id, server_id)
        claim = None
        # With PostgreSQL, the end would have to wait for other servers that take up runs.
        is_known = self._lease.server_id == server_id
        claims = claims and is_known and self._store.is_local
        try:
            # Together they take less than one after the other.
            with self._store.together() if claims else nullcontext():
                ended = self._store.finish(execution.run, outcome, told)
                if claims and self._may_be_queued and self._takes_up():
                    claim = self._claim_next(server_id)
            if ended is None:
                ended = self._end_of_gone(execution, outcome)
        except Exception as error:  # the slot must be free again, and the run have its end
            self._recorder.restore(run_id, told)
            if isinstance(error, StoreUnavailableError):
                self._lease.record_failure(error)
            else:
                logger.exception("The end of run %s could not be stored", run_id)
            return False, None, None
        self._recorder.close(run_id)
        return True, ended, claim

    def _end_of_gone(self, execution: _Execution, outcome: RunOutcome) -> Run | None:
        """Return a run as it ended whose row is gone; None where it has another end there."""
        run_id = execution.run_id
        if self._store.get(run_id) is not None:
            logger.warning("Run %s has another end in the store", run_id)
            return None
        logger.error(
            "Run %s has ended (%s), and its row is gone: the database was replaced meanwhile",
            run_id,
            outcome.status,
        )
        return replace(
            execution.run,
            status=outcome.status,
            duration_ms=outcome.duration_ms,
            error=outcome.error,
            finished_at=datetime.now(timezone.utc),
        )

    def _claim_next(self, server_id: str) -> ClaimedRun | None:
        self._may_be_queued = False  # as in `_start_all`
        try:
            claim = self._store.claim(server_id, self._config.concurrency)
        except StoreUnavailableError:
            raise
        except Exception:  # whatever is wrong with the next run, this one has ended
            logger.exception("A queued run could not be started")
            return None
        self._may_be_queued = self._may_be_queued or claim is not None
        return claim

    def _forget(self, execution: _Execution) -> None:
        with self._changed:
            self._executing.pop(execution.run_id, None)
            self._lease.set_executing(bool(self._executing))
            self._changed.notify_all()
        if self._config.concurrency:  # which run had to wait for this one's end, the store knows
            self._wake.set()

    def record_again(self) -> None:
        """Try again to store the ends that could not be stored."""
        with self._changed:
            unrecorded = list(self._unrecorded.values())
        can_store = True
        for each in unrecorded:
            # Where one cannot be stored, nor could the others, and each would take seconds.
            can_store = can_store and self._record(each.execution, each.outcome)
            if not can_store and time.monotonic() - each.since > _UNRECORDABLE_WAIT_S:
                self._waiters.wake(each.execution.run_id, is_unrecordable=True)

    @property
    def in_hand(self) -> set[str]:
        """The runs that execute here, or whose end is not stored yet."""
        with self._changed:
            return {*self._executing, *self._unrecorded}

    def has_unrecorded(self) -> bool:
        """Whether there are ends that could not be stored."""
        with self._changed:
            return bool(self._unrecorded)

    def stop_overdue(self) -> None:
        """Ask the runs to stop that have taken longer than they may."""
        now = time.monotonic()
        with self._changed:
            executing = list(self._executing.values())
        for each in executing:
            if each.ends_at is not None and now >= each.ends_at:
                message = f"The run took longer than {each.timeout_s:g} s (setting run_timeout_s)."
                self._executor.stop(each.run_id, StopReason.TIMEOUT, message)

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; one that does not execute here is left alone."""
        self._executor.stop(run_id, StopReason.CANCEL, "The run was cancelled.")

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every run that executes here, or is to, has ended, and its end is stored.

        Args:
            timeout_s: How many seconds to wait at most.

        Returns:
            Whether it came to that.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._executing or self._reserved or self._unrecorded), timeout_s
            )

    def give_up(self) -> list[str]:
        """Record that the server stopped before the runs ended that still execute.

        Returns:
            Their ids.
        """
        with self._changed:
            executing = list(self._executing.values())
        for each in executing:
            if not self._record(each, _stopped(each)):
                break  # nor could the others be stored, and each would take seconds
        return [each.run_id for each in executing]


def _since(execution: _Execution) -> float:
    return round((time.monotonic() - execution.started_at) * 1000, 2)


def _stopped(execution: _Execution) -> RunOutcome:
    error = ErrorDetail(
        type="ServerStopped", message="The server stopped, and the run had not ended."
    )
    return RunOutcome(status=RunStatus.FAILURE, duration_ms=_since(execution), error=error)


def _failure_of_the_server(execution: _Execution, fault: BaseException) -> RunOutcome:
    error = ErrorDetail(
        type=type(fault).__qualname__, message="The server could not execute the run."
    )
    return RunOutcome(status=RunStatus.FAILURE, duration_ms=_since(execution), error=error)
