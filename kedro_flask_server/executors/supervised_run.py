"""A run that a worker process executes, and its reports."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from kedro_flask_server.errors import TryAgainError
from kedro_flask_server.model.data_access import Lock, Locks
from kedro_flask_server.model.data_exchange import Output
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.provenance import Provenance, checked_link
from kedro_flask_server.model.report import NODE_EVENTS, RunReport
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, RunStatus, StopReason
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.text import PrintedLines, bounded, shown_line
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    TemplateHandle,
    WorkerHandle,
    how_it_ended,
)
from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.protocol import Message

logger = logging.getLogger(__name__)

_OUTCOMES = ("success", "failure", "cancelled")

_MAX_WARNING_CHARS = 1_000

READ_EVERY_S = 0.1
"""How often to read reports of a run: a wake-up per report costs more than the report."""

PATIENCE_S = 3.0
"""How late a template may report the end of a process before it is killed, in seconds."""


def learn_secrets(body: dict[str, Any]) -> None:
    """Record secrets that a worker has found."""
    is_certain = bool(body.get("is_certain", True))
    SECRETS.learn([str(value) for value in body["values"]], is_certain=is_certain)


def crashed_worker(message: str, node: str | None = None) -> ErrorDetail:
    """Return the error of a run whose worker process has ended."""
    return ErrorDetail(type="WorkerCrashed", message=message, node=node)


class SupervisedRun:
    """A run that a worker executes, and the worker's reports."""

    def __init__(
        self,
        run_id: str,
        request: RunRequest,
        report: RunReport,
        data: RunData,
        safe: Callable[[str], str],
        *,
        stop: StopRequest | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `follow` gives the run to a worker.

        Args:
            run_id: The run's id.
            request: What to run.
            report: Records its events and its log.
            data: Answers what it asks about its data.
            safe: Returns text that may be stored and shown.
            stop: Whether it must stop.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self.stop = stop or StopRequest()
        self.lock = threading.Lock()
        self.worker: WorkerHandle | None = None
        self.ends_at: float | None = None
        self.has_started = False
        self.was_executed = False
        self.may_be_followed_by_another = False
        self.is_loaded = False
        self.has_read_anew = False
        self.imported: Imported | None = None
        self._run_id = run_id
        self._request = request
        self._report = report
        self._data = data
        self._safe = safe
        self._clock = clock
        self._started_at = self._clock()
        # How many events of nodes there were at the last two looks.
        self._node_events = 0
        self._looks = (0, 0)
        self._reported: RunOutcome | None = None
        self._end = ""
        self._is_over = False
        self._printed = PrintedLines()
        self._questions: list[Message] = []
        self._is_postponed = False

    @property
    def duration_ms(self) -> float:
        """How long it has taken, in milliseconds."""
        return round((self._clock() - self._started_at) * 1000, 2)

    @property
    def param_names(self) -> list[str]:
        """The names of its parameters."""
        return self._request.param_names

    def follow(
        self,
        worker: WorkerHandle,
        kill_template: Callable[[TemplateHandle], None],
        *,
        look: Callable[[], float] = lambda: READ_EVERY_S,
    ) -> None:
        """Give the run to a worker, and handle its reports until the run is over.

        Args:
            worker: The worker.
            kill_template: Kills its template, if that is late with reporting the end.
            look: Called again and again; returns after how many seconds at the latest.
        """
        self._is_over = False
        timeout, look_at = SuspensionAwareTimeout(PATIENCE_S, clock=self._clock), 0.0
        try:
            worker.channel.send("run", self._order())
            while not self._is_over:
                is_quiet = not worker.wait(min(look(), READ_EVERY_S))
                printed = worker.read_output() if worker.has_printed else b""
                messages = worker.messages()
                # Reports first: they precede the end, and may announce secrets.
                self._handle_all(worker.reports.read(), printed)
                self._answer_all(worker)
                for message in messages:
                    self._handle(message)
                is_late = self.ends_at is not None and self._clock() > self.ends_at
                if is_quiet and self._clock() > look_at:
                    look_at = self._clock() + (0 if worker.has_ended else LOOK_EVERY_S)
                    is_late = is_late or worker.has_ended
                if timeout.is_over(is_late) and not self._is_over:
                    kill_template(worker.template)
        except (OSError, EOFError):
            self._end = worker.end
        printed = worker.read_output()
        self._handle_all(worker.reports.read(), printed)
        with suppress(OSError):
            self._answer_all(worker)  # a warning has none
        self._log_output(self._printed.end())

    def _order(self) -> dict[str, Any]:
        return {
            "run_id": self._run_id,
            "request": self._request.given(),
            "max_log_bytes": self._report.max_log_bytes,
            "is_checked": self._data.is_checked,
            "digest": self._data.digest,
            "skips_failed_versions": self._data.skips_failed_versions,
            "folder": self._data.folder,
            "tells_failures_alone": self._data.tells_failures_alone,
        }

    def _handle_all(self, messages: list[Message], printed: bytes) -> None:
        for message in messages:
            self._handle(message)
        self._handle_output(printed)
        self._looks = (self._looks[1], self._node_events)

    def _handle(self, message: Message) -> None:
        kind, body = message
        try:
            if kind == "started":
                self.has_started = True
            elif kind == "event" and str(body["type"]).startswith(("node.", "dataset.")):
                self._handle_event(EventType(body["type"]), body)
            elif kind == "log":
                self._handle_records(body)
            elif kind == "left_out":
                lines, size = int(body["lines"]), int(body["bytes"])
                self._report.drop(lines, size, by=int(body["by"]))
            elif kind in ("provenance", "link", "output"):
                self._describe(kind, body)
            elif kind == "secrets":
                learn_secrets(body)
            elif kind in ("acquire", "executing", "statuses", "warn"):
                self._questions.append(message)
            elif kind == "expect" and 0 <= int(body["nodes"]) < 2**31:
                self._report.expect(int(body["nodes"]))
            elif kind == "outcome" and self._is_outcome(body["status"]):
                self._handle_outcome(body)
            elif kind == "ended":
                self._end = how_it_ended(body)
                self._is_over = True
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return  # not from this package: a run's code can write to its channel, too

    def _describe(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "provenance":
            self._report.describe(Provenance.load(body))
        elif kind == "link":
            self._report.link(*checked_link(str(body["title"]), str(body["url"])))
        else:
            self._report.put_output(str(body["dataset"]), Output.load(body["output"]))

    def _is_outcome(self, status: str) -> bool:
        # A run that has begun cannot ask to be executed again.
        return status in _OUTCOMES or (status == RunStatus.QUEUED and self._is_postponed)

    def _answer_all(self, worker: WorkerHandle) -> None:
        """Answer what the run has asked about its data; it waits for that before its nodes."""
        questions, self._questions = self._questions, []
        for kind, body in questions:
            try:
                answer = self._answer_to(kind, body)
            except (KeyError, TypeError, ValueError):
                continue  # not from this package, as above
            except TryAgainError as error:
                answer = {"error": str(error)}
            if answer is not None:
                worker.channel.send("answer", answer)

    def _answer_to(self, kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if kind == "warn":
            self._data.warn(bounded(str(body["text"]), _MAX_WARNING_CHARS))
            return None
        if kind == "executing":
            return {"run_ids": [*self._data.executing()]}
        if kind == "statuses":
            versions = [str(each) for each in body["versions"]]
            return {"statuses": dict(self._data.statuses(versions))}
        each = tuple(Lock(int(at), str(mode), str(name)) for at, mode, name in body["locks"])
        is_acquired = self._data.acquire(Locks(str(body["digest"]), each))
        self._is_postponed = not is_acquired
        return {"is_acquired": is_acquired}

    def _handle_event(self, kind: EventType, body: dict[str, Any]) -> None:
        self._node_events += kind in NODE_EVENTS
        self._report.emit(kind, dict(body["data"]), time=_time(body))

    def _handle_records(self, body: dict[str, Any]) -> None:
        level, logger, node = str(body["level"]), str(body["logger"]), body["node"]
        node, time = None if node is None else str(node), _time(body)
        for message in body["messages"]:
            self._report.log(level, logger, str(message), time=time, node=node)

    def _handle_outcome(self, body: dict[str, Any]) -> None:
        error = body["error"]
        self._reported = RunOutcome(
            status=RunStatus(body["status"]),
            duration_ms=round(float(body["duration_ms"]) * 100) / 100,  # NaN is no outcome
            error=None if error is None else ErrorDetail(**error),
            error_bases=tuple(map(str, body["error_bases"])),
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
        # The last report of a worker that ends is its end, when nothing is left of it.
        self.may_be_followed_by_another = not body["is_last"]
        self._is_over = self.may_be_followed_by_another
        if body["is_last"] and self.ends_at is None:
            self.ends_at = self._clock()

    def _handle_output(self, data: bytes) -> None:
        if self._report.is_full:  # a program's endless output costs next to nothing
            self._printed = PrintedLines()
            if data:
                self._report.drop(data.count(b"\n"), len(data))
        elif data:
            self._log_output(self._printed.feed(data))

    def _log_output(self, lines: list[bytes | bytearray]) -> None:
        # The time of writing is not known: at some time since the read before the last one.
        is_sure = self._looks == (self._node_events, self._node_events)
        node = self._report.only_node if is_sure else None
        self._report.log_output((shown_line(line, self._safe) for line in lines), node=node)

    def outcome(self) -> RunOutcome:
        """Return the outcome of the run."""
        reported, reason = self._reported, self.stop.reason
        has_succeeded = reported is not None and reported.status is RunStatus.SUCCESS
        if reason is not None and not (has_succeeded and reason is not StopReason.TIMEOUT):
            return self.stop.outcome(self.duration_ms)
        if reported is None:
            return self.crashed(f"The worker process of the run ended: {self._end}")
        if reported.status is RunStatus.CANCELLED:
            return self.crashed("The worker process of the run was told to end by SIGTERM.")
        return reported

    def crashed(self, message: str) -> RunOutcome:
        """Return the outcome of a run whose process ended."""
        return RunOutcome(
            status=RunStatus.FAILURE,
            duration_ms=self.duration_ms,
            error=crashed_worker(message, self._report.only_node),
        )


def _imported(body: dict[str, Any] | None) -> Imported | None:
    if body is None:
        return None
    early, late = ([str(name) for name in body[key]] for key in ("early", "late"))
    return Imported(early=early, late=late, has_set=bool(body["has_set"]))


def _time(body: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(body["time"], timezone.utc)
