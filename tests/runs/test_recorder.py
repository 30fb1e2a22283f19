"""The events of runs: stored in batches, in order, none twice and none lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import Progress
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import PendingEvents
from tests.runs.fakes import HERE, FakeEvents, FakeStore

LONG_S = 10.0
AWAY = StoreUnavailableError("the disk is full")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def events(store: FakeStore) -> FakeEvents:
    return store.events


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


@pytest.fixture
def recorder(store: FakeStore, waiters: Waiters) -> Iterator[Recorder]:
    made = Recorder(store, waiters, max_log_bytes=1_000)
    yield made
    made.stop()


def emit(report: RunReport) -> None:
    report.emit(EventType.NODE_FINISHED, {"node": "n"})


def ids(pending: PendingEvents) -> list[int]:
    return [event.id for event in pending.events]


def was_asked(events: FakeEvents) -> bool:
    return events.asked.acquire(timeout=LONG_S)


def test_events_are_stored_while_the_run_executes_and_who_waits_is_woken(
    recorder, events, waiters
) -> None:
    recorder.start()
    report = recorder.open("r1", HERE, after=2)
    report.expect(4)
    with waiters.waiter("r1") as waiter:
        emit(report)
        assert waiter.wait(LONG_S) is True
    [batch] = events.batches
    stored = batch["r1"]
    assert (ids(stored), stored.server_id, stored.last_id) == ([3], HERE, 3)
    assert stored.progress == Progress(done=1, total=4)


def test_run_that_begins_and_one_that_ends_wake_who_waits(recorder, waiters) -> None:
    with waiters.waiter("r1") as waiter:
        recorder.open("r1", HERE, after=2)
        assert waiter.wait(0) is True
        recorder.close("r1")
        assert waiter.wait(0) is True


def test_runs_that_tell_nothing_are_in_no_batch(recorder, events) -> None:
    recorder.start()
    quiet, loud = (recorder.open(run_id, HERE, after=2) for run_id in ("quiet", "loud"))
    emit(loud)
    assert was_asked(events)
    assert [*events.batches[0]] == ["loud"]
    assert quiet.drain() == []


def test_what_is_pending_is_stored_with_the_end(recorder) -> None:
    report = recorder.open("r1", HERE, after=2)
    emit(report)
    pending = recorder.drain("r1", HERE)
    assert (ids(pending), pending.last_id, pending.server_id) == ([3], 3, HERE)


def test_log_that_was_cut_is_marked_at_the_end(recorder) -> None:
    report = recorder.open("r1", HERE, after=2)
    report.log("INFO", "probe", "x" * 2_000)
    [*_, last] = recorder.drain("r1", HERE).events
    assert "1 lines (2,000 bytes) are not kept" in last.data["message"]


def test_run_that_is_not_known_has_nothing_pending(recorder) -> None:
    pending = recorder.drain("r1", HERE)
    assert (pending.events, pending.server_id) == ([], HERE)
    recorder.restore("r1", pending)
    recorder.close("r1")


def test_what_comes_while_the_end_is_stored_is_not_stored_before_it(recorder, events) -> None:
    ending, other = (recorder.open(run_id, HERE, after=2) for run_id in ("r1", "r2"))
    recorder.drain("r1", HERE)
    emit(ending)
    emit(other)
    recorder.start()
    assert was_asked(events)
    assert [*events.batches[0]] == ["r2"]
    recorder.close("r1")


def test_end_waits_for_the_batch_that_is_being_stored(recorder, events) -> None:
    is_drained, drained = threading.Event(), []

    def drain() -> None:
        drained.append(recorder.drain("r1", HERE))
        is_drained.set()

    ending = threading.Thread(target=drain)

    def add_while_the_run_ends() -> None:
        emit(report)
        ending.start()
        assert not is_drained.wait(0.1)

    events.on_add, events.fault = add_while_the_run_ends, AWAY
    report = recorder.open("r1", HERE, after=2)
    emit(report)
    recorder.start()
    assert is_drained.wait(LONG_S)
    ending.join(LONG_S)
    assert ids(drained[0]) == [3, 4]  # what could not be stored before is among it
    recorder.close("r1")


def test_events_of_an_end_that_could_not_be_stored_are_stored_again(recorder, events) -> None:
    report = recorder.open("r1", HERE, after=2)
    emit(report)
    pending = recorder.drain("r1", HERE)
    recorder.restore("r1", pending)
    emit(report)
    recorder.start()
    assert was_asked(events)
    assert events.ids_of("r1") == [3, 4]


def test_events_that_cannot_be_stored_now_are_stored_later_in_their_order(recorder, events) -> None:
    events.fault = AWAY
    recorder.start()
    report = recorder.open("r1", HERE, after=2)
    emit(report)
    assert was_asked(events)
    emit(report)
    assert was_asked(events)
    assert events.batches == []
    events.fault = None
    while not events.batches:
        assert was_asked(events)
    assert events.ids_of("r1") == [3, 4]


def test_events_that_can_never_be_stored_do_not_keep_the_others_from_it(
    recorder, events, caplog: pytest.LogCaptureFixture
) -> None:
    events.fault = ValueError("a bug")
    recorder.start()
    report = recorder.open("r1", HERE, after=2)
    emit(report)
    assert was_asked(events)
    events.fault = None
    emit(report)
    assert was_asked(events)
    assert events.ids_of("r1") == [4]
    assert "Events of the runs r1 are lost" in caplog.text


def test_what_comes_after_the_end_is_dropped(recorder) -> None:
    report = recorder.open("r1", HERE, after=2)
    recorder.close("r1")
    emit(report)
    assert report.drain() == []


def test_stop_stores_what_is_pending(recorder, events) -> None:
    recorder.start()
    emit(recorder.open("r1", HERE, after=2))
    recorder.stop()
    assert not recorder.is_alive()
    assert events.ids_of("r1") == [3]


def test_stop_ends_a_recorder_that_sleeps(recorder) -> None:
    recorder.start()
    assert recorder.is_alive()
    recorder.stop()
    assert not recorder.is_alive()
