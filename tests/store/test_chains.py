"""Labels, what runs were made of, and chains of retries, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import delete

from kedro_flask_server.errors import RetryRefusedError
from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.provenance import Provenance, Revision, RunSummary
from kedro_flask_server.model.queue import WaitReason
from kedro_flask_server.model.retry_rule import RetryRule
from kedro_flask_server.model.run import ErrorDetail, RunFilter, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.submission import RetryOf
from kedro_flask_server.store import PendingEvents, RunStore
from kedro_flask_server.store.schema import run_provenance
from tests.servers import eventually
from tests.store.conftest import HERE, SUCCESS, add, claim, end, finish, get, other_server

FAILURE = RunOutcome(
    status=RunStatus.FAILURE,
    duration_ms=1.0,
    error=ErrorDetail(type="MyError", message="no"),
    error_bases=("DatasetError", "Exception"),
)
CRASH = RunOutcome(
    status=RunStatus.FAILURE,
    duration_ms=1.0,
    error=ErrorDetail(type="WorkerCrashed", message="gone"),
)
RULE = RetryRule(times=2, delay_s=0.0, errors=("DatasetError", "RunLost", "WorkerCrashed"))
MADE_OF = Provenance(revision=Revision(id="abc"), nodes=("a",))
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def ids_of(store: RunStore, **wanted: object) -> list[str]:
    page = store.page(RunFilter(**wanted), limit=50, cursor=None)  # type: ignore[arg-type]
    return [run.run_id for run in page.runs]


@pytest.mark.parametrize("starts", [False, True])
def test_runs_are_found_by_their_labels(store: RunStore, *, starts: bool) -> None:
    labels = {"team": "fraud", "note": "é \ud800", "emoji": "\U0001f600" * 128}
    plain = add(store)
    labelled = add(store, labels=labels, may_start=starts)
    assert (labelled.labels, get(store, labelled.run_id).labels) == (labels, labels)
    assert ids_of(store, labels=(("team", None),)) == [labelled.run_id]
    assert ids_of(store, labels=tuple(labels.items())) == [labelled.run_id]
    assert ids_of(store, labels=(("team", "fraud"), ("team", "x"))) == []
    assert ids_of(store, labels=(("other", None),)) == []
    assert {*ids_of(store)} == {plain.run_id, labelled.run_id}


def pending(**more: object) -> PendingEvents:
    return PendingEvents(server_id=HERE.server_id, events=[], **more)  # type: ignore[arg-type]


def test_what_a_run_was_made_of_is_stored_at_once_and_its_summary_with_its_end(
    store: RunStore,
) -> None:
    run_id = add(store).run_id
    claim(store)
    started = Event(id=3, time=NOON, type=EventType.NODE_STARTED, data={"node": "a"})
    store.events.add({run_id: replace(pending(provenance=MADE_OF), events=[started])})
    record = store.record(run_id)
    assert record is not None
    assert (record.provenance, record.summary.nodes["a"].state) == (MADE_OF, "interrupted")
    summary = RunSummary.of([started, replace(started, id=4, type=EventType.NODE_FINISHED)])
    linked = replace(MADE_OF, links={"t": "https://x.example"})
    assert store.finish(get(store, run_id), SUCCESS, pending(provenance=linked, summary=summary))
    record = store.record(run_id)
    assert record is not None
    assert (record.provenance, record.summary) == (linked, summary)
    assert store.record("2020-01-01T00.00.00.000Z") is None
    assert store.record("\0") is None


def test_run_that_ends_within_a_moment_is_stored_whole(store: RunStore) -> None:
    run_id = add(store).run_id
    claim(store)
    summary = RunSummary.of([Event(id=3, time=NOON, type="node.started", data={"node": "a"})])
    store.finish(get(store, run_id), SUCCESS, pending(provenance=MADE_OF, summary=summary))
    record = store.record(run_id)
    assert record is not None
    assert (record.provenance, record.summary) == (MADE_OF, summary)
    assert record.has_stored_summary is True


def test_run_of_an_earlier_version_has_no_provenance(store: RunStore) -> None:
    run_id = end(store)
    with store._database.writing() as connection:
        connection.execute(delete(run_provenance))
    record = store.record(run_id)
    assert record is not None
    assert (record.provenance, record.summary) == (None, RunSummary())
    assert record.has_stored_summary is False


def test_chain_has_one_line_and_one_active_run(store: RunStore) -> None:
    first = end(store, FAILURE)
    place = RetryOf(run_id=first)
    second = add(store, retry_of=replace(place, plan='{"nodes": []}'))
    assert (second.retry_of, second.attempt) == (first, 2)
    for run_id, plan in ((first, None), (second.run_id, {"nodes": []})):
        record = store.record(run_id)
        assert record is not None
        assert record.plan == plan
    for _ in range(2):  # while the second is queued, and once it has ended
        with pytest.raises(RetryRefusedError) as refused:
            add(store, retry_of=place)
        assert refused.value.run_id == second.run_id
        if claim(store):
            assert finish(store, second.run_id, FAILURE)
    third = add(store, retry_of=RetryOf(run_id=second.run_id))
    assert (third.retry_of, third.attempt) == (second.run_id, 3)
    assert get(store, first).retried_by == get(store, second.run_id).retried_by == third.run_id
    assert ids_of(store, has_retried=False) == [third.run_id]
    assert ids_of(store) == [third.run_id, second.run_id, first]


def failed(store: RunStore, run_id: str, outcome: RunOutcome = FAILURE) -> str | None:
    """Claim a run and end it as failed, and return its retry."""
    store.queue_control.end_delays()
    assert claim(store) == run_id
    assert finish(store, run_id, outcome)
    return get(store, run_id).retried_by


def test_rule_stores_a_retry_with_the_end_of_a_run(store: RunStore) -> None:
    request = RunRequest(pipeline_names=["a"], params={"api_token": "secret-to-be-kept"})
    run = add(store, request, labels={"x": "y"}, priority=7, retry_rule=RULE, queue_timeout_s=60)
    second = failed(store, run.run_id)
    assert second is not None
    retry = get(store, second)
    assert (retry.request, retry.labels, retry.priority) == (request, {"x": "y"}, 7)
    assert (retry.retry_of, retry.attempt, retry.retry_rule) == (run.run_id, 2, RULE)
    assert ids_of(store, labels=(("x", "y"),), pipeline="a") == [second, run.run_id]
    assert "secret-to-be-kept" not in str(get(store, run.run_id))
    third = failed(store, second)
    assert third is not None
    assert failed(store, third) is None  # twice in a chain
    assert store.queue.has_any() is False


def test_other_ends_are_not_retried(store: RunStore) -> None:
    other = replace(FAILURE, error_bases=("Exception",))
    assert failed(store, add(store, retry_rule=RULE).run_id, other) is None
    succeeded = add(store, retry_rule=RULE).run_id
    assert claim(store) == succeeded
    assert finish(store, succeeded, SUCCESS)
    cancelled = add(store, retry_rule=RULE).run_id
    assert claim(store) == cancelled
    store.request_cancel(cancelled)
    assert finish(store, cancelled, FAILURE)
    assert store.queue.has_any() is False


def test_crash_after_a_crash_is_not_retried_and_says_so(store: RunStore) -> None:
    second = failed(store, add(store, retry_rule=RULE).run_id, CRASH)
    assert second is not None
    assert failed(store, second, CRASH) is None
    assert "not retried" in get(store, second).warnings[0]


def test_retry_waits_out_its_delay(store: RunStore) -> None:
    rule = replace(RULE, delay_s=1.5)
    second = failed(store, add(store, retry_rule=rule).run_id)
    assert second is not None
    waiting = get(store, second).waiting_for
    assert waiting is not None
    assert (waiting.reason, store.queue_control.state().waiting) == (WaitReason.DELAY, {"delay": 1})
    assert waiting.until is not None
    assert datetime.fromisoformat(waiting.until.replace("Z", "+00:00")) < datetime.now(
        timezone.utc
    ) + timedelta(seconds=3)
    # A pause that ends before the delay does does not end that.
    store.queue_control.pause(None)
    store.queue_control.resume(None)
    assert claim(store) is None
    eventually(store.queue_control.end_delays)
    assert claim(store) == second


def test_lost_run_is_retried_by_whoever_finds_it(store: RunStore) -> None:
    away = other_server(server_id="away", pid=1)
    store.servers.register(away, lease_s=60)
    run = add(store, retry_rule=RULE)
    assert claim(store, away) == run.run_id
    store.servers.reap(lambda server, _: server.server_id == away.server_id)
    second = get(store, run.run_id).retried_by
    assert second is not None
    assert get(store, second).status is RunStatus.QUEUED
