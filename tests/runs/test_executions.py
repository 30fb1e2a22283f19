"""The slots, and the runs that a server has in hand."""

from __future__ import annotations

import threading

import pytest

from kedro_flask_server.runs.executions import Executions
from tests.clocks import Clock
from tests.runs.fakes import SUCCESS, FakeLease, an_execution

LONG_S = 10.0


@pytest.fixture
def lease() -> FakeLease:
    return FakeLease()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def executions(lease: FakeLease, clock: Clock) -> Executions:
    return Executions(2, lease, clock=clock)


def test_no_more_slots_are_reserved_than_there_are(executions: Executions) -> None:
    assert [executions.reserve() for _ in range(3)] == [True, True, False]
    executions.release()
    assert executions.reserve() is True


def test_run_that_executes_takes_a_slot_until_it_is_removed(executions: Executions) -> None:
    executions.add(an_execution("r1"))
    assert [executions.reserve() for _ in range(2)] == [True, False]
    executions.remove("r1")
    assert executions.has_free_slot()


def test_slots_are_reserved_once_where_many_threads_try(lease: FakeLease) -> None:
    executions, start, got = Executions(5, lease), threading.Barrier(20), []

    def reserve() -> None:
        start.wait(LONG_S)
        got.append(executions.reserve())

    threads = [threading.Thread(target=reserve) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(LONG_S)
    assert got.count(True) == 5


def test_nothing_starts_without_a_lease(executions: Executions, lease: FakeLease) -> None:
    lease.is_valid = False
    assert not executions.may_start()
    assert executions.reserve() is False
    lease.is_valid = True
    assert executions.reserve() is True


def test_nothing_starts_in_a_server_that_stops(executions: Executions) -> None:
    executions.stop_starting()
    assert not executions.may_start()
    assert executions.reserve() is False


def test_lease_knows_whether_a_run_executes(executions: Executions, lease: FakeLease) -> None:
    executions.add(an_execution("r1"))
    executions.add(an_execution("r2"))
    executions.remove("r1")
    assert lease.executes[-1] is True
    executions.remove("r2")
    assert lease.executes[-1] is False


def test_end_that_is_not_stored_is_in_hand_and_takes_no_slot(executions: Executions) -> None:
    execution = an_execution("r1")
    executions.add(execution)
    executions.keep_unrecorded(execution, SUCCESS)
    executions.remove("r1")
    assert (executions.in_hand, executions.executing_ids) == ({"r1"}, set())
    assert [executions.reserve() for _ in range(3)] == [True, True, False]
    executions.drop_unrecorded("r1")
    assert executions.in_hand == set()


def test_end_that_fails_again_is_not_stored_since_the_first_time(
    executions: Executions, clock: Clock
) -> None:
    execution, first_at = an_execution("r1"), clock.now
    for _ in range(2):
        executions.keep_unrecorded(execution, SUCCESS)
        clock.advance(5)
    [end] = executions.unrecorded()
    assert (end.execution, end.outcome, end.since) == (execution, SUCCESS, first_at)


def test_server_is_idle_when_nothing_is_reserved_executes_or_is_not_stored(
    executions: Executions,
) -> None:
    assert executions.wait_until_idle(0) is True
    executions.reserve()
    assert executions.wait_until_idle(0) is False
    executions.release()
    execution = an_execution("r1")
    executions.add(execution)
    assert executions.wait_until_idle(0) is False
    executions.keep_unrecorded(execution, SUCCESS)
    executions.remove("r1")
    assert executions.wait_until_idle(0) is False
    executions.drop_unrecorded("r1")
    assert executions.wait_until_idle(0) is True


def test_who_waits_for_the_last_run_is_woken_by_its_end(executions: Executions) -> None:
    executions.add(an_execution("r1"))
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(executions.wait_until_idle(LONG_S)))
    waiting.start()
    executions.remove("r1")
    waiting.join(LONG_S / 2)
    assert found == [True]
