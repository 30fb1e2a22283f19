"""New runs: stored once for each key, started at once where a slot is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import KeyInUseError, ServerBusyError, UnknownRunError
from kedro_flask_server.model.data_access import Locks
from kedro_flask_server.model.run import ANONYMOUS, Run, RunRequest, RunStatus, Submitter
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.runs.admission import Admission
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import AddedRun, ClaimedRun, NewRun
from tests.runs.fakes import HERE, FakeStore, a_run

ALICE = Submitter(name="alice")
LONG_S = 10.0


class FakeDispatcher:
    """Has a slot where the test says so, and takes down what it is asked to do."""

    def __init__(self) -> None:
        self.is_free = False
        self.can_start = True
        self.holds_slot = False
        self.wakes = 0
        self.executed: list[str] = []
        self.held_while_executed = False

    @contextmanager
    def slot(self) -> Iterator[bool]:
        self.holds_slot = self.is_free
        try:
            yield self.is_free
        finally:
            self.holds_slot = False

    def execute(self, claimed: ClaimedRun, server_id: str) -> bool:
        self.executed.append(claimed.run.run_id)
        self.held_while_executed = self.holds_slot
        return self.can_start

    def wake(self) -> None:
        self.wakes += 1


class FakePlanner:
    """Knows no locks, or those that the test gives it."""

    def __init__(self) -> None:
        self.locks: Locks | None = None
        self.planned_anew: Locks | None = None

    def plan(
        self, request: RunRequest, *, must_be_whole: bool = True, anew: bool = False
    ) -> Locks | None:
        return self.planned_anew if anew else self.locks


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def dispatcher() -> FakeDispatcher:
    return FakeDispatcher()


@pytest.fixture
def admit(store: FakeStore, dispatcher: FakeDispatcher) -> Callable[..., Run]:
    return admitting(store, dispatcher)


def admitting(store: FakeStore, dispatcher: FakeDispatcher) -> Callable[..., Run]:
    """Return what admits a run, by default without a key, of nobody in particular."""
    config = ServerConfig(project_path=Path(), workers=3, max_queued=7, idempotency_hours=5)
    admission, waiters = (
        Admission(store, dispatcher, FakePlanner(), config, ids=RunIds()),
        Waiters(),
    )

    def admit_one(**given: object) -> Run:
        with waiters.waiter() as waiter:
            options = {name: given.pop(name) for name in ("waiter", "is_held") if name in given}
            options = {"waiter": waiter, "is_held": False} | options
            submission = Submission(**({"request": RunRequest()} | given))
            return admission.admit(submission, server_id=HERE, **options)

    return admit_one


def stored(store: FakeStore, run: Run) -> AddedRun:
    store.runs[run.run_id] = run
    return AddedRun(run=run)


def claimed(new: NewRun, run_id: str) -> AddedRun:
    run = a_run(run_id, RunStatus.RUNNING, request=new.request)
    return AddedRun(run=run, claimed=ClaimedRun(run=run, event_id=2))


def test_run_is_stored_with_the_limits_of_the_settings(store, dispatcher, admit) -> None:
    admit(key=None, submitter=ALICE, is_held=True)
    [new] = store.new_runs.added
    assert (new.submitter, new.server_id, new.is_held) == (ALICE, HERE, True)
    assert (new.workers, new.max_queued, new.key_hours) == (3, 7, 5)
    assert new.may_start is False


def test_run_that_is_queued_wakes_the_dispatcher(dispatcher, admit) -> None:
    assert admit().status is RunStatus.QUEUED
    assert (dispatcher.wakes, dispatcher.executed) == (1, [])


def test_run_that_is_claimed_starts_while_its_slot_is_reserved(store, dispatcher, admit) -> None:
    dispatcher.is_free = True
    store.new_runs.add_one = claimed
    run = admit()
    assert store.new_runs.added[0].may_start is True
    assert dispatcher.executed == [run.run_id]
    assert dispatcher.held_while_executed is True
    assert (dispatcher.holds_slot, dispatcher.wakes) == (False, 0)


def test_run_that_is_claimed_and_cannot_start_is_told_as_it_is_stored(
    store, dispatcher, admit
) -> None:
    dispatcher.is_free, dispatcher.can_start = True, False

    def add_one(new: NewRun, run_id: str) -> AddedRun:
        stored(store, a_run(run_id, RunStatus.QUEUED))
        return claimed(new, run_id)

    store.new_runs.add_one = add_one
    assert admit().status is RunStatus.QUEUED


def test_request_waits_for_its_run_before_that_is_stored(store, dispatcher) -> None:
    waiters, attached = Waiters(), []

    def add_one(new: NewRun, run_id: str) -> AddedRun:
        attached.append(waiters.run_ids == {run_id})
        return AddedRun(run=a_run(run_id, RunStatus.QUEUED))

    store.new_runs.add_one = add_one
    admission = Admission(
        store, dispatcher, FakePlanner(), ServerConfig(project_path=Path()), ids=RunIds()
    )
    with waiters.waiter() as waiter:
        submission = Submission(request=RunRequest())
        admission.admit(submission, server_id=HERE, waiter=waiter, is_held=False)
    assert attached == [True]


def test_slot_is_free_again_when_a_run_is_refused(store, dispatcher, admit) -> None:
    dispatcher.is_free = True

    def refuse(new: NewRun, run_id: str) -> AddedRun:
        raise ServerBusyError("a slot", limit=1, setting="max_queued")

    store.new_runs.add_one = refuse
    with pytest.raises(ServerBusyError):
        admit()
    assert dispatcher.holds_slot is False


def test_run_that_was_sent_before_is_told_as_it_is_by_now(store, admit) -> None:
    before = a_run("before", RunStatus.QUEUED)

    def add_one(new: NewRun, run_id: str) -> AddedRun:
        stored(store, replace(before, status=RunStatus.SUCCESS))
        return AddedRun(run=replace(before, is_replay=True))

    store.new_runs.add_one = add_one
    run = admit(key="k")
    assert (run.run_id, run.status, run.is_replay) == ("before", RunStatus.SUCCESS, True)


def test_run_that_was_sent_before_and_is_gone_by_now_is_unknown(store, admit) -> None:
    store.new_runs.add_one = lambda *_: AddedRun(run=a_run("before", RunStatus.QUEUED))
    with pytest.raises(UnknownRunError):
        admit(key="k")


class SlowStore(FakeStore):
    """Stores the first run of a key when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_end = threading.Event(), threading.Event()
        self.fault: Exception | None = None
        self.new_runs.add_one = self.add_slowly

    def add_slowly(self, new: NewRun, run_id: str) -> AddedRun:
        self.new_runs.add_one = lambda _, run_id: stored(self, a_run(run_id, RunStatus.QUEUED))
        self.began.set()
        assert self.may_end.wait(LONG_S)
        if self.fault is not None:
            raise self.fault
        return stored(self, a_run(run_id, RunStatus.QUEUED))


@contextmanager
def first_in_progress(store: SlowStore, admit: Callable[..., Run]) -> Iterator[list[object]]:
    """Have a run with the key "k" be taken in, within; afterwards, yield what became of it."""
    results: list[object] = []

    def admit_first() -> None:
        try:
            results.append(admit(key="k", submitter=ALICE))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=admit_first)
    thread.start()
    try:
        assert store.began.wait(LONG_S)
        yield results
    finally:
        store.may_end.set()
        thread.join(LONG_S)


@pytest.fixture
def slow(dispatcher: FakeDispatcher) -> tuple[SlowStore, Callable[..., Run]]:
    store = SlowStore()
    return store, admitting(store, dispatcher)


def test_key_is_refused_until_its_first_request_is_stored(slow) -> None:
    store, admit = slow
    with first_in_progress(store, admit) as results, pytest.raises(KeyInUseError):
        admit(key="k", submitter=ALICE)
    assert isinstance(results[0], Run)
    assert isinstance(admit(key="k", submitter=ALICE), Run)


def test_key_is_let_through_when_the_store_has_it_already(slow) -> None:
    store, admit = slow
    store.keys.add(("alice", "k"))
    with first_in_progress(store, admit):
        assert isinstance(admit(key="k", submitter=ALICE), Run)
        store.keys.clear()  # the first is still at work, and the key its own
        with pytest.raises(KeyInUseError):
            admit(key="k", submitter=ALICE)


def test_key_is_its_submitters_alone(slow) -> None:
    store, admit = slow
    with first_in_progress(store, admit):
        assert isinstance(admit(key="k", submitter=ANONYMOUS), Run)
        assert isinstance(admit(key="other", submitter=ALICE), Run)


def test_key_is_free_again_when_its_first_request_fails(slow) -> None:
    store, admit = slow
    store.fault = ServerBusyError("a slot", limit=1, setting="max_queued")
    with first_in_progress(store, admit) as results:
        pass
    assert results == [store.fault]
    assert isinstance(admit(key="k", submitter=ALICE), Run)
