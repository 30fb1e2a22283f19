"""What a caller may do with runs, and see of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import ForbiddenError, UnknownRunError
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.model.event import Event, EventPage, EventType
from kedro_flask_server.model.run import (
    ErrorDetail,
    Run,
    RunFilter,
    RunPage,
    RunPart,
    RunRequest,
    RunStatus,
)
from kedro_flask_server.model.snapshot import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
ERROR = ErrorDetail(type="ValueError", message="in /srv/secret", node="n", traceback="t")
HIDDEN = "The message is not shown (setting expose_error_messages)."
REQUEST = RunRequest(pipeline_names=["train"], params={"api_key": "abcdef-123456", "x": 1})


def is_gone() -> bool:
    return False


def a_run(submitted_by: str = "alice", **fields: Any) -> Run:
    given = {"request": REQUEST, "status": RunStatus.FAILURE, "error": ERROR, **fields}
    return Run(
        run_id="r1", project="p", env="e", created_at=NOW, submitted_by=submitted_by, **given
    )


class FakeRuns:
    """A service with one run, which takes down what it is asked."""

    def __init__(self, run: Run) -> None:
        self.known = run
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.told: EventPage = EventPage(events=[], next=1)
        self.described: Snapshot | ErrorDetail = ERROR

    def _ask(self, what: str, **options: Any) -> Run:
        self.asked.append((what, options))
        return self.known

    def submit(self, request: RunRequest, **options: Any) -> Run:
        return self._ask("submit", **options)

    def run(self, request: RunRequest, **options: Any) -> Run:
        return self._ask("run", **options)

    def get(self, run_id: str) -> Run:
        return self._ask("get")

    def wait(self, run_id: str, timeout_s: float, **options: Any) -> Run:
        return self._ask("wait", timeout_s=timeout_s, **options)

    def cancel(self, run_id: str, **options: Any) -> Run:
        return self._ask("cancel", **options)

    def page(self, wanted: RunFilter, **options: Any) -> RunPage:
        return RunPage(runs=[self._ask("page", wanted=wanted, **options)], next="r0")

    def events(self, run_id: str, **options: Any) -> EventPage:
        self._ask("events", **options)
        return self.told

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        return self.described

    @property
    def calls(self) -> list[str]:
        return [what for what, _ in self.asked]


def caller(*scopes: Scope, name: str = "alice", **fields: Any) -> Caller:
    return Caller(name=name, scopes=frozenset(scopes), **fields)


READER = caller(Scope.READ, name="bob")
RUNNER = caller(Scope.RUN, pipelines=frozenset({"train", "score"}), max_active=3, max_queued=2)
ADMIN = caller(Scope.ADMIN, name="root")
STRANGER = caller(Scope.RUN, name="mallory")
OTHERS_PIPELINES = caller(Scope.READ, pipelines=frozenset({"score"}))
UNTOLD = replace(RUNNER, sees_messages=False)


@pytest.fixture
def service() -> FakeRuns:
    return FakeRuns(a_run())


def runs_of(service: FakeRuns, who: Caller) -> AuthorizedRuns:
    return AuthorizedRuns(service, who, address="10.0.0.1")


def test_run_is_submitted_in_the_name_and_the_quota_of_the_caller(service: FakeRuns) -> None:
    runs_of(service, RUNNER).submit(REQUEST, key="k", priority=None, wait_s=1, is_gone=is_gone)
    [(_, options)] = service.asked
    submitter = options["submitter"]
    assert (submitter.name, submitter.address) == ("alice", "10.0.0.1")
    assert (submitter.max_active, submitter.max_queued) == (3, 2)
    assert (options["key"], options["wait_s"], options["is_gone"]) == ("k", 1, is_gone)


@pytest.mark.parametrize("names", [["train", "other"], None])
def test_run_of_others_pipelines_is_refused_before_it_is_taken_in(
    service: FakeRuns, names: list[str] | None
) -> None:
    runs, request = runs_of(service, RUNNER), RunRequest(pipeline_names=names)
    for call in (
        lambda: runs.submit(request, key=None, priority=None, wait_s=0, is_gone=is_gone),
        lambda: runs.run(request, key=None, priority=None, timeout_s=None, is_gone=is_gone),
    ):
        with pytest.raises(ForbiddenError, match="alice may run these pipelines alone: score, tr"):
            call()
    assert service.calls == []


def test_request_is_shown_without_what_is_secret_in_it(service: FakeRuns) -> None:
    runs = runs_of(service, RUNNER)
    shown = runs.submit(REQUEST, key=None, priority=None, wait_s=0, is_gone=is_gone)
    for run in (shown, runs.get("r1"), runs.wait("r1", 1, is_gone=is_gone), runs.cancel("r1")):
        assert run.request.params == {"api_key": "<redacted>", "x": 1}
        assert run.error == ERROR


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.FAILURE])
def test_run_that_was_waited_for_is_told_with_as_much_of_its_error_as_the_caller_may_see(
    service: FakeRuns, status: RunStatus
) -> None:
    service.known = replace(service.known, status=status)
    told = runs_of(service, UNTOLD).run(
        REQUEST, key=None, priority=None, timeout_s=None, is_gone=is_gone
    )
    assert told.error == ErrorDetail(type="ValueError", message=HIDDEN)
    is_redacted = told.request.params == {"api_key": "<redacted>", "x": 1}
    assert is_redacted is (status is RunStatus.QUEUED)


@pytest.mark.parametrize(
    ("who", "is_seen"),
    [
        (RUNNER, True),
        (READER, True),
        (ADMIN, True),
        (STRANGER, False),
        (OTHERS_PIPELINES, False),
        (replace(RUNNER, pipelines=frozenset({"score"})), False),
    ],
)
def test_run_is_there_for_those_who_may_see_it_and_for_no_others(
    service: FakeRuns, who: Caller, is_seen: bool
) -> None:
    runs = runs_of(service, who)
    for call in (
        lambda: runs.get("r1"),
        lambda: runs.wait("r1", 1, is_gone=is_gone),
        lambda: runs.events("r1"),
    ):
        if is_seen:
            call()
        else:
            with pytest.raises(UnknownRunError):
                call()
    if not is_seen:
        assert {*service.calls} == {"get"}


def test_run_is_cancelled_by_who_sent_it_or_an_admin(service: FakeRuns) -> None:
    for who in (RUNNER, ADMIN):
        runs_of(service, who).cancel("r1")
        assert service.asked[-1][1]["by"].name == who.name
    with pytest.raises(ForbiddenError, match="admin"):
        runs_of(service, READER).cancel("r1")
    with pytest.raises(UnknownRunError):
        runs_of(service, STRANGER).cancel("r1")
    assert service.calls.count("cancel") == 2


@pytest.mark.parametrize(
    ("who", "wanted", "submitted_by"),
    [
        (READER, RunFilter(), None),
        (ADMIN, RunFilter(), None),
        (RUNNER, RunFilter(), "alice"),
        (RUNNER, RunFilter(submitted_by="bob"), "alice"),
        (READER, RunFilter(idempotency_key="k"), "bob"),
    ],
)
def test_list_is_of_ones_own_runs_where_one_may_see_no_more(
    service: FakeRuns, who: Caller, wanted: RunFilter, submitted_by: str | None
) -> None:
    page = runs_of(service, who).page(wanted, limit=5, cursor="r9")
    [(_, options)] = service.asked
    assert options["wanted"].submitted_by == submitted_by
    assert options["wanted"].within == who.pipelines
    assert (options["limit"], options["cursor"], page.next) == (5, "r9", "r0")


def test_list_of_whole_requests_leaves_out_what_the_filter_has_let_through(
    service: FakeRuns,
) -> None:
    runs = runs_of(service, OTHERS_PIPELINES)
    included = runs.page(RunFilter(), limit=5, cursor=None, include={RunPart.REQUEST})
    assert included.runs == []
    # The names in a summary may be shortened: the filter alone decides.
    assert len(runs.page(RunFilter(), limit=5, cursor=None).runs) == 1


def an_event(kind: EventType, **data: Any) -> Event:
    return Event(id=1, time=NOW, type=kind, data=data)


def test_events_are_without_log_and_messages_for_who_may_not_see_them(service: FakeRuns) -> None:
    error = {"type": "ValueError", "message": "in /srv/secret", "traceback": "t"}
    service.told = EventPage(
        events=[
            an_event(EventType.LOG, message="in /srv/secret"),
            an_event(EventType.NODE_FAILED, node="n", error=error),
            an_event(EventType.NODE_STARTED, node="n"),
        ],
        next=7,
    )
    assert runs_of(service, RUNNER).events("r1") == service.told
    page = runs_of(service, UNTOLD).events("r1")
    assert [event.type for event in page.events] == ["node.failed", "node.started"]
    assert page.events[0].data == {"node": "n", "error": {"type": "ValueError", "message": HIDDEN}}
    assert page.events[1].data == {"node": "n"}
    assert page.next == 7


def test_right_to_see_a_run_is_looked_up_once_for_a_stream_of_its_events(
    service: FakeRuns,
) -> None:
    runs = runs_of(service, RUNNER)
    for _ in range(3):
        runs.events("r1", after=3, limit=2, kind=EventType.LOG, wait_s=1)
    assert service.calls == ["get", "events", "events", "events"]
    assert service.asked[-1][1] == {"after": 3, "limit": 2, "kind": EventType.LOG, "wait_s": 1}


SNAPSHOT = Snapshot(
    content={
        "metadata": {"name": "probe"},
        "pipelines": [
            {"name": "train", "nodes": [{"inputs": ["cars@csv", "params:m.lr"], "outputs": ["x"]}]},
            {"name": "other", "nodes": [{"inputs": ["bikes", "params:o"], "outputs": []}]},
        ],
        "datasets": {"cars@csv": {}, "cars@parquet": {}, "x": {}, "bikes": {}},
        "parameters": ["m", "o"],
    }
)


def test_snapshot_has_the_callers_pipelines_and_what_they_read_and_write(
    service: FakeRuns,
) -> None:
    seen = runs_of(service, RUNNER).describe(SNAPSHOT)
    assert [each["name"] for each in seen["pipelines"]] == ["train"]
    assert [*seen["datasets"]] == ["cars@csv", "cars@parquet", "x"]
    assert seen["parameters"] == ["m"]
    assert seen["metadata"] == {"name": "probe"}
    assert runs_of(service, READER).describe(SNAPSHOT) == SNAPSHOT.content


def test_snapshot_has_all_parameters_where_a_pipeline_reads_all(service: FakeRuns) -> None:
    pipelines = [{"name": "train", "nodes": [{"inputs": ["parameters"], "outputs": []}]}]
    snapshot = Snapshot(content={**SNAPSHOT.content, "pipelines": pipelines})
    assert runs_of(service, RUNNER).describe(snapshot)["parameters"] == ["m", "o"]


def test_snapshot_that_cannot_be_made_says_why_to_who_may_see_it(service: FakeRuns) -> None:
    assert runs_of(service, RUNNER).snapshot() == ERROR
    assert runs_of(service, UNTOLD).snapshot() == ErrorDetail(type="ValueError", message=HIDDEN)
    service.described = SNAPSHOT
    assert runs_of(service, UNTOLD).snapshot() is SNAPSHOT
