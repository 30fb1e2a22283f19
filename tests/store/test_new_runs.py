"""New runs: within limits, once for each idempotency key."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from kedro_flask_server.errors import KeyReusedError, QuotaError, ServerBusyError
from kedro_flask_server.model.run import RunFilter, RunRequest, RunStatus, Submitter
from kedro_flask_server.model.run_id import run_id_at
from kedro_flask_server.store import RunStore
from tests.store.conftest import HERE, IDS, add, claim, get, new_run

ALICE, BOB = Submitter(name="alice"), Submitter(name="bob")


def test_id_that_is_taken_is_passed_over(store: RunStore) -> None:
    taken = add(store).run_id
    ids = iter([taken, taken, free := IDS.next()])
    assert add(store, run_id=lambda: next(ids)).run_id == free


def test_runs_beyond_max_queued_are_refused(store: RunStore) -> None:
    for _ in range(3):  # one starts at once, as there is a worker
        add(store, max_queued=2)
    with pytest.raises(ServerBusyError, match="max_queued"):
        add(store, max_queued=2)
    assert claim(store) is not None
    with pytest.raises(ServerBusyError):
        add(store, max_queued=2)
    assert claim(store) is not None
    add(store, max_queued=2)


def test_same_key_and_request_are_the_same_run(store: RunStore) -> None:
    request = RunRequest(params={"b": 1, "a": math.nan})
    first = add(store, request, key="k")
    assert add(store, replace(request, params={"a": math.nan, "b": 1}), key="k") == first
    with pytest.raises(KeyReusedError):
        add(store, RunRequest(), key="k")
    assert add(store, request, key="other").run_id != first.run_id
    wanted = RunFilter(idempotency_key="k")
    found = store.page(wanted, limit=10, cursor=None).runs
    assert [each.run_id for each in found] == [first.run_id]


def test_same_key_at_the_same_time_is_one_run(store: RunStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: add(store, key="k").run_id, range(16)))
    assert len(set(added)) == 1
    assert len(store.page(RunFilter(), limit=10, cursor=None).runs) == 1


def test_key_counts_no_longer_than_it_should(store: RunStore) -> None:
    an_hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    first = add(store, key="k", run_id=lambda: run_id_at(an_hour_ago))
    assert add(store, key="k", key_hours=1.1).run_id == first.run_id
    second = add(store, RunRequest(tags=["x"]), key="k", key_hours=0.9)
    assert second.run_id != first.run_id
    assert get(store, first.run_id).status is RunStatus.QUEUED


def test_run_is_claimed_as_it_is_stored_where_it_may_start(store: RunStore) -> None:
    added = store.new_runs.add(new_run(may_start=True), IDS.next)
    assert added.run.status is RunStatus.RUNNING
    assert added.claimed is not None
    assert (added.claimed.run.run_id, added.claimed.event_id) == (added.run.run_id, 2)
    assert store.queue.running_at(HERE.server_id) == [added.run.run_id]


def test_run_does_not_overtake_those_that_are_queued(store: RunStore) -> None:
    first = add(store).run_id
    added = store.new_runs.add(new_run(may_start=True), IDS.next)
    assert (added.run.status, added.claimed) == (RunStatus.QUEUED, None)
    assert claim(store) == first


@pytest.mark.parametrize(
    ("limits", "kind"), [({"max_active": 2}, "active"), ({"max_queued": 2}, "queued")]
)
def test_submitter_has_no_more_runs_than_they_may(
    store: RunStore, limits: dict[str, int], kind: str
) -> None:
    alice = replace(ALICE, **limits)
    for _ in range(2):
        add(store, submitter=alice)
    with pytest.raises(QuotaError, match=f"alice has 2 {kind} runs"):
        add(store, submitter=alice)
    add(store, submitter=BOB)
    assert claim(store) is not None
    if kind == "active":
        with pytest.raises(QuotaError):
            add(store, submitter=alice)
    else:
        add(store, submitter=alice)


def test_same_key_of_another_submitter_is_another_run(store: RunStore) -> None:
    hers = add(store, key="k", submitter=ALICE)
    his = add(store, RunRequest(tags=["x"]), key="k", submitter=BOB)
    assert his.run_id != hers.run_id
    again = add(store, key="k", submitter=ALICE)
    assert (again.run_id, again.is_replay, hers.is_replay) == (hers.run_id, True, False)


def test_run_that_was_sent_before_is_found_though_the_queue_is_full(store: RunStore) -> None:
    first = add(store, key="k", workers=0, max_queued=1)
    with pytest.raises(ServerBusyError):
        add(store, key="other", workers=0, max_queued=1)
    assert add(store, key="k", workers=0, max_queued=1).run_id == first.run_id
