"""What the pages ask the store, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.provenance import NodeSummary, RunSummary
from kedro_flask_server.model.run import Progress
from kedro_flask_server.store import PendingEvents, RunStore
from tests.store.conftest import HERE, SUCCESS, add, claim, finish


def events(run_id: str, *kinds: str) -> list[Event]:
    now = datetime.now(timezone.utc)
    return [
        Event(id=number, time=now, type=kind, data={"message": f"{kind} {number}"})
        for number, kind in enumerate(kinds, 3)
    ]


def test_token_changes_with_each_change_of_a_list(store: RunStore) -> None:
    seen = [store.state_token()]

    def has_changed() -> bool:
        seen.append(store.state_token())
        return len({*seen}) == len(seen)

    assert store.state_token() == seen[0]
    run = add(store)
    assert has_changed()
    claim(store)
    assert has_changed()
    pending = PendingEvents(
        server_id=HERE.server_id,
        events=events(run.run_id, "node.finished"),
        last_id=3,
        progress=Progress(done=1, total=2),
    )
    store.events.add({run.run_id: pending})
    assert has_changed()
    finish(store, run.run_id, SUCCESS)
    assert has_changed()
    store.queue_control.pause("train")
    assert has_changed()
    store.queue_control.resume("train")
    assert has_changed()


def test_token_is_of_one_project(store: RunStore, open_store: Callable[..., RunStore]) -> None:
    before = store.state_token()
    add(open_store("another"))
    assert store.state_token() == before


def test_summaries_are_of_runs_that_have_ended(store: RunStore) -> None:
    ended, active = add(store), add(store)
    claim(store)
    summary = RunSummary(nodes={"a": NodeSummary("finished", None, 3.0)})
    pending = PendingEvents(server_id=HERE.server_id, events=[], last_id=2, summary=summary)
    store.finish(ended, SUCCESS, pending)
    assert store.node_summaries([ended.run_id, active.run_id]) == {ended.run_id: summary}
    assert store.node_summaries([]) == {}


def test_log_is_read_from_its_end_or_from_a_record_on(store: RunStore) -> None:
    run = add(store)
    claim(store)
    kinds = ("log", "node.started", "log", "log")
    pending = PendingEvents(server_id=HERE.server_id, events=events(run.run_id, *kinds), last_id=6)
    store.events.add({run.run_id: pending})

    def ids(**where: int) -> list[int]:
        return [event.id for event in store.log_records(run.run_id, **where)]  # type: ignore[arg-type]

    assert ids(limit=9) == [3, 5, 6]
    assert ids(limit=2) == [5, 6]
    assert ids(limit=9, before=6) == [3, 5]
    newest = store.newest_event(run.run_id)
    assert newest is not None
    assert (newest.id, newest.type) == (6, EventType.LOG)
    assert store.newest_event("2020-01-01T00.00.00.000Z") is None
    assert store.newest_event("no \0 run") is None
