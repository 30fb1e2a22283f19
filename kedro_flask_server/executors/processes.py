"""Runs in processes of their own, each supervised by a thread of the server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from kedro_flask_server.executors.threads import start_threads
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import NODE_EVENTS, RunReport
from kedro_flask_server.model.run import (
    ErrorDetail,
    RunOutcome,
    RunRequest,
    RunStatus,
    Snapshot,
    StopReason,
)
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.text import PrintedLines, shown_line
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    TemplateHandle,
    WorkerHandle,
    how_it_ended,
)
from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool
from kedro_flask_server.workers.protocol import Message

logger = logging.getLogger(__name__)

# How long a run gets to end itself that the end of the server cuts off.
_CUT_OFF_GRACE_S = 1.0

# As often is read what a run tells that goes on: to wake for each word costs more than the word.
_TOLD_EVERY_S = 0.1

# How long after a process should be over its template is given up, which should have said so.
_PATIENCE_S = 3.0


class ProcessExecutor:
    """Executes each run in a process that no other run shares, unless settings say otherwise."""

    def __init__(
        self,
        pool: WorkerPool,
        safe: Callable[[str], str],
        *,
        workers: int,
        cancel_grace_s: float,
    ) -> None:
        """Prepare; `start` starts threads and processes.

        Args:
            pool: The worker processes.
            safe: Returns text that may be kept and shown.
            workers: How many runs execute at a time.
            cancel_grace_s: How long a run that is to stop gets to end itself, in seconds.
        """
        self._workers = pool
        self._safe = safe
        self._slots = workers
        self._grace_s = cancel_grace_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kedro-run")
        self._executions: dict[str, _Execution] = {}
        self._inspecting = threading.Lock()
        self._inspector: WorkerHandle | None = None
        self._has_inspector = False

    def start(self) -> None:
        """Start the processes, and the threads that supervise them.

        Raises:
            ServerSettingsError: If the system gives no more threads.
        """
        start_threads(self._pool, self._slots)
        self._workers.start()

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Have a run executed, as for `Executor`."""
        execution = _Execution(run_id, request, report, self._safe)
        self._executions[run_id] = execution
        try:
            future = self._pool.submit(self._execute, execution)
        except RuntimeError:
            del self._executions[run_id]
            raise
        future.add_done_callback(lambda _: self._executions.pop(run_id))
        return future

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Have a run stop: asked by SIGTERM, and killed after the grace, with all it started."""
        self._stop(run_id, reason, message, self._grace_s)

    def _stop(self, run_id: str, reason: StopReason, message: str, grace_s: float) -> None:
        execution = self._executions.get(run_id)
        if execution is None:
            return
        if execution.stop.ask(reason, message) or grace_s < self._grace_s:
            with execution.lock:
                execution.ends_at = time.monotonic() + grace_s
                if execution.worker is not None:
                    self._workers.stop(execution.worker, grace_s)
            self._workers.wake()

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        """Describe the project, in a process that does nothing else."""
        with self._inspecting:
            if not self._has_inspector:
                self._has_inspector = True
                self._workers.resize(1)
            while True:
                if self._inspector and not self._workers.is_current(self._inspector):
                    self._workers.discard(self._inspector)
                    self._inspector = None
                try:
                    worker = self._inspector or self._workers.acquire(StopRequest())
                except NoWorkerError as error:
                    return _crashed(f"No worker process could be started. {error}")
                answer = worker and self._inspect(worker, params)
                if answer:  # otherwise it has died since it did the last one
                    return answer

    def _inspect(self, worker: WorkerHandle, params: str | None) -> Snapshot | ErrorDetail | None:
        """Return a snapshot; None where the worker has died before it began."""
        self._inspector = worker
        has_started = False
        patience = SuspensionAwareTimeout(_PATIENCE_S)
        try:
            worker.channel.send("snapshot", {"params": params})
            while True:
                worker.wait(LOOK_EVERY_S)
                worker.read_output()
                messages = worker.messages()
                for kind, body in [*worker.reports.read(), *messages]:
                    if kind == "snapshot":
                        return self._described(body)
                    if kind == "secrets":
                        _learn(body)
                    has_started = has_started or kind == "started"
                if patience.is_over(worker.has_ended):
                    self._workers.kill_template(worker.template)
        except (OSError, EOFError, ValueError):  # the last where the server ends, and has closed it
            has_started = has_started or any(kind == "started" for kind, _ in worker.reports.read())
            self._inspector = None
            self._workers.discard(worker)
            return (
                _crashed("The process that describes the project ended.") if has_started else None
            )

    def _described(self, body: dict[str, Any]) -> Snapshot | ErrorDetail:
        self._workers.record_findings(is_loaded=bool(body.get("is_loaded")))
        if "error" in body:
            return ErrorDetail(**body["error"])
        return Snapshot(
            content=body["snapshot"],
            fingerprint=body.get("fingerprint"),
            sources=tuple(body.get("sources", ())),
        )

    def renew_lease(self, seconds: float | None) -> None:
        """Have all processes end unless this is called again in time, as for `Executor`."""
        self._workers.renew_lease(seconds)

    def dead_threads(self) -> list[str]:
        """Return which threads have ended, as for `Executor`."""
        return [] if self._workers.is_alive() else ["kedro-workers"]

    def faults(self) -> dict[str, str]:
        """Return what is at fault, as for `Executor`."""
        return self._workers.faults()

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines, as for `Executor`."""
        return self._workers.pipelines

    def stop_accepting(self) -> None:
        """Take no more runs; those that execute go on to their end."""
        self._pool.shutdown(wait=False)

    def shutdown(self) -> None:
        """End all processes; a run that still executes has failed with ``ServerStopped``."""
        for run_id in [*self._executions]:
            message = "The server stopped, and the run had not ended."
            self._stop(run_id, StopReason.SHUTDOWN, message, _CUT_OFF_GRACE_S)
        self._pool.shutdown(wait=True)
        self._workers.close()
        if self._inspector:
            self._inspector.close()

    def _execute(self, execution: _Execution) -> RunOutcome:
        """Have a worker execute a run, and return when that is done, and nothing left of it."""
        try:
            while not execution.has_started:  # a worker may die before it has taken the run
                worker = self._workers.acquire(execution.stop)
                if worker is None:
                    return execution.stop.outcome(execution.duration_ms)
                self._execute_in(worker, execution)
        except NoWorkerError as error:
            return execution.crashed(f"No worker process could be started. {error}")
        self._workers.record_findings(
            is_loaded=execution.is_loaded,
            imported=execution.imported,
            read_with=execution.param_names if execution.has_read_anew else None,
        )
        return execution.outcome()

    def _execute_in(self, worker: WorkerHandle, execution: _Execution) -> None:
        with execution.lock:
            execution.worker = worker
            if execution.stop.reason is not None:  # who asked has not seen the worker
                self._workers.stop(worker, self._grace_s)
        try:
            execution.follow(worker, self._workers.kill_template)
        finally:
            with execution.lock:
                execution.worker = None
                # One that was told to stop may be about to.
                is_free = execution.may_be_followed_by_another and execution.stop.reason is None
            if is_free:
                self._workers.return_worker(worker)
            else:
                self._workers.discard(worker)


def _learn(body: dict[str, Any]) -> None:
    is_certain = bool(body.get("is_certain", True))
    SECRETS.learn([str(value) for value in body["values"]], is_certain=is_certain)


def _crashed(message: str, node: str | None = None) -> ErrorDetail:
    return ErrorDetail(type="WorkerCrashed", message=message, node=node)


class _Execution:
    """A run while a worker executes it, and what the worker says of it."""

    def __init__(
        self, run_id: str, request: RunRequest, report: RunReport, safe: Callable[[str], str]
    ) -> None:
        self.stop = StopRequest()
        self.lock = threading.Lock()
        self.worker: WorkerHandle | None = None
        self.ends_at: float | None = None
        self.has_started = False
        self.may_be_followed_by_another = False
        self.is_loaded = False
        self.has_read_anew = False
        self.imported: Imported | None = None
        self._run_id = run_id
        self._request = request
        self._report = report
        self._safe = safe
        self._started_at = time.monotonic()
        # How many events of nodes there were at the last two looks.
        self._node_events = 0
        self._looks = (0, 0)
        self._told: RunOutcome | None = None
        self._end = ""
        self._is_over = False
        self._printed = PrintedLines()

    @property
    def duration_ms(self) -> float:
        return round((time.monotonic() - self._started_at) * 1000, 2)

    @property
    def param_names(self) -> list[str]:
        return self._request.param_names

    def follow(self, worker: WorkerHandle, give_up: Callable[[TemplateHandle], None]) -> None:
        """Give the run to a worker, and take down what it says until the run is over.

        Args:
            worker: The worker.
            give_up: Ends its template, where that should have said that it ended, and has not.
        """
        self._is_over = False
        patience, look_at = SuspensionAwareTimeout(_PATIENCE_S), 0.0
        try:
            order = {"run_id": self._run_id, "request": self._request.given()}
            worker.channel.send("run", {**order, "max_log_bytes": self._report.max_log_bytes})
            while not self._is_over:
                is_quiet = not worker.wait(_TOLD_EVERY_S)
                printed = worker.read_output() if worker.has_printed else b""
                messages = worker.messages()
                # What was told first: it comes before the end, and may say what is secret.
                self._take_all(worker.reports.read(), printed)
                for message in messages:
                    self._take(message)
                is_late = self.ends_at is not None and time.monotonic() > self.ends_at
                if is_quiet and time.monotonic() > look_at:
                    look_at = time.monotonic() + LOOK_EVERY_S
                    is_late = is_late or worker.has_ended
                if patience.is_over(is_late) and not self._is_over:
                    give_up(worker.template)
        except (OSError, EOFError):
            self._end = worker.end
        printed = worker.read_output()
        self._take_all(worker.reports.read(), printed)
        self._log_output(self._printed.end())

    def _take_all(self, told: list[Message], printed: bytes) -> None:
        for message in told:
            self._take(message)
        self._take_output(printed)
        self._looks = (self._looks[1], self._node_events)

    def _take(self, message: Message) -> None:
        kind, body = message
        try:
            if kind == "started":
                self.has_started = True
            elif kind == "event":
                self._take_event(EventType(body["type"]), body)
            elif kind == "log":
                self._take_records(body)
            elif kind == "left_out":
                lines, size = int(body["lines"]), int(body["bytes"])
                self._report.drop(lines, size, by=int(body["by"]))
            elif kind == "secrets":
                _learn(body)
            elif kind == "expect":
                self._report.expect(int(body["nodes"]))
            elif kind == "outcome":
                self._take_outcome(body)
            elif kind == "ended":
                self._end = how_it_ended(body)
                self._is_over = True
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return  # nothing of ours: a run's code can write to its channel, too

    def _take_event(self, kind: EventType, body: dict[str, Any]) -> None:
        self._node_events += kind in NODE_EVENTS
        self._report.emit(kind, dict(body["data"]), time=_time(body))

    def _take_records(self, body: dict[str, Any]) -> None:
        level, logger, node = str(body["level"]), str(body["logger"]), body["node"]
        node, time = None if node is None else str(node), _time(body)
        for message in body["messages"]:
            self._report.log(level, logger, str(message), time=time, node=node)

    def _take_outcome(self, body: dict[str, Any]) -> None:
        error = body["error"]
        self._told = RunOutcome(
            status=RunStatus(body["status"]),
            duration_ms=float(body["duration_ms"]),
            error=None if error is None else ErrorDetail(**error),
        )
        self.is_loaded = bool(body["is_loaded"])
        self.has_read_anew = bool(body["has_read_anew"])
        self.imported = _imported(body["imported"])
        if int(body["unwritten"]):
            logger.warning(
                "%d lines of output of run %s were dropped: they were not read in time; its log "
                "has them",
                int(body["unwritten"]),
                self._run_id,
            )
        # A worker that ends says so by its end, and then nothing is left of it.
        self.may_be_followed_by_another = not body["is_last"]
        self._is_over = self.may_be_followed_by_another
        if body["is_last"] and self.ends_at is None:
            self.ends_at = time.monotonic()

    def _take_output(self, data: bytes) -> None:
        if self._report.is_full:  # what a program prints without end costs next to nothing
            self._printed = PrintedLines()
            if data:
                self._report.drop(data.count(b"\n"), len(data))
        elif data:
            self._log_output(self._printed.feed(data))

    def _log_output(self, lines: list[bytes | bytearray]) -> None:
        # When it was written, is not known: at some time since the look before the last one.
        is_sure = self._looks == (self._node_events, self._node_events)
        node = self._report.only_node if is_sure else None
        self._report.log_output((shown_line(line, self._safe) for line in lines), node=node)

    def outcome(self) -> RunOutcome:
        """Return how the run ended."""
        told, reason = self._told, self.stop.reason
        has_succeeded = told is not None and told.status is RunStatus.SUCCESS
        if reason is not None and not (has_succeeded and reason is not StopReason.TIMEOUT):
            return self.stop.outcome(self.duration_ms)
        if told is None:
            return self.crashed(f"The worker process of the run ended: {self._end}")
        if told.status is RunStatus.CANCELLED:
            return self.crashed("The worker process of the run was told to end by SIGTERM.")
        return told

    def crashed(self, message: str) -> RunOutcome:
        """Return how a run ended whose process did."""
        return RunOutcome(
            status=RunStatus.FAILURE,
            duration_ms=self.duration_ms,
            error=_crashed(message, self._report.only_node),
        )


def _imported(told: dict[str, Any] | None) -> Imported | None:
    if told is None:
        return None
    early, late = ([str(name) for name in told[key]] for key in ("early", "late"))
    return Imported(early=early, late=late, has_set=bool(told["has_set"]))


def _time(body: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(body["time"], timezone.utc)
