"""How long a request waits for a run, and what ends the wait."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from kedro_flask_server.errors import RunGoneError, UnknownRunError
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.runs.client_waits import ClientWaits, is_never, monotonic_end
from kedro_flask_server.runs.executions import Executions
from tests.clocks import Clock
from tests.runs.fakes import FakeLease, FakeStore, a_run, an_execution

QUEUED, RUNNING = a_run(status=RunStatus.QUEUED), a_run(status=RunStatus.RUNNING)
ENDED = a_run(status=RunStatus.SUCCESS)
NEVER = float("inf")


@dataclass
class FakeLifecycle:
    """Whether the server stops."""

    is_stopping: bool = False
    is_stopped: bool = False


class ScriptedWaiter:
    """A waiter to which the test's steps happen, one at each wait; each says if it is news."""

    def __init__(self, clock: Clock, *steps: Callable[[ScriptedWaiter], bool]) -> None:
        self._clock = clock
        self._steps = iter(steps)
        self.ended: Run | None = None
        self.is_unrecordable = False
        self.waits = 0

    def wait(self, timeout_s: float) -> bool:
        self.waits += 1
        assert self.waits < 100, "it waits on and on"
        has_news = next(self._steps, lambda _: False)(self)
        if not has_news:
            self._clock.advance(timeout_s)
        return has_news


@dataclass
class Parts:
    """What waits, with the parts around it."""

    clock: Clock = field(default_factory=Clock)
    store: FakeStore = field(default_factory=FakeStore)
    lifecycle: FakeLifecycle = field(default_factory=FakeLifecycle)

    def __post_init__(self) -> None:
        self.executions = Executions(1, FakeLease())
        self.waiting = ClientWaits(
            self.store, self.executions, self.lifecycle, slots=2, clock=self.clock
        )

    def wait(
        self,
        run: Run,
        *steps: Callable[[ScriptedWaiter], bool],
        timeout_s: float = NEVER,
        is_gone: Callable[[], bool] = is_never,
    ) -> Run:
        self.waiter = ScriptedWaiter(self.clock, *steps)
        return self.waiting.wait(run, self.waiter, self.clock.now + timeout_s, is_gone)


@pytest.fixture
def parts() -> Parts:
    return Parts()


def stores(parts: Parts, run: Run) -> Callable[[ScriptedWaiter], bool]:
    """Return the step that a run is stored, which is news."""

    def step(_: ScriptedWaiter) -> bool:
        parts.store.runs[run.run_id] = run
        return True

    return step


def test_run_that_has_ended_is_waited_for_no_more(parts: Parts) -> None:
    assert parts.wait(ENDED) is ENDED
    assert parts.waiter.waits == 0


def test_wait_ends_with_the_run_that_has_ended_here(parts: Parts) -> None:
    def end(waiter: ScriptedWaiter) -> bool:
        waiter.ended = ENDED
        return True

    assert parts.wait(RUNNING, end) is ENDED  # the store, which does not have it, is not asked


def test_wait_goes_on_while_the_news_is_no_end(parts: Parts) -> None:
    assert parts.wait(QUEUED, stores(parts, RUNNING), stores(parts, ENDED)) is ENDED
    assert parts.waiter.waits == 2


def test_wait_ends_when_its_time_is_over_with_what_the_store_has_then(parts: Parts) -> None:
    parts.store.runs["r1"] = RUNNING
    began_at = parts.clock.now
    assert parts.wait(QUEUED, timeout_s=1.0) is RUNNING
    assert parts.clock.now - began_at == pytest.approx(1.0)


def test_wait_without_time_ends_at_once(parts: Parts) -> None:
    assert parts.wait(QUEUED, timeout_s=0) is QUEUED
    assert parts.waiter.waits == 0


def test_wait_ends_when_the_client_is_gone(parts: Parts) -> None:
    answers = iter([False, False, True])
    began_at = parts.clock.now
    assert parts.wait(RUNNING, is_gone=lambda: next(answers)) is RUNNING
    assert parts.waiter.waits == 2
    assert parts.clock.now - began_at < 1  # it is looked for more than once in a second


def test_wait_ends_when_the_end_cannot_be_stored(parts: Parts) -> None:
    parts.store.runs["r1"] = RUNNING

    def tell(waiter: ScriptedWaiter) -> bool:
        waiter.is_unrecordable = True
        return True

    assert parts.wait(RUNNING, tell) is RUNNING


def test_server_that_stops_lets_go_of_what_is_queued_and_not_of_what_runs(parts: Parts) -> None:
    parts.lifecycle.is_stopping = True
    assert parts.wait(QUEUED) is QUEUED
    assert parts.waiter.waits == 0
    assert parts.wait(RUNNING, stores(parts, ENDED)) is ENDED


def test_server_that_has_stopped_lets_go_of_all(parts: Parts) -> None:
    parts.lifecycle.is_stopped = True
    assert parts.wait(RUNNING) is RUNNING
    assert parts.waiter.waits == 0


def test_run_that_executes_here_is_waited_for_though_its_row_is_gone(parts: Parts) -> None:
    parts.executions.add(an_execution("r1"))

    def end(waiter: ScriptedWaiter) -> bool:
        waiter.ended = ENDED
        return True

    assert parts.wait(RUNNING, lambda _: True, end) is ENDED


def test_run_whose_row_is_gone_and_that_has_just_ended_here_is_told(parts: Parts) -> None:
    def end(waiter: ScriptedWaiter) -> bool:
        waiter.ended = ENDED
        return True

    # News; then it is in hand no more, and the end is about to be told.
    assert parts.wait(RUNNING, lambda _: True, end) is ENDED


def test_run_that_is_gone_is_unknown_or_gone_to_who_has_sent_it(parts: Parts) -> None:
    with pytest.raises(UnknownRunError):
        parts.wait(RUNNING, lambda _: True)
    waiter = ScriptedWaiter(parts.clock, lambda _: True)
    with pytest.raises(RunGoneError, match="r1"):
        parts.waiting.wait_for_admitted(RUNNING, waiter, NEVER, is_never)


def test_no_more_may_wait_than_there_are_slots_of_each_kind(parts: Parts) -> None:
    waiting = parts.waiting
    for slot, other in (
        (waiting.submitter_slot, waiting.watcher_slot),
        (waiting.watcher_slot, waiting.submitter_slot),
    ):
        with ExitStack() as taken:
            assert [taken.enter_context(slot()) for _ in range(3)] == [True, True, False]
            assert taken.enter_context(other()) is True
        with slot() as is_free:
            assert is_free is True


def test_slot_is_free_again_when_a_wait_fails(parts: Parts) -> None:
    def fail() -> None:
        with parts.waiting.submitter_slot() as is_free:
            assert is_free is True
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()


def test_no_time_limit_is_never_over() -> None:
    assert monotonic_end(None) == NEVER
    assert monotonic_end(5) < NEVER
