"""Whose turn it is, what a run waits for, and what is paused, over HTTP and on the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from kedro_flask_server.client import Client, RequestRefusedError, RunStatus, WaitReason
from tests.postgresql import PostgreSQL
from tests.servers import (
    RunningServer,
    call,
    eventually,
    kedro_flask_server,
)

pytestmark = pytest.mark.once

SECONDS = 1.5
KEYS: dict[str, dict[str, Any]] = {
    "admin": {"scopes": ["admin"]},
    "reader": {"scopes": ["read"]},
    "runner": {"scopes": ["run"]},
    "urgent": {"scopes": ["run"], "max_priority": 50},
    "limited": {"scopes": ["read", "run", "admin"], "pipelines": ["idle"]},
}
ACTIVE = {"pipeline": "idle", "status": ["queued", "running"]}
Serve = Callable[..., RunningServer]


@pytest.fixture
def serve(serve_trainings: Serve) -> Serve:
    """Return what starts a server of one worker, unless settings say otherwise."""
    return partial(serve_trainings, **{"executor": "threads", "workers": "1"})


def submit(
    server: RunningServer, pipeline: str = "idle", *, seconds: float = SECONDS, **query: object
) -> str:
    response = server.client.post(
        "/run",
        json={"pipeline_names": [pipeline], "params": {"seconds": seconds}},
        params=query,
        headers={"Prefer": "respond-async"},
    )
    assert response.status_code == 202, response.text
    run_id: str = response.json()["run_id"]
    return run_id


def waiting_for(server: RunningServer, run_id: str) -> dict[str, Any]:
    found: Any = server.show(run_id)["waiting_for"]
    return dict(found)


def order_of_starts(server: RunningServer, *run_ids: str) -> list[str]:
    """Wait for the end of runs, and return them in the order in which they started."""
    ended = {each: server.show(each, wait=30) for each in run_ids}
    assert {str(run["status"]) for run in ended.values()} == {"success"}
    return sorted(run_ids, key=lambda each: str(ended[each]["started_at"]))


def test_highest_priority_is_next_also_by_pipeline(serve: Serve) -> None:
    server = serve(priorities='{"move": -10, "report": 30}')
    executing = submit(server)
    low, plain = submit(server, "move"), submit(server)
    high, highest = submit(server, priority=20), submit(server, "report")
    assert [server.show(each)["priority"] for each in (low, plain, high, highest)] == [
        -10,
        0,
        20,
        30,
    ]
    assert [server.show(each)["position"] for each in (highest, high, plain, low)] == [1, 2, 3, 4]
    assert waiting_for(server, low) == {"reason": "slot"}
    others = (low, plain, high, highest)
    assert order_of_starts(server, executing, *others) == [executing, highest, high, plain, low]


def test_priority_that_is_none_is_refused(serve: Serve) -> None:
    server = serve()
    for priority in ("101", "-101", "x", "1.5", ""):
        refused = server.client.post("/run", json={}, params={"priority": priority})
        assert refused.status_code == 422, priority
        assert refused.json()["detail"][0]["loc"] == ["query", "priority"]
    header = {"Priority": "u=0", "Prefer": "respond-async"}
    run = server.client.post("/run", json={"pipeline_names": ["idle"]}, headers=header).json()
    assert run["priority"] == 0


def test_pipelines_share_a_pool(serve: Serve) -> None:
    pools = {"gpu": {"slots": 1, "pipelines": {"idle": 1, "move": 1}}}
    server = serve(workers="4", pools=json.dumps(pools))
    first, second = submit(server), submit(server, "move")
    other = submit(server, "report")
    assert waiting_for(server, second) == {"reason": "pool", "pool": "gpu"}
    assert server.client.get("/queue").json()["pools"]["gpu"] == {**pools["gpu"], "used": 1}
    assert order_of_starts(server, first, second, other) == [first, other, second]


def test_pool_is_shared_by_servers_and_the_last_one_to_start_sets_it(
    serve: Serve, postgresql_server: PostgreSQL
) -> None:
    url = postgresql_server.new_database()
    one = serve(database_url=url, workers="2", concurrency='{"idle": 1}')
    first = submit(one, seconds=20)  # longer than the other takes to start
    other = serve(database_url=url, workers="2", concurrency='{"idle": 2}')
    other.wait_for_line("have changed, for all its servers: concurrency of 'idle' from 1 to 2")
    second, third = submit(other, seconds=3), submit(one, seconds=0)
    eventually(lambda: other.show(second)["status"] == "running")
    assert waiting_for(one, third) == {"reason": "limit", "pipeline": "idle"}
    assert order_of_starts(one, first, second, third) == [first, second, third]


def test_paused_queue_takes_runs_in_and_starts_none(serve: Serve) -> None:
    server = serve(workers="2")
    paused = server.client.post("/queue/pause", json={"pipeline": "idle"})
    assert (paused.status_code, paused.json()["paused_pipelines"]) == (200, ["idle"])
    held, other = submit(server), submit(server, "report")
    assert waiting_for(server, held) == {"reason": "paused", "pipeline": "idle"}
    assert server.show(other, wait=20)["status"] == "success"
    state = server.client.get("/queue").json()
    assert (state["paused"], state["queued"], state["waiting"]) == (False, 1, {"paused": 1})
    assert [run["run_id"] for run in state["runs"]] == [held]
    resumed = server.client.post("/queue/resume", json={"pipeline": "idle"})
    assert resumed.json()["paused_pipelines"] == []
    assert server.show(held, wait=20)["status"] == "success"
    events = server.client.get(f"/runs/{held}/events").json()["events"]
    run_events = [each["type"] for each in events if each["type"].startswith("run.")]
    assert run_events == [
        "run.queued",
        "run.waiting",
        "run.waiting",
        "run.started",
        "run.finished",
    ]


def test_pause_outlives_the_server_and_the_next_one_says_so(serve: Serve) -> None:
    first = serve()
    first.client.post("/queue/pause", json={"pipeline": None})
    held = submit(first)
    first.stop()
    second = serve()
    second.show(held)
    second.wait_for_line("Queued runs are paused: all pipelines")
    assert waiting_for(second, held) == {"reason": "paused"}
    second.client.post("/queue/resume", json={"pipeline": None})
    assert second.show(held, wait=20)["status"] == "success"


def test_pause_of_what_there_is_not_is_refused(serve: Serve) -> None:
    server = serve()
    submit(server)  # so that its pipelines are known
    for body in ({}, {"pipeline": 1}, {"pipeline": "x", "y": 1}):
        assert server.client.post("/queue/pause", json=body).status_code == 422, body
    unknown = server.client.post("/queue/pause", json={"pipeline": "x"})
    assert unknown.status_code == 404
    assert "idle" in unknown.json()["detail"]
    assert server.client.get("/queue").json()["paused_pipelines"] == []


def test_run_that_is_queued_for_too_long_fails_and_its_client_is_told(serve: Serve) -> None:
    server = serve(queue_timeout_s='{"idle": 0.5}')
    executing = submit(server, "report")
    waited = server.client.post("/run", json={"pipeline_names": ["idle"]})
    assert (waited.status_code, waited.json()["status"]) == (200, "failure")
    assert waited.json()["error"]["type"] == "QueueTimeout"
    assert waited.json()["duration_ms"] == 0
    assert server.show(executing, wait=20)["status"] == "success"
    server.client.post("/queue/pause", json={"pipeline": None})
    held, patient = submit(server), submit(server, "report")
    ended: Any = server.show(held, wait=20)
    assert (ended["status"], ended["error"]["type"]) == ("failure", "QueueTimeout")
    assert server.show(patient)["status"] == "queued"


def test_runs_are_cancelled_by_filter(serve: Serve) -> None:
    server = serve()
    executing, first, second = submit(server), submit(server), submit(server, "report")
    cancelled = server.client.post("/runs/cancel", params={"pipeline": "idle", "status": "queued"})
    assert (cancelled.status_code, cancelled.json()) == (202, {"run_ids": [first]})
    assert server.show(first)["status"] == "cancelled"
    everything = server.client.post("/runs/cancel", params={"status": ["queued", "running"]})
    assert everything.json() == {"run_ids": [executing, second]}
    assert server.show(executing, wait=20)["cancel_requested_at"] is not None
    for wrong in ({}, {"pipeline": "idle"}, {"status": "success"}, {"status": "queued", "x": "1"}):
        assert server.client.post("/runs/cancel", params=wrong).status_code == 422


@pytest.fixture
def guarded(trainings: Path, tmp_path: Path) -> Iterator[Callable[[str], httpx.Client]]:
    """Return what makes a client with one of the keys."""
    secrets = {name: f"kfs_{name}{'x' * 40}" for name in KEYS}
    entries = [
        {"name": name, "sha256": hashlib.sha256(secrets[name].encode()).hexdigest(), **KEYS[name]}
        for name in KEYS
    ]
    (tmp_path / "keys.yml").write_text(yaml.safe_dump(entries))
    env = {"KEDRO_SERVER_API_KEYS_FILE": str(tmp_path / "keys.yml")}
    env |= {"KEDRO_SERVER_EXECUTOR": "threads", "KEDRO_SERVER_WORKERS": "1"}
    with kedro_flask_server(trainings, **env) as server, ExitStack() as stack:

        def client(name: str) -> httpx.Client:
            headers = {"Authorization": f"Bearer {secrets[name]}"}
            made = httpx.Client(base_url=server.url, headers=headers, timeout=60)
            return stack.enter_context(made)

        yield client


def test_keys_limit_priorities_and_who_controls_the_queue(guarded) -> None:
    admin, reader, runner, urgent, limited = map(guarded, KEYS)
    body: dict[str, Any] = {"pipeline_names": ["idle"], "params": {"seconds": SECONDS}}
    later = {"Prefer": "respond-async"}

    def send(who: httpx.Client, **query: object) -> httpx.Response:
        return who.post("/run", json=body, params=query, headers=later)

    assert send(runner, priority=1).status_code == 403
    assert send(admin, priority=1).status_code == 403
    assert send(urgent, priority=51).status_code == 403
    mine, other = send(runner, priority=-5).json(), send(urgent, priority=50).json()
    assert other["priority"] == 50
    for path in ("/queue/pause", "/queue/resume"):
        for who in (reader, runner):
            assert who.post(path, json={"pipeline": None}).status_code == 403
        assert limited.post(path, json={"pipeline": None}).status_code == 403
        assert limited.post(path, json={"pipeline": "idle"}).status_code == 200
    assert runner.get("/queue").status_code == 403
    assert reader.get("/queue").json()["queued"] == 1
    admin.post("/queue/pause", json={"pipeline": "report"})
    assert limited.get("/queue").json()["paused_pipelines"] == []
    assert runner.post("/runs/cancel", params=ACTIVE).json() == {"run_ids": [mine["run_id"]]}
    assert admin.post("/runs/cancel", params=ACTIVE).json()["run_ids"]


def test_client_and_commands_see_and_control_the_queue(serve: Serve) -> None:
    server = serve()
    with Client(server.url) as client:
        client.submit({"pipeline_names": ["report"], "params": {"seconds": SECONDS}})
        low = client.submit({"pipeline_names": ["idle"]}, priority=-1)
        assert low.waiting_for is not None
        assert (low.priority, low.waiting_for.reason) == (-1, WaitReason.SLOT)
        assert client.pause("idle")["paused_pipelines"] == ["idle"]
        shown = call(server, "show", low.run_id).stdout
        assert "waiting for:      paused: pipeline idle" in shown
        assert "priority:         -1" in shown
        listed = call(server, "queue").stdout
        assert "paused:           idle" in listed
        assert f"{low.run_id} idle: " in listed
        assert json.loads(call(server, "queue", "--json").stdout)["waiting"] == {"paused": 1}
        assert "paused:           all pipelines, idle" in call(server, "pause").stdout
        assert "paused:           idle" in call(server, "resume").stdout
        done = call(server, "cancel", "--pipeline", "idle", "--status", "queued")
        assert done.stdout == f"Run {low.run_id} is being cancelled.\n1 runs match.\n"
        assert client.get(low.run_id).status is RunStatus.CANCELLED
        assert client.resume("idle")["paused_pipelines"] == []
        assert client.cancel_all(status=RunStatus.QUEUED) == []
        with pytest.raises(RequestRefusedError):
            client.pause("no_such")
        assert call(server, "cancel").returncode == 2
        assert call(server, "cancel", low.run_id, "--pipeline", "idle").returncode == 2
        ended = call(server, "run", "--pipeline", "idle", "--priority", "7", "--json")
        assert json.loads(ended.stdout.splitlines()[-1])["priority"] == 7


def test_pauses_are_in_the_audit(serve: Serve) -> None:
    server = serve()
    server.client.post("/queue/pause", json={"pipeline": "idle"})
    server.client.post("/queue/resume", json={"pipeline": "idle"})
    program = [sys.executable, "-m", "kedro", "server", "audit"]
    done = subprocess.run(
        program, cwd=server.cwd, env=server.env, capture_output=True, text=True, check=True
    )
    assert "queue.paused" in done.stdout
    assert "queue.resumed" in done.stdout
