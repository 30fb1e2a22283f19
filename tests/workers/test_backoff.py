"""How long the pool pauses between workers that fail."""

from __future__ import annotations

import pytest

from kedro_flask_server.workers.backoff import FIRST_PAUSE_S, Backoff
from tests.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backoff(clock: Clock) -> Backoff:
    return Backoff(clock=clock)


def test_there_is_no_pause_before_the_first_failure(backoff: Backoff) -> None:
    assert (backoff.failures, backoff.pause_s) == (0, 0)


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_half_a_minute(
    backoff: Backoff, clock: Clock
) -> None:
    pauses = []
    for _ in range(10):
        assert backoff.fail("no") is True
        pauses.append(backoff.pause_s)
        clock.advance(backoff.pause_s)
        assert backoff.pause_s == 0
    expected = [min(30.0, FIRST_PAUSE_S * 2**number) for number in range(10)]
    assert pauses == pytest.approx(expected)
    assert pauses[-1] == pytest.approx(30)


def test_failures_within_a_pause_belong_to_the_one_before(backoff: Backoff, clock: Clock) -> None:
    backoff.fail("first")
    clock.advance(FIRST_PAUSE_S / 2)
    assert backoff.fail("second") is False
    assert (backoff.failures, backoff.last_failure) == (1, "second")
    assert backoff.pause_s == pytest.approx(FIRST_PAUSE_S / 2)


def test_success_has_the_next_pause_be_short_again(backoff: Backoff, clock: Clock) -> None:
    for _ in range(5):
        backoff.fail("no")
        clock.advance(60)
    backoff.succeed()
    assert backoff.failures == 0
    backoff.fail("no")
    assert backoff.pause_s == pytest.approx(FIRST_PAUSE_S)
