"""Calls of served pipelines are recorded as runs that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, islice

from kedro_flask_server.model.data_exchange import DataRequest, Output
from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.run import (
    ErrorDetail,
    Progress,
    Run,
    RunFilter,
    RunRequest,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.run_id import run_id_at, time_of
from kedro_flask_server.store import PendingEvents, RunStore
from kedro_flask_server.store.calls import EndedCall

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def an_ended_call(store: RunStore, run_id: str, **changes: object) -> EndedCall:
    exchange = DataRequest(outputs=("answer",), saves=False)
    given = {
        "status": RunStatus.SUCCESS,
        "duration_ms": 2.5,
        "progress": Progress(done=1, total=1),
        "labels": {"team": "fraud"},
        **changes,
    }
    run = Run(
        run_id=run_id,
        project=store.scope.project,
        env=store.scope.env,
        request=RunRequest(pipeline_names=["inference"], data=exchange.dump()),
        created_at=time_of(run_id),
        started_at=time_of(run_id) + timedelta(milliseconds=1),
        finished_at=time_of(run_id) + timedelta(milliseconds=4),
        **given,  # type: ignore[arg-type]
    )
    event = Event(id=3, time=BEGAN, type=EventType.NODE_STARTED, data={"node": "predict"})
    output = Output(media_type="application/json", size_bytes=5, file="ab12", value={"x": 1})
    told = PendingEvents(server_id="", events=[event], outputs={"answer": output})
    submitter = Submitter(name="web", address="10.0.0.1")
    return EndedCall(run=run, told=told, submitter=submitter, folder="f0")


def ids() -> Iterator[str]:
    return (run_id_at(BEGAN + timedelta(milliseconds=number)) for number in count())


def test_call_is_a_run_with_all_that_belongs_to_it(store: RunStore) -> None:
    run_id = next(ids())
    store.calls.add(an_ended_call(store, run_id), ids().__next__)
    run = store.get(run_id)
    assert run is not None
    assert (run.status, run.duration_ms, run.submitted_by) == (RunStatus.SUCCESS, 2.5, "web")
    assert (run.progress, run.labels) == (Progress(done=1, total=1), {"team": "fraud"})
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.created_at < run.started_at < run.finished_at
    page = store.event_page(run_id, after=0, limit=10, kind=None)
    assert page is not None
    assert [event.type for event in page.events] == [
        "run.queued",
        "run.started",
        "node.started",
        "run.finished",
    ]
    assert [event.id for event in page.events] == [1, 2, 3, 4]
    kept = store.data.of(run_id)
    assert (kept.folder, kept.outputs["answer"].file) == ("f0", "ab12")
    wanted = RunFilter(pipeline="inference", labels=(("team", "fraud"),))
    assert [each.run_id for each in store.page(wanted, limit=5, cursor=None).runs] == [run_id]
    assert store.data.folders_in_use() >= {"f0"}


def test_failure_keeps_its_error(store: RunStore) -> None:
    run_id = next(ids())
    error = ErrorDetail(type="ValueError", message="no", node="predict")
    call = an_ended_call(store, run_id, status=RunStatus.FAILURE, error=error)
    store.calls.add(call, ids().__next__)
    run = store.get(run_id)
    assert run is not None
    assert run.error == error


def test_id_that_is_taken_becomes_the_next_free_one(store: RunStore) -> None:
    first, second, third = islice(ids(), 3)
    more = ids()
    stored = [store.calls.add(an_ended_call(store, first), more.__next__) for _ in range(3)]
    assert [run.run_id for run in stored] == [first, second, third]
    assert all(store.get(run.run_id) for run in stored)
