"""Whose turn it is, and that no run is taken up twice."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.run import RunRequest, RunStatus, Submitter
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.store.run_scope import RunScope
from tests.store.conftest import HERE, SUCCESS, add, claim, finish, get, other_server

ALICE, BOB = Submitter(name="alice"), Submitter(name="bob")


def test_runs_are_taken_up_in_the_order_in_which_they_came(store: RunStore) -> None:
    added = [add(store).run_id for _ in range(5)]
    assert [get(store, run_id).position for run_id in added] == [1, 2, 3, 4, 5]
    assert [claim(store) for _ in added] == added
    assert claim(store) is None


def test_no_run_is_taken_up_twice(store: RunStore) -> None:
    added = {add(store).run_id for _ in range(60)}
    with ThreadPoolExecutor(8) as threads:
        claimed = list(threads.map(lambda _: claim(store), range(80)))
    assert sorted(filter(None, claimed)) == sorted(added)


def test_run_that_is_put_back_waits_again(store: RunStore) -> None:
    run_id = add(store).run_id
    assert claim(store) == run_id
    assert store.queue.running_at(HERE.server_id) == [run_id]
    store.queue.requeue(run_id, HERE.server_id)
    assert get(store, run_id).status is RunStatus.QUEUED
    assert claim(store) == run_id


def test_held_run_is_left_to_who_holds_it(store: RunStore) -> None:
    other = other_server()
    store.servers.register(other, lease_s=60)
    run_id = add(store, is_held=True).run_id
    assert claim(store, other) is None
    assert claim(store) == run_id
    let_go = add(store, is_held=True).run_id
    store.queue.release_hold(let_go)
    assert claim(store, other) == let_go


def test_server_that_the_store_does_not_know_takes_up_nothing(store: RunStore) -> None:
    add(store)
    assert claim(store, other_server()) is None


def test_concurrency_of_a_pipeline_holds_back_its_runs_alone(store: RunStore) -> None:
    first, second = (add(store, RunRequest(pipeline_names=["train", "x"])) for _ in range(2))
    other = add(store, RunRequest(pipeline_names=["report"]))
    assert claim(store, train=1) == first.run_id
    assert claim(store, train=1) == other.run_id
    assert claim(store, train=1) is None
    finish(store, first.run_id, SUCCESS)
    assert claim(store, train=1) == second.run_id


def test_concurrency_holds_for_the_default_pipeline_and_under_load(store: RunStore) -> None:
    for _ in range(20):
        add(store)
    with ThreadPoolExecutor(8) as threads:
        claimed = list(threads.map(lambda _: claim(store, __default__=3), range(20)))
    assert len([each for each in claimed if each]) == 3


def test_server_frozen_in_a_transaction_does_not_keep_others_waiting(
    store: RunStore, database_url: str
) -> None:
    if store.is_local:
        pytest.skip("there, the processes of one machine alone share it")
    frozen = Database(locate(database_url, Path()))
    add(store)
    with contextlib.suppress(StoreUnavailableError), frozen.writing() as connection:
        RunScope("probe", "local").lock(frozen, connection)
        started_at = time.monotonic()
        while not can_claim(store):
            assert time.monotonic() - started_at < 8
    frozen.close()


def can_claim(store: RunStore) -> bool:
    try:
        return claim(store) is not None
    except StoreUnavailableError:
        return False


def test_next_is_the_oldest_of_the_submitter_with_the_fewest_running(store: RunStore) -> None:
    hers = [add(store, submitter=ALICE).run_id for _ in range(3)]
    his = [add(store, submitter=BOB).run_id for _ in range(2)]
    assert [claim(store) for _ in range(4)] == [hers[0], his[0], hers[1], his[1]]
    finish(store, his[0], SUCCESS)
    his.append(add(store, submitter=BOB).run_id)
    assert [claim(store) for _ in range(2)] == [his[2], hers[2]]


def test_run_that_is_claimed_has_the_number_of_its_newest_event(store: RunStore) -> None:
    run_id = add(store).run_id
    claimed = store.queue.claim(HERE.server_id)
    assert claimed is not None
    assert (claimed.run.run_id, claimed.run.status) == (run_id, RunStatus.RUNNING)
    assert claimed.event_id == 2


def test_run_is_put_back_by_the_server_that_has_claimed_it_alone(store: RunStore) -> None:
    run_id = add(store).run_id
    assert claim(store) == run_id
    store.queue.requeue(run_id, other_server().server_id)
    assert get(store, run_id).status is RunStatus.RUNNING
    finish(store, run_id, SUCCESS)
    store.queue.requeue(run_id, HERE.server_id)
    assert get(store, run_id).status is RunStatus.SUCCESS


def test_queue_has_a_run_until_it_is_claimed_or_cancelled(store: RunStore) -> None:
    assert not store.queue.has_any()
    add(store)
    assert store.queue.has_any()
    claim(store)
    assert not store.queue.has_any()
    store.request_cancel(add(store).run_id)
    assert not store.queue.has_any()
