"""The store keeps its promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy

from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.run import (
    WHOLE,
    ErrorDetail,
    Progress,
    Run,
    RunFilter,
    RunOutcome,
    RunRequest,
    RunStatus,
)
from kedro_flask_server.model.run_id import run_id_at
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store import PendingEvents, RunStore, locate
from tests.store.conftest import (
    HERE,
    SUCCESS,
    add,
    claim,
    end,
    finish,
    get,
    other_server,
)


def test_run_goes_from_queued_through_running_to_its_end(store: RunStore) -> None:
    queued = add(store, RunRequest(pipeline_names=["train"], params={"a": 1}))
    assert (queued.status, queued.position) == (RunStatus.QUEUED, 1)
    assert (queued.project, queued.env, queued.submitted_by) == ("probe", "local", None)
    assert abs(datetime.now(timezone.utc) - queued.created_at) < timedelta(seconds=5)

    claimed = store.queue.claim(HERE.server_id)
    assert claimed is not None
    running = claimed.run
    assert (running.run_id, running.status) == (queued.run_id, RunStatus.RUNNING)
    assert running.started_at is not None
    assert running.started_at >= queued.created_at

    error = ErrorDetail(type="ValueError", message="no \0 \ud800", node="n", traceback="t")
    outcome = RunOutcome(status=RunStatus.FAILURE, duration_ms=12.25, error=error)
    assert finish(store, queued.run_id, outcome)
    ended = get(store, queued.run_id)
    assert (ended.status, ended.duration_ms, ended.error) == (RunStatus.FAILURE, 12.25, error)
    assert ended.finished_at is not None
    assert ended.request == queued.request
    assert claim(store) is None


def test_end_that_is_stored_again_changes_nothing(store: RunStore) -> None:
    run_id = end(store)
    assert finish(store, run_id, SUCCESS) is True
    failure = RunOutcome(status=RunStatus.FAILURE, duration_ms=2)
    assert finish(store, run_id, failure) is False
    assert get(store, run_id).status is RunStatus.SUCCESS
    assert finish(store, "2020-01-01T00.00.00.000Z", SUCCESS) is False


@pytest.mark.parametrize(
    "request_",
    [
        RunRequest(params={"x": "\0\ud800é", "\ud800": [None, {"y": 10**30}]}),
        RunRequest(pipeline_names=["a\0b", "\ud800", "x" * 5000], tags=["é"] * 3),
        RunRequest(is_async=True, load_versions={"a": "b"}, runner="ThreadRunner"),
    ],
)
def test_any_request_comes_back_as_it_was(store: RunStore, request_: RunRequest) -> None:
    run = add(store, request_)
    assert get(store, run.run_id).request == request_
    names = request_.pipeline_names or []
    for name in [name for name in names if len(name) < 200]:
        page = store.page(RunFilter(pipeline=name), limit=10, cursor=None)
        assert [each.run_id for each in page.runs] == [run.run_id]


def test_numbers_that_json_does_not_have_come_back(store: RunStore) -> None:
    values = {"nan": math.nan, "inf": math.inf}
    params = get(store, add(store, RunRequest(params=values)).run_id).request.params
    assert params is not None
    assert math.isnan(params["nan"])
    assert params["inf"] == math.inf


def test_parameters_keep_the_order_in_which_they_were_sent(store: RunStore) -> None:
    given = RunRequest(
        params={"zip": 1, "name": {"z": 1, "a": 2}}, load_versions={"b": "", "a": ""}
    )
    run = add(store, given, key="k")
    claim(store)

    def is_as_given(found: Run) -> bool:
        return json.dumps(found.request.given()) == json.dumps(given.given())

    assert is_as_given(get(store, run.run_id))
    assert is_as_given(add(store, given, key="k"))  # the same run, again
    assert finish(store, run.run_id, SUCCESS)
    assert is_as_given(get(store, run.run_id))


def test_pipeline_that_a_credential_is_called_like_keeps_its_name_as_long_as_it_counts(
    store: RunStore,
) -> None:
    SECRETS.learn(["called-as-a-credential", "sent-by-mistake-as-a-name"])
    SECRETS.learn_names(["called-as-a-credential"], are_pipelines_known=True)
    names = ["called-as-a-credential", "sent-by-mistake-as-a-name"]
    first, second = (add(store, RunRequest(pipeline_names=names)) for _ in range(2))
    limits = {"called-as-a-credential": 1}
    assert claim(store, **limits) == first.run_id
    assert claim(store, **limits) is None

    def ids_of(pipeline: str) -> list[str]:
        found = store.page(RunFilter(pipeline=pipeline), limit=10, cursor=None).runs
        return [run.run_id for run in found]

    both = [second.run_id, first.run_id]
    assert [ids_of(name) for name in names] == [both, both]
    finish(store, first.run_id, SUCCESS)
    store.request_cancel(second.run_id)
    # What is no name of the project's is not kept in a run that has ended.
    assert [ids_of(name) for name in names] == [both, []]
    for run_id in both:
        assert get(store, run_id).request.pipeline_names == [names[0], "<redacted>"]


def test_oldest_run_that_has_not_ended_is_found(store: RunStore) -> None:
    assert store.oldest_active() is None
    first, second, _ = (add(store) for _ in range(3))
    assert store.oldest_active() == first.run_id
    claim(store)
    assert store.oldest_active() == first.run_id
    finish(store, first.run_id, SUCCESS)
    assert store.oldest_active() == second.run_id


def test_projects_and_environments_keep_apart(open_store: Callable[..., RunStore]) -> None:
    ours, staging, others = open_store(), open_store(env="staging"), open_store("other")
    ours.servers.register(HERE, lease_s=60)
    run = add(ours, key="k")
    for store in (staging, others):
        assert claim(store) is None
        assert store.get(run.run_id) is None
        assert store.request_cancel(run.run_id) is None
        assert store.page(RunFilter(), limit=10, cursor=None).runs == []
        assert add(store, key="k").run_id != run.run_id
    assert claim(ours) == run.run_id


def test_dead_servers_runs_are_lost_and_what_it_held_is_cancelled(store: RunStore) -> None:
    dead, living = other_server(pid=2**22 + 1), other_server()
    for server in (dead, living):
        store.servers.register(server, lease_s=60)
    running, held = add(store).run_id, add(store, is_held=True, server_id=dead.server_id).run_id
    assert claim(store, dead) == running
    queued, spared = add(store).run_id, add(store).run_id
    assert claim(store, living) == queued
    assert claim(store) == spared

    def is_dead(server: ServerProcess, is_lease_over: bool) -> bool:
        assert not is_lease_over
        return server.is_dead(HERE, is_lease_over=is_lease_over)

    assert store.servers.reap(is_dead) == [running]
    lost = get(store, running)
    assert (lost.status, lost.error and lost.error.type) == (RunStatus.LOST, "RunLost")
    assert lost.finished_at is not None
    assert get(store, held).status is RunStatus.CANCELLED
    assert get(store, queued).status is get(store, spared).status is RunStatus.RUNNING
    assert store.servers.renew(dead.server_id, 60) is False
    assert store.servers.renew(living.server_id, 60) is True
    assert store.servers.reap(is_dead) == []


def test_end_that_comes_after_lost_becomes_an_event(store: RunStore) -> None:
    other = other_server()
    store.servers.register(other, lease_s=60)
    run_id = add(store).run_id
    assert claim(store, other) == run_id
    store.servers.reap(lambda server, _: server == other)
    told = PendingEvents(server_id=other.server_id, events=[told_event(3)])
    assert store.finish(get(store, run_id), SUCCESS, told) is None
    assert get(store, run_id).status is RunStatus.LOST
    [*_, lost, late] = events(store, run_id)
    assert (lost.type, lost.data["status"], "is_late" in lost.data) == (
        "run.finished",
        "lost",
        False,
    )
    assert (late.type, late.data["status"], late.data["is_late"]) == (
        "run.finished",
        "success",
        True,
    )
    assert types(store, run_id) == [
        "run.queued",
        "run.started",
        "run.finished",
        "run.finished",
    ]


def told_event(number: int, kind: EventType = EventType.LOG, **data: object) -> Event:
    return Event(id=number, time=datetime.now(timezone.utc), type=kind, data=data)


def told(*events: Event, progress: Progress | None = None) -> PendingEvents:
    return PendingEvents(server_id=HERE.server_id, events=[*events], progress=progress)


def events(store: RunStore, run_id: str) -> list[Event]:
    page = store.event_page(run_id, after=0, limit=1000, kind=None)
    assert page is not None
    assert [event.id for event in page.events] == list(range(1, len(page.events) + 1))
    return page.events


def types(store: RunStore, run_id: str) -> list[str]:
    return [event.type for event in events(store, run_id)]


def test_events_tell_each_state_of_a_run_with_its_time(store: RunStore) -> None:
    run_id = add(store).run_id
    claimed = store.queue.claim(HERE.server_id)
    assert claimed is not None
    assert claimed.event_id == 2
    store.queue.requeue(run_id, HERE.server_id)
    claimed = store.queue.claim(HERE.server_id)
    assert claimed is not None
    assert claimed.event_id == 4
    error = ErrorDetail(type="ValueError", message="no \0 \ud800", node="n", traceback="t")
    progress = Progress(done=2, total=3)
    outcome = RunOutcome(status=RunStatus.FAILURE, duration_ms=12.25, error=error)
    last = told(told_event(5, a="\0 \ud800"), progress=progress)
    assert store.finish(get(store, run_id), outcome, last)
    run, found = get(store, run_id), events(store, run_id)
    assert [event.type for event in found] == [
        "run.queued",
        "run.started",
        "run.queued",
        "run.started",
        "log",
        "run.finished",
    ]
    assert [found[0].time, found[3].time, found[5].time] == [
        run.created_at,
        run.started_at,
        run.finished_at,
    ]
    assert found[4].data == {"a": "\0 \ud800"}
    assert found[5].data == {
        "status": "failure",
        "duration_ms": 12.25,
        "error": {"type": "ValueError", "message": "no \0 \ud800", "node": "n", "traceback": "t"},
        "done": 2,
        "total": 3,
    }
    assert run.progress == progress


def test_every_way_to_end_without_having_run_is_an_event(store: RunStore) -> None:
    cancelled, unclaimed = add(store).run_id, add(store).run_id
    other = other_server()
    store.servers.register(other, lease_s=60)
    held = add(store, server_id=other.server_id, is_held=True).run_id
    store.request_cancel(cancelled)
    store.request_cancel(cancelled)
    assert store.cancel_unclaimed(unclaimed)
    store.servers.unregister(other.server_id)
    for run_id in (cancelled, unclaimed, held):
        assert types(store, run_id) == ["run.queued", "run.finished"]
        end_event = events(store, run_id)[-1]
        assert end_event.data["status"] == "cancelled"
        assert end_event.time == get(store, run_id).finished_at


def test_events_are_stored_once_and_only_while_their_server_executes_the_run(
    store: RunStore,
) -> None:
    run_id = add(store).run_id
    assert claim(store) == run_id
    many = [told_event(3 + number, line=number) for number in range(1200)]
    store.events.add({run_id: told(*many[:600], progress=Progress(done=1, total=9))})
    assert get(store, run_id).progress == Progress(done=1, total=9)
    # An answer that is lost has the same told again.
    store.events.add({run_id: told(*many, progress=Progress(done=2, total=9))})
    elsewhere = PendingEvents(server_id="another", events=[told_event(5000)])
    store.events.add({run_id: elsewhere, "2020-01-01T00.00.00.000Z": told(told_event(1))})
    assert store.finish(get(store, run_id), SUCCESS, told(*many[1100:]))
    store.events.add({run_id: told(told_event(5000))})
    after, found = 0, []
    while after is not None:
        page = store.event_page(run_id, after=after, limit=100, kind=EventType.LOG)
        assert page is not None
        found += page.events
        after = page.next
    assert [event.data["line"] for event in found] == list(range(1200))
    assert get(store, run_id).progress == Progress(done=2, total=9)


def test_event_page_ends_with_the_run_and_not_before(open_store, store: RunStore) -> None:
    run_id = add(store).run_id

    def page(after: int, limit: int = 10) -> tuple[list[int], int | None]:
        found = store.event_page(run_id, after=after, limit=limit, kind=None)
        assert found is not None
        return [event.id for event in found.events], found.next

    assert page(0) == ([1], 1)
    assert page(1) == ([], 1)
    assert claim(store) == run_id
    assert page(0, limit=1) == ([1], 1)
    assert finish(store, run_id, SUCCESS)
    assert page(0, limit=2) == ([1, 2], 2)
    assert page(2, limit=1) == ([3], None)
    assert page(3) == ([], None)
    assert page(99) == ([], None)
    strange = (run_id.replace("Z", "Y"), "\0", "2020-01-01T00.00.00.000Z")
    for unknown in strange:
        assert store.event_page(unknown, after=0, limit=1, kind=None) is None
    elsewhere = open_store(env="prod")
    assert elsewhere.event_page(run_id, after=0, limit=1, kind=None) is None


def driver(store: RunStore) -> str:
    return "sqlite" if store.is_local else "postgresql+psycopg"


def test_lease_ends_by_the_databases_clock(store: RunStore) -> None:
    elsewhere = other_server(machine="another")
    store.servers.register(elsewhere, lease_s=60)
    run_id = add(store).run_id
    assert claim(store, elsewhere) == run_id

    def is_dead(server: ServerProcess, is_lease_over: bool) -> bool:
        return server.is_dead(HERE, is_lease_over=is_lease_over)

    assert store.servers.reap(is_dead) == []
    assert store.servers.renew(elsewhere.server_id, -0.1)
    assert store.servers.reap(is_dead) == [run_id]


def test_server_that_renews_meanwhile_is_not_reaped(store: RunStore) -> None:
    other = other_server()
    store.servers.register(other, lease_s=60)
    run_id = add(store).run_id
    assert claim(store, other) == run_id

    def seems_dead(server: ServerProcess, _: bool) -> bool:
        if server == other:
            assert store.servers.renew(other.server_id, 61)
        return server == other

    assert store.servers.reap(seems_dead) == []
    assert get(store, run_id).status is RunStatus.RUNNING


def test_server_that_leaves_cancels_what_it_held(store: RunStore) -> None:
    held, queued = add(store, is_held=True).run_id, add(store).run_id
    store.servers.unregister(HERE.server_id)
    assert get(store, held).status is RunStatus.CANCELLED
    assert get(store, queued).status is RunStatus.QUEUED


def test_cancel_ends_a_queued_run_and_marks_a_running_one(store: RunStore) -> None:
    running, queued = add(store).run_id, add(store).run_id
    assert claim(store) == running
    cancelled = store.request_cancel(queued)
    assert cancelled is not None
    assert cancelled.status is RunStatus.CANCELLED
    assert cancelled.error is not None
    assert cancelled.finished_at is not None

    marked = store.request_cancel(running)
    assert marked is not None
    assert (marked.status, marked.finished_at) == (RunStatus.RUNNING, None)
    assert marked.cancel_requested_at is not None
    assert store.cancel_requests(HERE.server_id) == [running]
    again = store.request_cancel(running)
    assert again is not None
    assert again.cancel_requested_at == marked.cancel_requested_at

    finish(store, running, SUCCESS)
    assert store.cancel_requests(HERE.server_id) == []
    ended = store.request_cancel(running)
    assert ended is not None
    assert ended.status is RunStatus.SUCCESS
    assert store.request_cancel("2020-01-01T00.00.00.000Z") is None
    assert store.cancel_unclaimed(running) is False


def test_pages_are_stable_while_new_runs_arrive(store: RunStore) -> None:
    added = [add(store).run_id for _ in range(7)]
    listed, cursor = [], None
    while True:
        page = store.page(RunFilter(), limit=3, cursor=cursor)
        listed += [run.run_id for run in page.runs]
        cursor = page.next
        add(store)
        if cursor is None:
            break
    assert listed == added[::-1]


def test_page_holds_no_more_than_it_should_of_large_runs(store: RunStore) -> None:
    for _ in range(6):
        add(store, RunRequest(params={"x": "y" * 1_000_000}))
    assert len(store.page(RunFilter(), limit=50, cursor=None).runs) == 6
    sizes, cursor = [], None
    while not sizes or cursor is not None:
        page = store.page(RunFilter(), limit=50, cursor=cursor, include=WHOLE)
        sizes.append(len(page.runs))
        cursor = page.next
    assert sizes == [1] * 6


def test_filters_choose(store: RunStore) -> None:
    succeeded = end(store)
    between = get(store, succeeded).created_at + timedelta(seconds=1)
    later = iter(run_id_at(between + timedelta(seconds=number)) for number in (1, 2))
    request = RunRequest(pipeline_names=["train", "report"])
    train = add(store, request, run_id=lambda: next(later)).run_id
    default = add(store, run_id=lambda: next(later)).run_id

    def listed(**wanted) -> list[str]:
        return [r.run_id for r in store.page(RunFilter(**wanted), limit=9, cursor=None).runs]

    assert listed(statuses=(RunStatus.QUEUED,)) == [default, train]
    assert listed(statuses=(RunStatus.QUEUED, RunStatus.SUCCESS)) == [default, train, succeeded]
    assert listed(pipeline="report") == [train]
    assert listed(pipeline="__default__") == [default, succeeded]
    assert listed(since=between) == [default, train]
    assert listed(until=between) == [succeeded]
    assert listed(statuses=(RunStatus.QUEUED,), pipeline="train", since=between) == [train]
    assert listed(idempotency_key="none") == []
    positions = [r.position for r in store.page(RunFilter(), limit=9, cursor=None).runs]
    assert positions == [2, 1, None]
    assert store.ended_among([succeeded, train, default]) == [succeeded]


def forget(store: RunStore, *, runs: int = 100, days: float = 90, key_hours: float = 24) -> None:
    kept = {"keep_runs": runs, "keep_days": days, "key_hours": key_hours}
    while store.purge(**kept, spared_s=0):
        pass


def listed_ids(store: RunStore) -> list[str]:
    return [run.run_id for run in store.page(RunFilter(), limit=200, cursor=None).runs]


def test_retention_keeps_the_newest_and_all_that_have_not_ended(store: RunStore) -> None:
    first = add(store).run_id
    assert claim(store) == first
    ended = []
    for _ in range(5):
        ended.append(end(store))
        time.sleep(0.003)
    queued = add(store).run_id
    forget(store, runs=2)
    assert listed_ids(store) == [queued, *ended[:2:-1], first]
    forget(store, days=0)
    assert listed_ids(store) == [queued, first]


def test_retention_keeps_runs_whose_key_still_counts(store: RunStore) -> None:
    run = add(store, key="k")
    assert claim(store) == run.run_id
    finish(store, run.run_id, SUCCESS)
    time.sleep(0.01)
    forget(store, runs=0, days=0)
    assert listed_ids(store) == [run.run_id]
    forget(store, runs=0, days=0, key_hours=0)
    assert listed_ids(store) == []


def test_retention_takes_the_events_with_the_run(store: RunStore, database_url: str) -> None:
    run_id = end(store)
    engine = sqlalchemy.create_engine(locate(database_url, Path()).set(drivername=driver(store)))
    with engine.begin() as connection:
        insert = sqlalchemy.text(
            "INSERT INTO events (run_id, id, time, type, data) VALUES (:run, :id, 0, 'log', '{}')"
        )
        connection.execute(insert, [{"run": run_id, "id": number} for number in range(9, 5000)])
    time.sleep(0.01)
    forget(store, runs=0)
    with engine.connect() as connection:
        for table in ("events", "run_pipelines", "runs"):
            rows = connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {table}"))
            assert rows.scalar() == 0
    engine.dispose()


@pytest.mark.parametrize("strange", ["", "\0", "\ud800", "x" * 10_000, "2024-01-01T00.00.00.00\0Z"])
def test_strange_ids_and_keys_find_nothing(store: RunStore, strange: str) -> None:
    assert store.get(strange) is None
    assert store.request_cancel(strange) is None
    for wanted in (RunFilter(idempotency_key=strange), RunFilter(pipeline=strange)):
        assert store.page(wanted, limit=10, cursor=None).runs == []
    add(store)


def test_processes_are_told_apart() -> None:
    here = ServerProcess.this()
    again = ServerProcess.this()
    assert here.server_id != again.server_id
    assert not again.is_dead(here, is_lease_over=True)
    assert replace(again, pid=2**22 + 1).is_dead(here, is_lease_over=False)
    reused = replace(again, pid=1)
    assert reused.is_dead(here, is_lease_over=False)
    elsewhere = replace(again, machine="another", pid=2**22 + 1)
    assert not elsewhere.is_dead(here, is_lease_over=False)
    assert elsewhere.is_dead(here, is_lease_over=True)
