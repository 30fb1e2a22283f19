"""What holds a queued run, and what lets it go."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
from sqlalchemy import func, select, update

from kedro_flask_server.errors import DatasetConflictError
from kedro_flask_server.model.data_access import DataAccess, Locks
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.queue import Pool, QueueLimits, WaitReason
from kedro_flask_server.model.run import Run, RunFilter, RunRequest, RunStatus, Submitter
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.store import RunStore
from kedro_flask_server.store.schema import run_locks, runs, servers
from tests.store.conftest import HERE, SUCCESS, add, claim, finish, get, other_server

TRAIN, REPORT = (RunRequest(pipeline_names=[name]) for name in ("train", "report"))


def using(*, reads: str = "", writes: str = "") -> Locks:
    """Return the locks of a run that uses files, by their names."""
    return DataAccess(
        reads={name: f"file:///data/{name}" for name in reads.split()},
        writes={name: f"file:///data/{name}" for name in writes.split()},
    ).locks()


def add_using(store: RunStore, *, may_start: bool = False, **access: str) -> Run:
    return add(store, locks=using(**access), may_start=may_start)


def waits_for(store: RunStore, run: Run) -> tuple[str, str | None]:
    """Return why a run waits, and what by."""
    waiting = get(store, run.run_id).waiting_for
    assert waiting is not None
    what = waiting.run_id or waiting.pool or waiting.pipeline
    return str(waiting.reason), what


def reasons(store: RunStore, run: Run) -> list[dict]:
    """Return what the run's events say that it waited for."""
    page = store.event_page(run.run_id, after=0, limit=1000, kind=EventType.RUN_WAITING)
    assert page is not None
    return [dict(event.data) for event in page.events]


def count_locks(store: RunStore) -> int:
    with store._database.reading() as connection:
        return connection.execute(select(func.count()).select_from(run_locks)).scalar() or 0


def test_highest_priority_is_next_and_then_the_oldest(store: RunStore) -> None:
    low, first, second, high = (add(store, priority=each) for each in (-5, 0, 0, 7))
    assert [get(store, run.run_id).position for run in (high, first, second, low)] == [1, 2, 3, 4]
    assert [claim(store) for _ in range(4)] == [each.run_id for each in (high, first, second, low)]


def test_priority_comes_before_who_has_the_fewest_running(store: RunStore) -> None:
    alice, bob = Submitter(name="alice"), Submitter(name="bob")
    first, second = (add(store, submitter=alice, priority=1) for _ in range(2))
    his = add(store, submitter=bob)
    assert [claim(store) for _ in range(3)] == [first.run_id, second.run_id, his.run_id]


def test_run_that_waits_for_a_slot_says_so(store: RunStore) -> None:
    run = add(store)
    assert waits_for(store, run) == ("slot", None)
    claim(store)
    assert get(store, run.run_id).waiting_for is None
    assert reasons(store, run) == []


def test_writer_waits_for_readers_and_they_share(store: RunStore) -> None:
    readers = [add_using(store, reads="a b") for _ in range(2)]
    writer = add_using(store, writes="b")
    assert [claim(store) for _ in range(3)] == [*(each.run_id for each in readers), None]
    assert waits_for(store, writer) == ("dataset", readers[1].run_id)
    finish(store, readers[1].run_id, SUCCESS)
    assert claim(store) is None
    assert waits_for(store, writer) == ("dataset", readers[0].run_id)
    finish(store, readers[0].run_id, SUCCESS)
    assert claim(store) == writer.run_id
    assert reasons(store, writer) == [
        {"reason": "dataset", "dataset": "b", "run_id": readers[1].run_id},
        {"reason": "slot"},
        {"reason": "dataset", "dataset": "b", "run_id": readers[0].run_id},
        {"reason": "slot"},
    ]


def test_reader_does_not_overtake_a_writer_that_waits(store: RunStore) -> None:
    first, writer, last = (
        add_using(store, reads="a"),
        add_using(store, writes="a"),
        add_using(store, reads="a"),
    )
    assert claim(store) == first.run_id
    assert claim(store) is None
    assert waits_for(store, last) == ("dataset", writer.run_id)
    finish(store, first.run_id, SUCCESS)
    assert claim(store) == writer.run_id
    assert claim(store) is None
    finish(store, writer.run_id, SUCCESS)
    assert claim(store) == last.run_id


def test_run_of_a_higher_priority_goes_before_one_that_it_conflicts_with(store: RunStore) -> None:
    executing = add_using(store, writes="a")
    assert claim(store) == executing.run_id
    low = add(store, locks=using(writes="a"))
    high = add(store, locks=using(writes="a"), priority=5)
    finish(store, executing.run_id, SUCCESS)
    assert claim(store) == high.run_id
    assert claim(store) is None
    assert waits_for(store, low) == ("dataset", high.run_id)
    finish(store, high.run_id, SUCCESS)
    assert claim(store) == low.run_id


def test_end_lets_the_next_look_again_and_no_others(store: RunStore) -> None:
    chain = [add_using(store, writes="a") for _ in range(5)]
    assert claim(store) == chain[0].run_id
    finish(store, chain[0].run_id, SUCCESS)
    assert waits_for(store, chain[1]) == ("slot", None)
    assert [waits_for(store, each) for each in chain[2:]] == [
        ("dataset", before.run_id) for before in chain[1:-1]
    ]


def test_runs_that_use_nothing_in_common_start_together(store: RunStore) -> None:
    some = [add_using(store, reads="raw", writes=name) for name in "abc"]
    assert [claim(store) for _ in range(3)] == [each.run_id for each in some]


def test_new_run_starts_at_once_unless_another_is_in_the_way(store: RunStore) -> None:
    first = add_using(store, may_start=True, writes="a")
    assert first.status is RunStatus.RUNNING
    second = add_using(store, may_start=True, reads="a")
    assert second.status is RunStatus.QUEUED
    assert waits_for(store, second) == ("dataset", first.run_id)
    third = add_using(store, may_start=True, reads="b")
    assert third.status is RunStatus.RUNNING


def test_run_that_does_not_wait_is_refused_and_leaves_nothing(store: RunStore) -> None:
    first = add_using(store, writes="a")
    with pytest.raises(DatasetConflictError, match=f"{first.run_id}.*'a'") as refused:
        add(store, locks=using(reads="a"), refuses_conflicts=True)
    assert refused.value.run_id == first.run_id
    assert store.queue_control.state().queued == 1
    added = add(store, locks=using(reads="b"), refuses_conflicts=True, may_start=True)
    assert claim(store) == first.run_id
    assert claim(store) == added.run_id


@pytest.mark.parametrize("end", ["cancel", "unclaimed", "timeout", "lost", "purged"])
def test_run_in_the_way_that_ends_otherwise_lets_others_go(store: RunStore, end: str) -> None:
    away = other_server(pid=1)
    store.servers.register(away, lease_s=60)
    in_the_way = add(store, locks=using(writes="a"), queue_timeout_s=0.0 if end == "timeout" else 9)
    waiting = add_using(store, writes="a")
    if end in ("lost", "purged"):
        assert claim(store, away) == in_the_way.run_id
    if end == "cancel":
        store.request_cancel(in_the_way.run_id)
    elif end == "unclaimed":
        store.cancel_unclaimed(in_the_way.run_id)
    elif end == "timeout":
        assert store.queue_control.end_overdue() == [in_the_way.run_id]
    else:
        store.servers.reap(lambda server, _: server.server_id == away.server_id)
    assert get(store, in_the_way.run_id).status.is_final
    assert claim(store) == waiting.run_id
    finish(store, waiting.run_id, SUCCESS)
    assert count_locks(store) == 0


def test_run_that_was_queued_for_too_long_fails(store: RunStore) -> None:
    late, patient = add(store, TRAIN, queue_timeout_s=0.001), add(store, queue_timeout_s=100)
    store.queue_control.pause(None)
    while not (ended := store.queue_control.end_overdue()):
        pass
    assert ended == [late.run_id]
    found = get(store, late.run_id)
    assert (found.status, found.error and found.error.type) == (RunStatus.FAILURE, "QueueTimeout")
    assert (found.started_at, found.duration_ms) == (None, 0)
    assert get(store, patient.run_id).status is RunStatus.QUEUED
    page = store.event_page(late.run_id, after=0, limit=9, kind=EventType.RUN_FINISHED)
    assert page is not None
    assert page.events[0].data["error"]["type"] == "QueueTimeout"


def test_acquired_locks_replace_those_that_were_planned(store: RunStore) -> None:
    first, second = (add_using(store, writes=name) for name in "ab")
    assert [claim(store), claim(store)] == [first.run_id, second.run_id]
    found = using(writes="a c")
    run = get(store, second.run_id)
    assert not store.queue.acquire(run, HERE.server_id, found)
    assert not store.queue.acquire(run, other_server().server_id, found)
    store.queue.requeue(second.run_id, HERE.server_id)
    assert claim(store) is None
    assert waits_for(store, second) == ("dataset", first.run_id)
    third = add_using(store, writes="b")
    assert claim(store) == third.run_id  # what was planned is free
    finish(store, first.run_id, SUCCESS)
    later = add_using(store, writes="c")
    assert claim(store) == second.run_id  # its turn is as it was
    assert store.queue.acquire(get(store, second.run_id), HERE.server_id, found)
    assert claim(store) is None
    assert waits_for(store, later) == ("dataset", second.run_id)


def test_run_of_a_program_without_locks_gets_them_when_it_starts(store: RunStore) -> None:
    unknown, known = add(store), add_using(store, writes="a")
    assert get(store, unknown.run_id).locks_digest is None
    assert claim(store) == unknown.run_id
    assert store.queue.acquire(get(store, unknown.run_id), HERE.server_id, using(reads="a"))
    assert claim(store) is None
    assert waits_for(store, known) == ("dataset", unknown.run_id)


def test_what_a_program_without_locks_leaves_is_found(store: RunStore) -> None:
    in_the_way, waiting = add_using(store, writes="a"), add_using(store, writes="a")
    assert claim(store) == in_the_way.run_id
    with store._database.writing() as connection:  # as such a program ends a run
        of_run = update(runs).where(runs.c.run_id == in_the_way.run_id)
        connection.execute(of_run.values(status="lost"))
    assert claim(store) is None
    store.queue.unblock_stale()
    assert claim(store) == waiting.run_id
    store.servers.register(other_server(), lease_s=60)
    finish(store, waiting.run_id, SUCCESS)
    assert count_locks(store) == 0


def test_server_of_a_program_without_locks_is_known(store: RunStore) -> None:
    assert not store.servers.have_no_locks()
    with store._database.writing() as connection:
        connection.execute(update(servers).values(newest_revision=None))
    assert store.servers.have_no_locks()


def test_runs_of_two_projects_keep_out_of_each_others_way(open_store) -> None:
    one, other = open_store("one"), open_store("other")
    one.servers.register(HERE, lease_s=60)
    first, second = add_using(one, writes="a"), add_using(other, reads="a")
    assert claim(other) is None
    assert claim(one) == first.run_id
    assert claim(other) is None
    finish(one, first.run_id, SUCCESS)
    assert claim(other) == second.run_id


def test_limit_holds_runs_and_frees_them_one_by_one(store: RunStore) -> None:
    store.queue_control.set_limits(QueueLimits(concurrency={"train": 1}))
    first, second, third = (add(store, TRAIN) for _ in range(3))
    other = add(store, REPORT)
    assert [claim(store) for _ in range(3)] == [first.run_id, other.run_id, None]
    assert waits_for(store, second) == ("limit", "train")
    finish(store, first.run_id, SUCCESS)
    assert [claim(store), claim(store)] == [second.run_id, None]
    assert waits_for(store, third) == ("limit", "train")


def test_pool_is_shared_by_pipelines(store: RunStore) -> None:
    pool = Pool(slots=3, pipelines={"train": 2, "report": 1})
    store.queue_control.set_limits(QueueLimits(pools={"gpu": pool}))
    train, report, second = add(store, TRAIN), add(store, REPORT), add(store, TRAIN)
    last = add(store, REPORT)
    assert [claim(store) for _ in range(3)] == [train.run_id, report.run_id, None]
    assert waits_for(store, second) == ("pool", "gpu")
    assert store.queue_control.state().used == {"gpu": 3}
    finish(store, report.run_id, SUCCESS)
    assert claim(store) is None  # none passes who waits before it for the same pool
    finish(store, train.run_id, SUCCESS)
    assert [claim(store), claim(store), claim(store)] == [second.run_id, last.run_id, None]


def test_run_that_takes_more_than_a_pool_has_gets_all_of_it(store: RunStore) -> None:
    store.queue_control.set_limits(
        QueueLimits(pools={"gpu": Pool(slots=1, pipelines={"train": 1, "report": 1})})
    )
    both = add(store, RunRequest(pipeline_names=["train", "report"]))
    assert claim(store) == both.run_id


def test_last_server_to_start_sets_the_limits_and_says_what_changes(store: RunStore) -> None:
    limits = QueueLimits(concurrency={"trän": 1})
    assert store.queue_control.set_limits(limits) == []  # there were none
    assert store.queue_control.set_limits(limits) == []
    first, second = (add(store, RunRequest(pipeline_names=["trän"])) for _ in range(2))
    assert [claim(store), claim(store)] == [first.run_id, None]
    assert waits_for(store, second) == ("limit", "trän")
    assert store.queue_control.set_limits(QueueLimits(), replaces=False) == []
    assert claim(store) is None
    changes = store.queue_control.set_limits(QueueLimits())
    assert changes == ["concurrency of 'trän' from 1 to any"]
    assert claim(store) == second.run_id


def test_paused_queue_starts_nothing_until_it_is_resumed(store: RunStore) -> None:
    before = add(store)
    state = store.queue_control.pause(None)
    assert (state.is_paused, state.waiting) == (True, {"paused": 1})
    after = add(store, may_start=True)
    assert after.status is RunStatus.QUEUED
    assert [waits_for(store, each) for each in (before, after)] == [("paused", None)] * 2
    assert claim(store) is None
    store.queue_control.pause(None)
    assert not store.queue_control.resume(None).is_paused
    assert [claim(store), claim(store)] == [before.run_id, after.run_id]
    assert reasons(store, before) == [{"reason": "paused"}, {"reason": "slot"}]


def test_paused_pipeline_holds_its_runs_alone_and_nobody_waits_for_them(store: RunStore) -> None:
    paused = add(store, TRAIN, locks=using(writes="a"))
    behind = add(store, REPORT, locks=using(writes="a"))
    assert waits_for(store, behind) == ("dataset", paused.run_id)
    state = store.queue_control.pause("train")
    assert state.paused_pipelines == ["train"]
    assert waits_for(store, paused) == ("paused", "train")
    assert claim(store) == behind.run_id
    new = add(store, RunRequest(pipeline_names=["train", "report"]))
    assert waits_for(store, new) == ("paused", "train")
    store.queue_control.resume("train")
    assert claim(store) == new.run_id
    assert waits_for(store, paused) == ("dataset", behind.run_id)


def test_two_pauses_are_resumed_one_by_one(store: RunStore) -> None:
    run = add(store, TRAIN)
    for name in ("train", None):
        store.queue_control.pause(name)
    store.queue_control.resume("train")
    assert claim(store) is None
    store.queue_control.resume(None)
    assert claim(store) == run.run_id


def test_runs_are_cancelled_by_filter(store: RunStore) -> None:
    alice = Submitter(name="alice")
    executing = add(store, TRAIN)
    assert claim(store) == executing.run_id
    hers, train, report = add(store, TRAIN, submitter=alice), add(store, TRAIN), add(store, REPORT)
    cancel = store.queue_control.cancel
    wanted = RunFilter(pipeline="train", submitted_by="alice")
    assert cancel(wanted) == [hers.run_id]
    assert cancel(RunFilter(pipeline="train", statuses=(RunStatus.QUEUED,))) == [train.run_id]
    assert cancel(RunFilter(within=frozenset({"train"}))) == [executing.run_id]
    assert get(store, train.run_id).status is RunStatus.CANCELLED
    assert get(store, executing.run_id).cancel_requested_at is not None
    assert claim(store) == report.run_id


def test_many_runs_are_cancelled_in_steps(store: RunStore) -> None:
    added = [add(store).run_id for _ in range(450)]
    assert store.queue_control.cancel(RunFilter(statuses=(RunStatus.QUEUED,))) == added
    assert store.queue_control.state().queued == 0


def test_what_a_run_waits_for_is_told_up_to_twenty_times(store: RunStore) -> None:
    run = add(store)
    for _ in range(15):
        store.queue_control.pause(None)
        store.queue_control.resume(None)
    assert len(reasons(store, run)) == 20
    store.queue_control.pause(None)
    assert waits_for(store, run) == ("paused", None)


def test_state_says_what_waits_for_what(store: RunStore) -> None:
    store.queue_control.set_limits(QueueLimits(concurrency={"train": 1}))
    executing = add_using(store, may_start=True, writes="a")
    first, _ = add(store, TRAIN), add(store, TRAIN)
    add_using(store, writes="a")
    assert claim(store) == first.run_id
    assert claim(store) is None
    state = store.queue_control.state()
    assert (state.queued, state.running) == (2, 2)
    assert state.waiting == {"limit": 1, "dataset": 1}
    assert [run.waiting_for and run.waiting_for.reason for run in state.runs] == [
        WaitReason.LIMIT,
        WaitReason.DATASET,
    ]
    assert [run.position for run in state.runs] == [1, 2]
    finish(store, executing.run_id, SUCCESS)


def test_no_conflicting_runs_execute_together_and_none_is_forgotten(store: RunStore) -> None:
    """Random runs, of which as many execute as may, and any may be the next to end."""
    chance = random.Random(7)
    access: dict[str, tuple[set[str], set[str]]] = {}
    for number in range(150):
        names = chance.sample("abcdef", 3)
        reads, writes = set(names[:2]), set(names[2:] if chance.random() < 0.5 else [])
        locks = using(reads=" ".join(reads), writes=" ".join(writes))
        run_id = add(store, locks=locks, priority=chance.choice((0, 0, 3))).run_id
        access[run_id] = (reads, writes)
        if number % 10 == 0:
            store.request_cancel(run_id)
    executing: list[str] = []
    most = 0
    while True:
        while (claimed := claim(store)) is not None:
            executing.append(claimed)
        for one, other in combinations(executing, 2):
            (reads, writes), (others_reads, others_writes) = access[one], access[other]
            assert not writes & (others_reads | others_writes)
            assert not others_writes & reads
        most = max(most, len(executing))
        if not executing:
            break
        ended = executing.pop(chance.randrange(len(executing)))
        if chance.random() < 0.1:
            store.queue.requeue(ended, HERE.server_id)
        else:
            finish(store, ended, SUCCESS)
    assert most > 2
    assert store.queue_control.state().queued == 0
    assert count_locks(store) == 0


def test_servers_that_share_a_store_claim_no_conflicting_runs(store: RunStore) -> None:
    others = [other_server() for _ in range(3)]
    for each in others:
        store.servers.register(each, lease_s=60)
    for _ in range(10):
        add_using(store, writes="a")

    def claim_at(server: ServerProcess) -> str | None:
        return claim(store, server)

    for _ in range(10):
        with ThreadPoolExecutor(4) as threads:
            claimed = list(filter(None, threads.map(claim_at, [HERE, *others])))
        assert len(claimed) == 1
        owner = next(
            each for each in (HERE, *others) if claimed[0] in store.queue.running_at(each.server_id)
        )
        finish(store, claimed[0], SUCCESS, at=owner)
