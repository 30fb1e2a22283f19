"""Runs that outlive the request, over a real socket."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import fill, small_disk
from tests.integration.test_isolation import start
from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    kedro_flask_server,
)

ASYNC = {"Prefer": "respond-async"}
FIELDS = [
    *("run_id", "status", "position", "priority", "waiting_for", "request"),
    *("created_at", "started_at", "finished_at", "duration_ms", "cancel_requested_at"),
    *("progress", "error", "submitted_by", "has_locks", "warnings"),
    *("labels", "retry_of", "retried_by", "attempt", "project", "env"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


@pytest.fixture(scope="module", params=EXECUTORS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Return a server that the tests of this module share, for each executor."""
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("runs"))
    with start(project, KEDRO_SERVER_EXECUTOR=request.param) as server:
        yield server


def post(server: RunningServer, headers: dict[str, str] | None = None, **request) -> httpx.Response:
    return server.client.post("/run", json=request, headers=headers)


SLOW = {"pipeline_names": ["slow"], "params": {"seconds": 0.3}}


def test_respond_async_answers_at_once_with_the_run(served: RunningServer) -> None:
    response = post(served, ASYNC, **SLOW)
    run = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/runs/{run['run_id']}"
    assert response.headers["Preference-Applied"] == "respond-async"
    assert int(response.headers["Retry-After"]) > 0
    assert list(run) == FIELDS
    assert run["status"] in ("queued", "running")
    assert run["request"] == SLOW
    assert (run["project"], run["env"], run["progress"]) == ("probe", "local", None)

    waiting = served.client.get(response.headers["Location"])
    assert "Retry-After" in waiting.headers
    ended = served.client.get(response.headers["Location"], headers={"Prefer": "wait=30"})
    assert ended.headers["Preference-Applied"] == "wait=30"
    assert "Retry-After" not in ended.headers
    run = ended.json()
    assert (run["status"], run["error"]) == ("success", None)
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]
    assert run["duration_ms"] > 2_000


def test_respond_async_with_wait_answers_as_ever_if_the_run_ends_in_time(
    served: RunningServer,
) -> None:
    in_time = post(served, {"Prefer": "respond-async, wait=30"}, pipeline_names=["one"])
    assert (in_time.status_code, in_time.json()["status"]) == (200, "success")
    started_at = time.monotonic()
    late = post(served, {"Prefer": 'wait="1", Respond-Async'}, **SLOW)
    assert 1 <= time.monotonic() - started_at < 2.5
    assert late.status_code == 202
    assert late.headers["Preference-Applied"] == "respond-async, wait=1"


@pytest.mark.parametrize("value", ["wait=x", "respond-async=no", "x; y=z", ",;=,", "wait=-1", ""])
def test_preference_that_is_none_is_ignored(served: RunningServer, value: str) -> None:
    response = post(served, {"Prefer": value}, pipeline_names=["one"])
    assert (response.status_code, response.json()["status"]) == (200, "success")
    assert "Preference-Applied" not in response.headers


def test_strict_handling_makes_a_failed_run_an_error(served: RunningServer) -> None:
    strict = {"Prefer": "handling=strict"}
    failed = post(served, strict, pipeline_names=["fail"])
    assert failed.status_code == 500
    assert failed.headers["Preference-Applied"] == "handling=strict"
    assert set(failed.json()["error"]) == {"type", "message"}
    assert failed.json()["error"]["type"] == "ValueError"
    assert post(served, strict, pipeline_names=["one"]).status_code == 200
    assert post(served, {"Prefer": "handling=lenient"}, pipeline_names=["fail"]).status_code == 200


@pytest.mark.parametrize(
    ("pipeline", "node", "says"),
    [
        ("fail", "fail", "in fail"),
        ("no_file", "read_no_file", "DatasetError"),
        ("no_such_pipeline", None, "no_such_pipeline"),
    ],
)
def test_failed_run_names_its_node_and_keeps_its_traceback(
    served: RunningServer, pipeline: str, node: str | None, says: str
) -> None:
    run = served.show(served.submit(pipeline_names=[pipeline]), wait=30)
    error = run["error"]
    assert isinstance(error, dict)
    assert run["status"] == "failure"
    assert error["node"] == node
    assert says in error["traceback"]
    assert error["traceback"].startswith("Traceback")


def test_traceback_and_message_are_bounded_and_without_credentials(
    served: RunningServer,
) -> None:
    for what in ("recursion", "long", "url"):
        run = served.show(served.submit(pipeline_names=["fail"], params={"what": what}), wait=60)
        assert run["status"] == "failure"
        assert len(json.dumps(run)) < 60_000
        assert "canary" not in json.dumps(run["error"])


@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])
def test_cancel_stops_a_run_between_two_nodes(served: RunningServer, runner: str) -> None:
    run_id = served.submit(**SLOW, runner=runner)
    while served.show(run_id)["status"] == "queued":
        time.sleep(0.01)
    asked = served.client.post(f"/runs/{run_id}/cancel")
    assert asked.status_code == 202
    assert asked.json()["cancel_requested_at"] is not None
    assert asked.headers["Location"] == f"/runs/{run_id}"
    assert served.client.post(f"/runs/{run_id}/cancel").status_code == 202
    run = served.show(run_id, wait=30)
    assert run["status"] == "cancelled"
    assert run["cancel_requested_at"] == asked.json()["cancel_requested_at"]
    assert run["error"]["type"] == "RunCancelled"  # type: ignore[index]


def test_cancel_of_what_has_ended_or_is_not_there_is_refused(served: RunningServer) -> None:
    run_id = post(served, pipeline_names=["one"]).json()["run_id"]
    ended = served.client.post(f"/runs/{run_id}/cancel")
    assert (ended.status_code, run_id in ended.json()["detail"]) == (409, True)
    for strange in ("2020-01-01T00.00.00.000Z", "nope", "%00", "%ED%A0%80", "x" * 3000):
        for response in (
            served.client.get(f"/runs/{strange}"),
            served.client.post(f"/runs/{strange}/cancel"),
        ):
            assert response.status_code == 404
            assert isinstance(response.json()["detail"], str)


def test_same_key_is_the_same_run_and_its_answer(served: RunningServer) -> None:
    key = {"Idempotency-Key": "a-key"}
    first = post(served, key, **SLOW | {"params": {"seconds": 0.01}})
    again = post(served, key, **SLOW | {"params": {"seconds": 0.01}})
    assert first.json() == again.json()
    assert first.json()["status"] == "success"
    other = post(served, key, pipeline_names=["one"])
    assert other.status_code == 422
    assert other.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    found = served.client.get("/runs", params={"idempotency_key": "a-key"}).json()["runs"]
    assert [run["run_id"] for run in found] == [first.json()["run_id"]]
    for bad in ("", "x" * 256, "é".encode()):
        response = post(served, {"Idempotency-Key": bad}, pipeline_names=["one"])  # type: ignore[dict-item]
        assert response.status_code == 422, bad


@pytest.mark.once
def test_answer_that_is_a_replay_says_so(served: RunningServer) -> None:
    def is_replay(**headers: str) -> bool:
        response = post(served, {"Idempotency-Key": "a-replay", **headers}, pipeline_names=["one"])
        assert response.status_code in (200, 202)
        return response.headers.get("Idempotent-Replayed") == "true"

    first, again, later = is_replay(), is_replay(), is_replay(Prefer="respond-async")
    assert (first, again, later) == (False, True, True)
    plain = post(served, {}, pipeline_names=["one"])
    assert "Idempotent-Replayed" not in plain.headers


def test_same_key_two_hundred_times_at_once_is_one_run(served: RunningServer) -> None:
    def send(_: int) -> tuple[int, str | None]:
        headers = {**ASYNC, "Idempotency-Key": "crowd"}
        response = httpx.post(
            f"{served.url}/run", json={"pipeline_names": ["one"]}, headers=headers, timeout=60
        )
        return response.status_code, response.json().get("run_id")

    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(send, range(200)))
    assert {status for status, _ in answers} <= {200, 202, 409}
    assert len({run_id for _, run_id in answers if run_id}) == 1


def test_failed_and_cancelled_answers_are_replayed(served: RunningServer) -> None:
    failing = {"Idempotency-Key": "fails"}
    bodies = [post(served, failing, pipeline_names=["fail"]).json() for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert bodies[0]["error"]["type"] == "ValueError"

    cancelled = {"Idempotency-Key": "cancelled"}
    run_id = post(served, ASYNC | cancelled, **SLOW).json()["run_id"]
    served.client.post(f"/runs/{run_id}/cancel")
    body = post(served, cancelled, **SLOW).json()
    assert (body["status"], body["error"]["type"]) == ("failure", "RunCancelled")


def test_list_pages_through_all_runs_that_are_asked_for(served: RunningServer) -> None:
    post(served, pipeline_names=["fail"])
    sent = [post(served, pipeline_names=["twenty"]).json()["run_id"] for _ in range(5)]
    response = served.client.get("/runs", params={"pipeline": "twenty", "limit": 2})
    listed = [run["run_id"] for run in response.json()["runs"]]
    while response.json()["next"]:
        link = response.headers["Link"]
        assert link.endswith('>; rel="next"')
        response = served.client.get(link[1 : link.index(">")])
        listed += [run["run_id"] for run in response.json()["runs"]]
    assert listed == sent[::-1]
    assert "Link" not in response.headers
    both = served.client.get("/runs?status=success&status=failure&limit=200").json()["runs"]
    assert {run["status"] for run in both} == {"success", "failure"}
    for extreme in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-12:00"):
        assert served.client.get(f"/runs?since={extreme}&until={extreme}").status_code == 200
    moment = both[0]["created_at"]
    since = served.client.get("/runs", params={"since": moment}).json()["runs"]
    assert [run["run_id"] for run in since] == [both[0]["run_id"]]


def test_list_is_of_summaries_and_whole_where_that_is_asked_for(served: RunningServer) -> None:
    run_id = served.submit(pipeline_names=["fail"], params={"large": "x" * 100_000})
    whole = served.show(run_id, wait=30)

    def listed(query: str) -> dict:
        page = served.client.get(f"/runs?limit=1&pipeline=fail{query}").json()
        assert page["runs"][0]["run_id"] == run_id
        return page["runs"][0]

    summary = listed("")
    assert len(json.dumps(summary)) < 2_000
    assert summary.pop("pipelines") == ["fail"]
    error = {name: value for name, value in whole["error"].items() if name != "traceback"}
    expected = {name: value for name, value in whole.items() if name != "request"}
    assert summary == {**expected, "error": error}
    for query in ("&include=request,traceback", "&include=traceback&include=request"):
        assert listed(query) == whole
    assert listed("&include=request") == {**whole, "error": error}
    with_traceback = listed("&include=traceback")
    assert with_traceback["error"] == whole["error"]
    assert "request" not in with_traceback
    assert listed("&include=").keys() == listed("").keys()


@pytest.mark.parametrize(
    ("query", "kind", "name"),
    [
        ("status=done", "enum", "status"),
        ("limit=0", "value_error", "limit"),
        ("limit=201", "value_error", "limit"),
        ("limit=x", "int_parsing", "limit"),
        ("since=yesterday", "datetime_parsing", "since"),
        ("until=2024-13-01T00:00:00Z", "datetime_parsing", "until"),
        ("cursor=x", "value_error", "cursor"),
        ("cursor=2024-01-01T00.00.00.000Z%00", "value_error", "cursor"),
        ("stauts=queued", "extra_forbidden", "stauts"),
        ("include=requests", "enum", "include"),
        ("include=request&include=traceback,events", "enum", "include"),
    ],
)
def test_query_that_says_nothing_is_refused(
    served: RunningServer, query: str, kind: str, name: str
) -> None:
    response = served.client.get(f"/runs?{query}")
    assert response.status_code == 422
    [problem] = response.json()["detail"]
    assert problem["type"] == kind
    assert problem["loc"][:2] == ["query", name]


def test_query_with_strange_characters_finds_nothing(served: RunningServer) -> None:
    for value in ("%00", "%ED%A0%80", "x" * 5000, "'; DROP TABLE runs; --"):
        for name in ("pipeline", "idempotency_key"):
            response = served.client.get(f"/runs?{name}={value}")
            assert (response.status_code, response.json()["runs"]) == (200, []), (name, value)


def test_request_is_shown_in_json_that_everybody_reads(served: RunningServer) -> None:
    body = b'{"pipeline_names": ["one"], "params": {"tag": "\\ud800", "x": [NaN, -Infinity]}}'
    headers = {**ASYNC, "Content-Type": "application/json"}
    run_id = served.client.post("/run", content=body, headers=headers).json()["run_id"]
    shown = served.show(run_id, wait=30)["request"]
    params = {"tag": "\ud800", "x": ["NaN", "-Infinity"]}
    assert shown == {"pipeline_names": ["one"], "params": params}


def test_deep_parameters_are_stored_or_refused(served: RunningServer) -> None:
    for depth, status in ((60, 202), (64, 202), (65, 400), (501, 400)):
        body = b'{"pipeline_names":["one"],"params":' + b'{"a":' * (depth - 1) + b"1"
        body += b"}" * depth
        headers = {**ASYNC, "Content-Type": "application/json"}
        response = served.client.post("/run", content=body, headers=headers)
        assert response.status_code == status, depth
        if status == 202:
            assert served.show(response.json()["run_id"], wait=30)["status"] != "queued"


@pytest.mark.once
def test_queue_shows_positions_and_limits(project: Path) -> None:
    env = {"KEDRO_SERVER_MAX_QUEUED": "2", "KEDRO_SERVER_CONCURRENCY": '{"slow": 1}'}
    with kedro_flask_server(project, "--workers", "2", **env) as server:
        executing = server.submit(**SLOW)
        held_back = server.submit(**SLOW)
        passing = server.submit(pipeline_names=["one"])
        assert server.show(passing, wait=20)["status"] == "success"
        last = server.submit(**SLOW)
        assert [server.show(each)["position"] for each in (executing, held_back, last)] == [
            *(None, 1, 2)
        ]
        server.submit(**SLOW)  # there is a free worker, so that this is none too many
        refused = post(server, ASYNC, **SLOW)
        assert (refused.status_code, "max_queued" in refused.text) == (503, True)
        assert int(refused.headers["Retry-After"]) > 0
        cancelled = server.client.post(f"/runs/{held_back}/cancel").json()
        assert (cancelled["status"], cancelled["position"]) == ("cancelled", None)
        assert server.show(last)["position"] == 1


@pytest.mark.once
def test_long_wait_becomes_a_202(project: Path) -> None:
    with kedro_flask_server(project, KEDRO_SERVER_MAX_SYNC_WAIT_S="0.5") as server:
        response = post(server, **SLOW)
        assert response.status_code == 202
        assert "Preference-Applied" not in response.headers
        run_id = response.json()["run_id"]
        assert server.show(run_id, wait=60)["status"] == "running"
        while (run := server.show(run_id, wait=60))["status"] == "running":
            pass
        assert run["status"] == "success"


@pytest.mark.once
def test_run_that_takes_too_long_fails_between_two_nodes(project: Path) -> None:
    with kedro_flask_server(project, KEDRO_SERVER_RUN_TIMEOUT_S='{"slow": 0.5}') as server:
        body = post(server, **SLOW).json()
        assert (body["status"], body["error"]["type"]) == ("failure", "RunTimeout")
        assert body["duration_ms"] >= 500
        assert post(server, pipeline_names=["one"]).json()["status"] == "success"


@pytest.mark.once
def test_probes_say_whether_runs_can_be_taken_in(project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('a broken registry')\n")
    with kedro_flask_server(project, PROBE_BROKEN=str(broken)) as server:
        assert server.client.get("/health/live").json() == {"status": "alive"}
        eventually(lambda: "pipelines" in server.client.get("/health/ready").json()["detail"])
        assert server.client.get("/health/ready").status_code == 503
        broken.unlink()
        assert post(server, pipeline_names=["one"]).json()["status"] == "success"
        eventually(lambda: server.client.get("/health/ready").json() == {"status": "ready"})


@pytest.mark.once
def test_probe_says_when_the_server_stops(project: Path) -> None:
    with kedro_flask_server(project) as server, ThreadPoolExecutor(1) as clients:
        run_id = server.submit(**SLOW)
        while server.show(run_id)["status"] == "queued":
            time.sleep(0.01)
        stopping = clients.submit(server.stop)
        server.wait_for_line("Waiting up to")
        response = server.client.get("/health/ready")
        assert (response.status_code, "stopping" in response.json()["detail"]) == (503, True)
        assert server.client.get("/health/live").status_code == 200
        assert server.show(run_id, wait=30)["status"] == "success"
        assert stopping.result() == 0


@pytest.mark.once
def test_locked_store_refuses_runs_and_keeps_the_end_of_those_that_execute(
    project: Path,
) -> None:
    with kedro_flask_server(project, "--workers", "4") as server, ThreadPoolExecutor(8) as clients:
        run_id = server.submit(**SLOW)
        eventually(lambda: server.show(run_id)["status"] == "running")
        waiting = clients.submit(server.show, run_id, 60)
        lock = sqlite3.connect(project / ".kedro_server" / "runs.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")

        def refused(_: int) -> httpx.Response:
            started_at = time.monotonic()
            response = httpx.post(f"{server.url}/run", json={}, timeout=30)
            assert time.monotonic() - started_at < 5
            return response

        for response in clients.map(refused, range(6)):
            assert response.status_code == 503
            assert "locked" in response.json()["detail"] or "wait" in response.json()["detail"]
            assert response.headers["Retry-After"]
        assert server.client.get("/health/ready").status_code == 503
        assert server.client.get("/health/live").status_code == 200
        assert server.show(run_id)["status"] == "running"
        assert len(server.client.get("/runs").json()["runs"]) == 1
        time.sleep(2.5)  # the run ends meanwhile, and its end cannot be stored
        lock.close()
        ended = clients.submit(server.show, run_id, 30).result()
        assert ended["status"] == "success"
        assert waiting.result()["status"] in ("running", "success")
        assert post(server, pipeline_names=["one"]).json()["status"] == "success"
        assert server.client.get("/health/ready").status_code == 200


@pytest.mark.once
def test_full_disk_refuses_runs_and_keeps_the_end_of_those_that_execute(
    project: Path, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk", "1m") as disk,
        kedro_flask_server(project, KEDRO_SERVER_STATE_DIR=str(disk / "state")) as server,
        ThreadPoolExecutor(2) as clients,
    ):
        run_id = server.submit(**SLOW)
        waiting = clients.submit(post, server, **SLOW)
        while len(server.client.get("/runs?status=running").json()["runs"]) < 2:
            time.sleep(0.01)
        ballast = fill(disk)
        large = {"params": {"x": "y" * 500_000}}
        started_at = time.monotonic()
        refused = post(server, ASYNC, **large)
        assert time.monotonic() - started_at < 5
        assert (refused.status_code, "full" in refused.json()["detail"]) == (503, True)
        assert server.client.get("/health/ready").status_code == 503
        assert server.show(run_id)["status"] == "running"
        told = waiting.result(20)  # its end is stored, or it is told where to ask for it
        assert told.status_code in (200, 202)
        ballast.unlink()
        assert server.show(run_id, wait=20)["status"] == "success"
        assert server.show(told.json()["run_id"], wait=20)["status"] == "success"
        assert post(server, pipeline_names=["one"]).json()["status"] == "success"
