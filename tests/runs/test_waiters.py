"""What wakes a request that waits, and what does not."""

from __future__ import annotations

import threading

import pytest

from kedro_flask_server.runs.waiters import Waiters
from tests.runs.fakes import a_run

NOW_S = 0.0
LONG_S = 10.0


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


def test_waiter_is_woken_by_news_of_its_run_alone(waiters: Waiters) -> None:
    with waiters.waiter("r1") as waiter:
        waiters.wake("r2")
        assert waiter.wait(NOW_S) is False
        waiters.wake("r1")
        assert waiter.wait(NOW_S) is True


def test_news_is_told_once(waiters: Waiters) -> None:
    with waiters.waiter("r1") as waiter:
        waiters.wake("r1")
        waiters.wake("r1")
        assert [waiter.wait(NOW_S) for _ in range(2)] == [True, False]


def test_waiter_that_waits_already_is_woken(waiters: Waiters) -> None:
    with waiters.waiter("r1") as waiter:
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(waiter.wait(LONG_S)))
        waiting.start()
        waiters.wake("r1")
        waiting.join(LONG_S)
        assert found == [True]


def test_all_waiters_of_a_run_are_told_how_it_ended(waiters: Waiters) -> None:
    ended = a_run()
    with waiters.waiter("r1") as first, waiters.waiter("r1") as second:
        waiters.wake("r1", ended=ended)
        assert first.ended is second.ended is ended


def test_end_is_kept_when_there_is_more_news(waiters: Waiters) -> None:
    ended = a_run()
    with waiters.waiter("r1") as waiter:
        waiters.wake("r1", ended=ended)
        waiters.wake("r1")
        assert waiter.ended is ended


def test_end_that_cannot_be_stored_is_told_until_there_is_other_news(waiters: Waiters) -> None:
    with waiters.waiter("r1") as waiter:
        assert waiter.is_unrecordable is False
        waiters.wake("r1", is_unrecordable=True)
        assert waiter.is_unrecordable is True
        waiters.wake("r1")
        assert waiter.is_unrecordable is False


def test_waiter_waits_for_each_id_that_was_tried(waiters: Waiters) -> None:
    with waiters.waiter() as waiter:
        assert waiters.run_ids == set()
        waiter.attach("r1")
        waiter.attach("r2")
        assert waiters.run_ids == {"r1", "r2"}
        for run_id in ("r1", "r2"):
            waiters.wake(run_id)
            assert waiter.wait(NOW_S) is True
    assert waiters.run_ids == set()


def test_run_is_waited_for_until_the_last_waiter_has_left(waiters: Waiters) -> None:
    with waiters.waiter("r1") as first:
        with waiters.waiter("r1"):
            pass
        assert waiters.run_ids == {"r1"}
        waiters.wake("r1")
        assert first.wait(NOW_S) is True


def test_waiter_leaves_when_its_request_fails(waiters: Waiters) -> None:
    with pytest.raises(ZeroDivisionError), waiters.waiter("r1"):
        raise ZeroDivisionError
    assert waiters.run_ids == set()


def test_wake_all_wakes_the_waiters_of_every_run(waiters: Waiters) -> None:
    with waiters.waiter("r1") as first, waiters.waiter("r2") as second:
        waiters.wake_all()
        assert first.wait(NOW_S) is second.wait(NOW_S) is True
