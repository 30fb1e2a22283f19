"""What a worker says of a run, true or not, and how the run has ended after it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.executors.supervised_run import SupervisedRun
from kedro_flask_server.model.data_access import Lock, Locks
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.provenance import Provenance
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import Progress, RunOutcome, RunRequest, RunStatus, StopReason
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.protocol import Message
from tests.clocks import Clock

NOW = 1_700_000_000.0
MANY = 1_000
ENDED: Message = ("ended", {"code": 0})
STARTED: Message = ("started", {})


@dataclass
class Look:
    """What there is to be read of a worker at one look."""

    reports: list[Message] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    printed: bytes = b""


class FakeWorker:
    """A worker that says what the test says, and then ends without a word, or hangs."""

    def __init__(self, clock: Clock, looks: list[Look], *, hangs: bool = False) -> None:
        self._clock = clock
        self._looks = iter(looks)
        self._look: Look | None = None
        self._hangs = hangs
        self._waits = 0
        self.channel = self.reports = self
        self.orders: list[Message] = []
        self.template = object()
        self.has_template = True
        self.end = "so did its template."
        self.has_printed = False
        self.has_ended = False

    def send(self, kind: str, body: dict[str, Any]) -> None:
        self.orders.append((kind, json.loads(json.dumps(body))))

    def wait(self, seconds: float) -> bool:
        self._waits += 1
        assert self._waits < MANY, "the run is followed on and on"
        self._look = next(self._looks, None)
        if self._look is None:
            self._clock.advance(seconds)
            return not self._hangs or not self.has_template
        self.has_printed = bool(self._look.printed)
        return True

    def messages(self) -> list[Message]:
        if self._look is None and not (self._hangs and self.has_template):
            raise EOFError
        return self._look.messages if self._look else []

    def read(self) -> list[Message]:
        look, reports = self._look, [] if self._look is None else self._look.reports
        if look is not None:
            look.reports = []
        return reports

    def read_output(self) -> bytes:
        look, printed = self._look, b"" if self._look is None else self._look.printed
        if look is not None:
            look.printed = b""
        return printed


class Supervised:
    """A run that a worker executes, and what comes of it."""

    def __init__(self, *, max_log_bytes: int = 100_000, data: RunData | None = None) -> None:
        self.clock = Clock()
        self.report = RunReport(after=2, max_log_bytes=max_log_bytes)
        self.data = data or RunData()
        self.request = RunRequest(tags=["x"], params={"a": 1, "model": {"lr": 0.1}})
        self.run = SupervisedRun(
            "r1", self.request, self.report, self.data, str.upper, clock=self.clock
        )
        self.killed: list[object] = []

    def follow(self, *looks: Look, hangs: bool = False, has_ended: bool = False) -> FakeWorker:
        """Have a worker execute it; one that hangs ends with its template."""
        worker = FakeWorker(self.clock, [*looks], hangs=hangs)
        worker.has_ended = has_ended

        def kill(template: object) -> None:
            self.killed.append(template)
            worker.has_template = False

        self.run.follow(worker, kill)
        return worker

    def tell(self, *reports: Message) -> None:
        """Have a worker tell something, and end."""
        self.follow(Look(reports=[*reports], messages=[ENDED]))

    @property
    def log(self) -> list[tuple[str, str | None]]:
        """What the log has by now: messages, and their nodes."""
        return [
            (event.data["message"], event.data.get("node"))
            for event in self.report.drain()
            if event.type == EventType.LOG
        ]


@pytest.fixture
def supervised() -> Supervised:
    return Supervised()


@pytest.fixture
def secrets() -> Iterator[None]:
    yield
    SECRETS.forget(before=math.inf)


def outcome(**changes: Any) -> Message:
    body = {
        "status": "success",
        "duration_ms": 12.5,
        "error": None,
        "error_bases": [],
        "is_loaded": True,
        "has_read_anew": False,
        "imported": None,
        "unwritten": 0,
        "is_last": True,
    }
    return "outcome", body | changes


def event(kind: str, **data: Any) -> Message:
    return "event", {"type": kind, "time": NOW, "data": data}


def log(*messages: str, **changes: Any) -> Message:
    said = {"level": "INFO", "logger": "probe", "node": None, "time": NOW}
    return "log", {**said, "messages": [*messages]} | changes


ERROR = {"type": "ValueError", "message": "no", "node": "n", "traceback": "t"}


def test_worker_is_told_what_to_run(supervised: Supervised) -> None:
    worker = supervised.follow(Look(messages=[ENDED]))
    request = {"tags": ["x"], "params": {"a": 1, "model": {"lr": 0.1}}}
    order = {"run_id": "r1", "request": request, "max_log_bytes": 100_000}
    order |= {"is_checked": False, "digest": None, "skips_failed_versions": False}
    order |= {"folder": None, "tells_failures_alone": False}
    assert worker.orders == [("run", order)]
    assert supervised.run.param_names == ["a", "model.lr"]


def test_run_ends_as_its_worker_says(supervised: Supervised) -> None:
    supervised.tell(STARTED, outcome(status="failure", error=ERROR))
    ended = supervised.run.outcome()
    assert (ended.status, ended.duration_ms) == (RunStatus.FAILURE, 12.5)
    assert ended.error is not None
    assert (ended.error.type, ended.error.node, ended.error.traceback) == ("ValueError", "n", "t")
    assert supervised.run.has_started


def test_worker_that_goes_on_may_have_another_run(supervised: Supervised) -> None:
    supervised.follow(Look(reports=[outcome(is_last=False)]), Look())  # it is read no further
    assert supervised.run.may_be_followed_by_another
    assert supervised.run.outcome().status is RunStatus.SUCCESS


def test_what_a_run_has_imported_and_read_is_told(supervised: Supervised) -> None:
    imported = {"early": ["a"], "late": ["b"], "has_set": True}
    supervised.tell(outcome(imported=imported, has_read_anew=True, is_loaded=False))
    assert supervised.run.imported == Imported(early=["a"], late=["b"], has_set=True)
    assert (supervised.run.has_read_anew, supervised.run.is_loaded) == (True, False)


@pytest.mark.parametrize(
    ("told", "how"),
    [
        ({"code": 3}, "exit code 3."),
        ({"code": -9}, "signal 9 (SIGKILL), as the kernel does where memory runs out."),
        ({"reason": "it would not start."}, "it would not start."),
        ({}, "how is not known."),
    ],
)
def test_worker_that_ends_without_an_outcome_has_crashed(
    supervised: Supervised, told: dict[str, Any], how: str
) -> None:
    supervised.follow(Look(reports=[event("node.started", node="n")], messages=[("ended", told)]))
    ended = supervised.run.outcome()
    assert ended.status is RunStatus.FAILURE
    assert ended.error is not None
    assert (ended.error.type, ended.error.node) == ("WorkerCrashed", "n")
    assert ended.error.message == f"The worker process of the run ended: {how}"


def test_worker_whose_channel_ends_has_ended_as_its_handle_says(supervised: Supervised) -> None:
    supervised.follow(Look(reports=[STARTED]))
    ended = supervised.run.outcome()
    assert ended.error is not None
    assert "so did its template." in ended.error.message


def test_run_that_says_it_was_cancelled_and_was_not_has_crashed(supervised: Supervised) -> None:
    supervised.tell(outcome(status="cancelled"))
    ended = supervised.run.outcome()
    assert ended.status is RunStatus.FAILURE
    assert ended.error is not None
    assert "SIGTERM" in ended.error.message


@pytest.mark.parametrize(
    ("reason", "told", "status", "error"),
    [
        (StopReason.CANCEL, "cancelled", RunStatus.CANCELLED, "RunCancelled"),
        (StopReason.CANCEL, "failure", RunStatus.CANCELLED, "RunCancelled"),
        (StopReason.CANCEL, "success", RunStatus.SUCCESS, None),
        (StopReason.SHUTDOWN, "success", RunStatus.SUCCESS, None),
        (StopReason.SHUTDOWN, "cancelled", RunStatus.FAILURE, "ServerStopped"),
        (StopReason.TIMEOUT, "success", RunStatus.FAILURE, "RunTimeout"),
        (StopReason.TIMEOUT, None, RunStatus.FAILURE, "RunTimeout"),
    ],
)
def test_run_that_was_told_to_stop_has_stopped_unless_it_was_done(
    supervised: Supervised,
    reason: StopReason,
    told: str | None,
    status: RunStatus,
    error: str | None,
) -> None:
    supervised.run.stop.ask(reason, "stop")
    supervised.tell(*([] if told is None else [outcome(status=told)]))
    ended = supervised.run.outcome()
    assert (ended.status, ended.error and ended.error.type) == (status, error)


def test_events_come_with_their_time_and_the_nodes_are_counted(supervised: Supervised) -> None:
    supervised.tell(
        ("expect", {"nodes": 3}),
        event("node.started", node="n"),
        event("node.finished", node="n"),
    )
    assert supervised.report.progress == Progress(done=1, total=3)
    started, finished = supervised.report.drain()
    assert (started.id, started.type, started.time.timestamp()) == (3, "node.started", NOW)
    assert finished.data == {"node": "n", "done": 1, "total": 3}


def test_records_are_logged_with_their_node(supervised: Supervised) -> None:
    supervised.tell(log("first", "second", node="n"), log("third"))
    assert supervised.log == [("first", "n"), ("second", "n"), ("third", None)]


def test_what_a_worker_has_left_out_is_counted_once_for_each_process() -> None:
    supervised = Supervised()
    left_out = [
        ("left_out", {"lines": 1, "bytes": 10, "by": 7}),
        ("left_out", {"lines": 2, "bytes": 30, "by": 7}),
        ("left_out", {"lines": 5, "bytes": 100, "by": 8}),
    ]
    supervised.tell(*left_out)
    supervised.report.end()
    *_, (last, _) = supervised.log
    assert "7 lines (130 bytes)" in last


def test_secrets_are_learnt_before_what_comes_after_them(
    supervised: Supervised, secrets: None
) -> None:
    supervised.tell(("secrets", {"values": ["hunter2-hunter2"]}))
    assert SECRETS.redact("a hunter2-hunter2 b") == "a <redacted> b"


def test_output_is_logged_by_whole_lines_and_made_safe(supervised: Supervised) -> None:
    supervised.follow(Look(printed=b"one\ntw"), Look(printed=b"o\nthree"), Look(messages=[ENDED]))
    assert supervised.log == [("ONE", None), ("TWO", None), ("THREE", None)]


def test_output_is_of_the_node_that_was_at_work_all_the_time(supervised: Supervised) -> None:
    supervised.follow(
        Look(reports=[event("node.started", node="n")], printed=b"unsure\n"),
        Look(),
        Look(printed=b"sure\n"),
        Look(reports=[event("node.finished", node="n")], printed=b"unsure\n"),
        Look(messages=[ENDED]),
    )
    assert supervised.log == [("UNSURE", None), ("SURE", "n"), ("UNSURE", None)]


def test_output_for_which_the_log_has_no_room_is_counted() -> None:
    supervised = Supervised(max_log_bytes=100)
    supervised.follow(
        Look(printed=b"x" * 200 + b"\n"), Look(printed=b"a\nb\n"), Look(messages=[ENDED])
    )
    supervised.report.end()
    *_, (last, _) = supervised.log
    assert "3 lines (204 bytes) are not kept" in last


def test_output_that_was_not_read_in_time_is_told_to_the_operator(
    supervised: Supervised, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    supervised.tell(outcome(unwritten=4))
    assert "4 lines of output of run r1 were dropped" in caplog.text


GARBAGE: list[Message] = [
    ("unknown", {}),
    ("ended?", {"code": 0}),
    *(
        (kind, body)
        for kind in (
            *("event", "log", "left_out", "secrets", "expect", "outcome", "provenance", "link"),
        )
        for body in ({}, {"type": []}, {"values": 1, "nodes": None, "messages": 3, "lines": "x"})
    ),
    ("event", {"type": "node.started", "time": NOW, "data": 1}),
    ("event", {"type": "node.started", "time": 1e300, "data": {}}),
    ("event", {"type": "node.started", "time": "noon", "data": {}}),
    ("event", {"type": "no.such", "time": NOW, "data": {}}),
    ("event", {"type": "run.finished", "time": NOW, "data": {"status": "success"}}),
    ("event", {"type": "log", "time": NOW, "data": {"message": "x"}}),
    log("x", time=math.nan),
    log("x", messages=None),
    ("left_out", {"lines": math.inf, "bytes": 1, "by": 1}),
    ("left_out", {"lines": 1, "bytes": 1, "by": {}}),
    ("expect", {"nodes": math.nan}),
    ("expect", {"nodes": -1}),
    ("expect", {"nodes": 10**30}),
    ("link", {"title": "x", "url": "javascript:alert(1)"}),
    ("provenance", Provenance().dump() | {"datasets": {"x": 1}}),
    outcome(status="fine"),
    outcome(status="running"),
    outcome(status="queued"),
    outcome(status="lost"),
    outcome(duration_ms="long"),
    outcome(duration_ms=math.nan),
    outcome(duration_ms=math.inf),
    outcome(error=[1]),
    outcome(error={"type": "x"}),
    outcome(error={**ERROR, "more": 1}),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_the_channel_of_a_worker_changes_nothing(
    supervised: Supervised, garbage: Message
) -> None:
    supervised.follow(
        Look(reports=[garbage], messages=[garbage]),
        Look(reports=[outcome()], messages=[ENDED]),
    )
    assert supervised.run.outcome() == RunOutcome(status=RunStatus.SUCCESS, duration_ms=12.5)
    assert supervised.report.progress is None
    supervised.report.end()
    assert supervised.report.drain() == []
    assert supervised.report.drain_provenance() is None


def test_what_a_run_is_made_of_comes_with_its_links(supervised: Supervised) -> None:
    made_of = Provenance(nodes=("a",), machine="m")
    link = ("link", {"title": "t", "url": "https://x.example"})
    base = ("provenance", Provenance(machine="other").dump())
    supervised.tell(link, ("provenance", made_of.dump()), base, outcome())
    expected = replace(made_of, links={"t": "https://x.example"})
    assert supervised.report.drain_provenance() == expected
    assert supervised.report.drain_provenance() is None


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_no_outcome(supervised: Supervised, garbage: Message) -> None:
    supervised.tell(garbage)
    ended = supervised.run.outcome()
    assert ended.error is not None
    assert (ended.status, ended.error.type) == (RunStatus.FAILURE, "WorkerCrashed")


def acquiring(*, is_free: bool) -> tuple[Supervised, list[Locks]]:
    """Return a run that asks for locks, and what it has asked for."""
    asked: list[Locks] = []

    def acquire(locks: Locks) -> bool:
        asked.append(locks)
        return is_free

    supervised = Supervised(data=RunData(acquire=acquire))
    return supervised, asked


ACQUIRE: Message = ("acquire", {"digest": "d", "locks": [[5, "W", "model"]]})


def test_run_that_asks_for_locks_is_answered_and_goes_on() -> None:
    supervised, asked = acquiring(is_free=True)
    worker = supervised.follow(
        Look(reports=[STARTED, ACQUIRE]), Look(reports=[outcome()], messages=[ENDED])
    )
    assert asked == [Locks("d", (Lock(5, "W", "model"),))]
    assert worker.orders[1:] == [("answer", {"is_acquired": True})]
    assert supervised.run.outcome().status is RunStatus.SUCCESS


def test_run_that_another_is_in_the_way_of_is_queued_again() -> None:
    supervised, _ = acquiring(is_free=False)
    worker = supervised.follow(
        Look(reports=[STARTED, ACQUIRE]),
        Look(reports=[outcome(status="queued")], messages=[ENDED]),
    )
    assert worker.orders[1:] == [("answer", {"is_acquired": False})]
    assert supervised.run.outcome().status is RunStatus.QUEUED


def test_worker_is_told_that_the_store_is_away() -> None:
    def fail() -> list[str]:
        raise StoreUnavailableError("no route")

    supervised = Supervised(data=RunData(executing=fail))
    worker = supervised.follow(Look(reports=[("executing", {})], messages=[ENDED]))
    [(kind, body)] = worker.orders[1:]
    assert kind == "answer"
    assert "no route" in body["error"]


@pytest.mark.parametrize(
    "garbage",
    [("acquire", {}), ("acquire", {"locks": [[1]]}), ("statuses", {"versions": 1}), ("warn", {})],
)
def test_question_that_is_garbage_has_no_answer(supervised: Supervised, garbage: Message) -> None:
    worker = supervised.follow(Look(reports=[garbage], messages=[ENDED]))
    assert len(worker.orders) == 1


def test_template_that_does_not_report_an_end_in_time_is_killed(supervised: Supervised) -> None:
    worker = supervised.follow(Look(reports=[outcome()]), hangs=True)
    assert supervised.killed == [worker.template]
    assert 3_000 < supervised.run.duration_ms < 4_000
    assert supervised.run.outcome().status is RunStatus.SUCCESS


def test_worker_that_has_ended_and_of_which_nothing_is_said_ends_its_run(
    supervised: Supervised,
) -> None:
    worker = supervised.follow(hangs=True, has_ended=True)
    assert supervised.killed == [worker.template]
    assert 3_000 < supervised.run.duration_ms < 5_000
    assert supervised.run.outcome().status is RunStatus.FAILURE


def test_run_that_takes_long_is_waited_for(supervised: Supervised) -> None:
    class Slow(FakeWorker):
        def wait(self, seconds: float) -> bool:
            super().wait(seconds)
            self._clock.advance(10)
            return False

    worker = Slow(supervised.clock, [*(Look() for _ in range(99)), Look(messages=[ENDED])])
    supervised.run.follow(worker, supervised.killed.append)
    assert supervised.killed == []
    assert supervised.run.duration_ms == 1_000_000


def test_worker_that_is_gone_before_it_has_its_order_leaves_the_run_to_another(
    supervised: Supervised,
) -> None:
    class Gone(FakeWorker):
        def send(self, kind: str, body: dict[str, Any]) -> None:
            raise BrokenPipeError

    supervised.run.follow(Gone(supervised.clock, []), supervised.killed.append)
    assert not supervised.run.has_started
    supervised.tell(STARTED, outcome())
    assert supervised.run.outcome().status is RunStatus.SUCCESS
