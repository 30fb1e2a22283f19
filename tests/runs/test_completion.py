"""The ends of runs: stored at once, or kept until they can be."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunStatus
from kedro_flask_server.runs.completion import Completion
from kedro_flask_server.runs.executions import Execution, Executions
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.waiters import Waiters
from tests.clocks import Clock
from tests.runs.fakes import HERE, SUCCESS, FakeLease, FakeStore, a_run, an_execution

AWAY = StoreUnavailableError("the disk is full")


@dataclass
class Parts:
    """A completion with the parts around it."""

    store: FakeStore = field(default_factory=FakeStore)
    lease: FakeLease = field(default_factory=FakeLease)
    waiters: Waiters = field(default_factory=Waiters)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.executions = Executions(1, self.lease, clock=self.clock)
        self.recorder = Recorder(self.store, Waiters(), max_log_bytes=1_000)
        self.completion = Completion(
            self.store, self.executions, self.lease, self.recorder, self.waiters, clock=self.clock
        )

    def start(self, run_id: str = "r1", *, is_stored: bool = True) -> Execution:
        """Have a run execute, which has told one event."""
        execution = an_execution(run_id)
        if is_stored:
            self.store.runs[run_id] = execution.run
        self.executions.add(execution)
        report = self.recorder.open(run_id, HERE, after=2)
        report.emit(EventType.NODE_STARTED, {"node": "n"})
        return execution


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_end_is_stored_with_the_events_that_were_not(parts: Parts) -> None:
    assert parts.completion.record(parts.start(), SUCCESS) is True
    [(run_id, outcome, pending)] = parts.store.finished
    assert (run_id, outcome, pending.server_id) == ("r1", SUCCESS, HERE)
    assert [event.id for event in pending.events] == [3]


def test_end_frees_the_slot_and_tells_who_waits(parts: Parts) -> None:
    execution = parts.start()
    with parts.waiters.waiter("r1") as waiter:
        parts.completion.record(execution, SUCCESS)
        assert waiter.ended is parts.store.runs["r1"]
    assert parts.executions.in_hand == set()
    assert parts.executions.has_free_slot()


def test_what_a_run_tells_after_its_end_is_dropped(parts: Parts) -> None:
    execution = parts.start()
    report = parts.recorder.open("r1", HERE, after=2)
    parts.completion.record(execution, SUCCESS)
    report.emit(EventType.NODE_STARTED, {"node": "late"})
    assert report.drain() == []


@pytest.mark.parametrize("fault", [AWAY, ValueError("a bug")])
def test_end_that_cannot_be_stored_is_kept_with_its_events_and_frees_the_slot(
    parts: Parts, fault: Exception
) -> None:
    execution = parts.start()
    parts.store.fault = fault
    with parts.waiters.waiter("r1") as waiter:
        assert parts.completion.record(execution, SUCCESS) is False
        assert waiter.wait(0) is False
    assert (parts.executions.in_hand, parts.executions.executing_ids) == ({"r1"}, set())
    assert parts.executions.has_free_slot()
    parts.store.fault = None
    parts.completion.retry()
    [(_, _, pending)] = parts.store.finished
    assert [event.id for event in pending.events] == [3]
    assert parts.executions.in_hand == set()


def test_store_that_is_away_is_recorded_and_another_fault_logged(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    execution = parts.start()
    parts.store.fault = AWAY
    parts.completion.record(execution, SUCCESS)
    assert (parts.lease.failures, caplog.text) == ([AWAY.reason], "")
    parts.store.fault = ValueError("a bug")
    parts.completion.record(execution, SUCCESS)
    assert parts.lease.failures == [AWAY.reason]
    assert "The end of run r1 could not be stored" in caplog.text


def test_who_waits_is_told_the_end_of_a_run_whose_row_is_gone(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    execution = parts.start(is_stored=False)
    error = ErrorDetail(type="ValueError", message="no")
    outcome = RunOutcome(status=RunStatus.FAILURE, duration_ms=7.0, error=error)
    with parts.waiters.waiter("r1") as waiter:
        assert parts.completion.record(execution, outcome) is True
        ended = waiter.ended
    assert ended is not None
    assert (ended.run_id, ended.status, ended.error) == ("r1", RunStatus.FAILURE, error)
    assert (ended.duration_ms, ended.finished_at is None) == (7.0, False)
    assert "its row is gone" in caplog.text


def test_who_waits_looks_again_where_the_store_has_another_end(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    execution = parts.start()
    parts.store.runs["r1"] = a_run(status=RunStatus.LOST)
    parts.store.has_other_end = True
    with parts.waiters.waiter("r1") as waiter:
        assert parts.completion.record(execution, SUCCESS) is True
        assert (waiter.wait(0), waiter.ended) == (True, None)
    assert "another end" in caplog.text
    assert parts.executions.in_hand == set()


def keep(parts: Parts, *run_ids: str) -> None:
    """Have runs end whose ends cannot be stored."""
    for run_id in run_ids:
        execution = parts.start(run_id)
        parts.store.fault = AWAY
        parts.completion.record(execution, SUCCESS)


def test_retry_stores_all_ends_that_were_kept(parts: Parts) -> None:
    keep(parts, "r1", "r2")
    parts.store.fault = None
    parts.completion.retry()
    assert [run_id for run_id, _, _ in parts.store.finished] == ["r1", "r2"]


def test_retry_tries_no_more_ends_when_one_cannot_be_stored(parts: Parts) -> None:
    keep(parts, "r1", "r2", "r3")
    attempts = parts.store.attempts
    parts.completion.retry()
    assert parts.store.attempts == attempts + 1


def test_who_waits_for_an_end_that_cannot_be_stored_is_told_after_three_seconds(
    parts: Parts,
) -> None:
    keep(parts, "r1", "r2")
    with parts.waiters.waiter("r1") as first, parts.waiters.waiter("r2") as second:
        parts.clock.advance(3)
        parts.completion.retry()
        assert (first.is_unrecordable, second.is_unrecordable) == (False, False)
        parts.clock.advance(0.1)
        parts.completion.retry()
        assert (first.is_unrecordable, second.is_unrecordable) == (True, True)
