"""Pipelines with workers of their own: calls, the data that stays loaded, and newer data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from kedro_flask_server.client import Client, RequestRefusedError, RunFailedError
from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    call,
    copy_project,
    eventually,
    kedro_flask_server,
)

PRELOAD = {"preload": ["model", "scaler"], "poll_s": 0.3}
PLAIN = {"preload": ["plain_model", "plain_scaler"], "poll_s": 0.3}
QUICK = {"KEDRO_SERVER_CANCEL_GRACE_S": "0.5"}


def serve(project: Path, pipelines: dict[str, Any], *options: str, **env: str) -> RunningServer:
    """Return a server with served pipelines."""
    variable = {"KEDRO_SERVER_SERVED_PIPELINES": json.dumps(pipelines)}
    return kedro_flask_server(project, "--workers", "2", *options, **QUICK, **variable, **env)


def train(server: RunningServer, tag: int, pipeline: str = "training", **params: Any) -> str:
    """Run a training, and return its id."""
    run = server.run(pipeline_names=[pipeline], params={"tag": tag, **params})
    assert run["status"] == "success", run
    return str(run["run_id"])


def ask(
    server: RunningServer,
    row: dict[str, Any] | None = None,
    pipeline: str = "inference",
    **more: Any,
) -> httpx.Response:
    """Send one row to a pipeline."""
    headers = more.pop("headers", {})
    body = {"inputs": {"rows": [row or {"x": 1}]}, **more}
    return server.client.post(f"/pipelines/{pipeline}/run", json=body, headers=headers)


def tags(response: httpx.Response, output: str = "answer") -> tuple[int, int]:
    """Return the tags of model and scaler that an answer was made with."""
    assert response.status_code == 200, response.text
    [row] = response.json()["outputs"][output]
    return row["model"], row["scaler"]


def state(server: RunningServer, pipeline: str = "inference") -> dict[str, Any]:
    """Return what is served of a pipeline."""
    served: dict[str, Any] = server.client.get(f"/pipelines/{pipeline}").json()["served"]
    return served


def is_loaded(server: RunningServer, tag: int, pipeline: str = "inference") -> bool:
    """Return whether the data of a training answers."""
    response = ask(server, pipeline=pipeline)
    return response.status_code == 200 and tags(response) == (tag, tag)


def hooks(server: RunningServer) -> list[list[str]]:
    """Return the hooks that were called, each with what it was called for."""
    return [line.split()[:-1] for line in (server.cwd / "data/hooks.txt").read_text().splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "served", tmp_path)


@pytest.fixture(scope="module", params=EXECUTORS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Return a server that tests share, with a model that is loaded."""
    project = copy_project(PROJECTS / "served", tmp_path_factory.mktemp("served"))
    pipelines = {
        "inference": {**PRELOAD, "record": "failures"},
        "weighing": {"workers": 1, "record": "none"},
    }
    with serve(project, pipelines, KEDRO_SERVER_EXECUTOR=request.param) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1) and state(server, "weighing")["generation"])
        yield server


def test_call_is_answered_by_what_stays_loaded_and_is_no_run(served: RunningServer) -> None:
    before = len(served.client.get("/runs").json()["runs"])
    catalogs = sum(each[0] == "after_catalog_created" for each in hooks(served))
    response = ask(served, {"x": 7})
    assert response.json()["outputs"] == {"answer": [{"x": 7, "model": 1, "scaler": 1}]}
    run_id = response.headers["Kedro-Run-Id"]
    assert response.json()["run_id"] == run_id
    assert served.client.get(f"/runs/{run_id}").status_code == 404
    assert len(served.client.get("/runs").json()["runs"]) == before
    called = hooks(served)
    assert sum(each[0] == "after_catalog_created" for each in called) == catalogs
    at = called.index(["before_pipeline_run", run_id])
    assert [each[0] for each in called[at:]] == [
        "before_pipeline_run",
        *["after_dataset_loaded"] * 3,
        "before_node_run",
        "after_pipeline_run",
    ]
    assert not (served.cwd / "data/answer.json").exists()


def test_pipeline_shows_what_it_serves(served: RunningServer) -> None:
    before = state(served)
    for _ in range(3):
        assert ask(served).status_code == 200
    assert ask(served, {"do": "fail"}).status_code == 500
    now = state(served)
    assert now["generation"] >= 1
    assert now["fault"] is None
    assert now["versions"].keys() == {"model", "scaler"}
    assert now["calls"]["success"] - before["calls"]["success"] == 3
    assert now["calls"]["failure"] - before["calls"]["failure"] == 1
    assert 0 < now["latency_ms"]["p50"] <= now["latency_ms"]["p99"]
    assert served.client.get("/health/ready").json() == {"status": "ready"}
    assert served.client.get("/pipelines/training").json()["served"] is None


def test_page_shows_what_is_served(served: RunningServer) -> None:
    page = served.client.get("/ui/pipelines/inference")
    assert page.status_code == 200
    for text in ("Generation", "success", "p99", "workers", "Reload"):
        assert text in page.text


def test_failure_is_recorded_with_what_happened(served: RunningServer) -> None:
    response = ask(served, {"do": "fail"}, headers={"Run-Labels": "team=fraud"})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "ValueError"
    run_id = response.headers["Kedro-Run-Id"]
    run = served.show(run_id)
    assert (run["status"], run["labels"]) == ("failure", {"team": "fraud"})
    events = served.client.get(f"/runs/{run_id}/events").json()["events"]
    kinds = [event["type"] for event in events if event["type"] != "log"]
    assert kinds == [
        "run.queued",
        "run.started",
        "node.started",
        *["dataset.loaded"] * 3,
        "node.failed",
        "run.finished",
    ]
    shown = served.client.get(f"/runs/{run_id}", params={"include": "provenance"}).json()
    used = shown["provenance"]["datasets"]["model"]
    assert used["type"] == "pickle.PickleDataset"
    assert used["loaded"]["version"] == state(served)["versions"]["model"]
    retried = served.client.post(f"/runs/{run_id}/retry?wait=1", json={"from": "start"})
    assert retried.status_code == 201, retried.text


def test_invalid_request_is_a_422_and_nothing_ran(served: RunningServer) -> None:
    def weighed() -> int:
        return hooks(served).count(["before_node_run", "weigh"])

    before = weighed()
    assert ask(served, pipeline="weighing", inputs={"rows": 1, "y": 2}).status_code == 422
    assert ask(served, pipeline="weighing", outputs=["no"]).status_code == 422
    assert served.client.post("/pipelines/weighing/run", json={}).status_code == 422
    assert weighed() == before
    assert ask(served, pipeline="weighing").status_code == 200
    assert weighed() == before + 1


def test_call_with_parameters_gets_a_configuration_of_its_own(served: RunningServer) -> None:
    def bias(**more: Any) -> Any:
        [row] = ask(served, pipeline="weighing", **more).json()["outputs"]["weighed"]
        return row["bias"]

    assert bias() == 0.5
    assert bias(params={"bias": 2.0}) == 2.0
    assert bias() == 0.5
    assert not (served.cwd / "data/weighed.json").exists()


def test_what_is_recorded_anyway_is_an_ordinary_run(served: RunningServer) -> None:
    saved = ask(served, pipeline="weighing", save=True)
    assert json.loads((served.cwd / "data/weighed.json").read_text())[0]["bias"] == 0.5
    (served.cwd / "data/weighed.json").unlink()
    keyed = [ask(served, {"x": 5}, headers={"Idempotency-Key": "k5"}) for _ in range(2)]
    assert keyed[1].headers["Idempotent-Replayed"] == "true"
    later = ask(served, headers={"Prefer": "respond-async"})
    assert later.status_code == 202
    for response in (saved, *keyed, later):
        run = served.show(
            response.headers.get("Kedro-Run-Id") or response.json()["run_id"], wait=20
        )
        assert run["status"] == "success"
    assert tags(keyed[0]) == tags(keyed[1])
    loaded = state(served)["versions"]
    assert served.show(later.json()["run_id"])["request"]["load_versions"] == loaded  # type: ignore[index]


def test_large_output_has_an_address_and_so_a_record(served: RunningServer) -> None:
    small = ask(served, {"large": 100_000}).json()  # more than goes without a file
    assert len(small["outputs"]["answer"][0]["text"]) == 100_000
    assert served.client.get(f"/runs/{small['run_id']}").status_code == 404
    large = ask(served, {"large": 1_100_000}).json()
    address = large["outputs"]["answer"]
    assert len(served.client.get(address["href"]).json()[0]["text"]) == 1_100_000
    assert served.show(large["run_id"])["status"] == "success"
    files = sorted(path.name for path in (served.cwd / ".kedro_server/data").iterdir())
    assert not any(len(name) == 32 and not list(served.cwd.glob(f"**/{name}/*")) for name in files)


def test_hundreds_of_calls_at_once_get_their_own_data(served: RunningServer) -> None:
    def one(number: int) -> int:
        while True:
            response = ask(served, {"x": number})
            if response.status_code == 503:
                assert response.headers["Retry-After"]
                time.sleep(0.02)
                continue
            assert response.status_code == 200, response.text
            return int(response.json()["outputs"]["answer"][0]["x"])

    with ThreadPoolExecutor(40) as pool:
        assert [*pool.map(one, range(400))] == [*range(400)]


def test_client_calls_without_a_record(served: RunningServer) -> None:
    with Client(served.url) as client:
        called = client.call("inference", rows=[{"x": 3}])
        assert called.outputs["answer"] == [{"x": 3, "model": 1, "scaler": 1}]
        with pytest.raises(RunFailedError, match="no"):
            client.call("inference", rows=[{"do": "fail"}])
        kept = client.call("inference", rows=[{"x": 3}], idempotency_key="mine")
        assert client.get(kept.run_id).status == "success"


def test_paused_pipeline_takes_no_calls(served: RunningServer) -> None:
    served.client.post("/queue/pause", json={"pipeline": "inference"})
    try:
        response = ask(served)
        assert (response.status_code, "paused" in response.json()["detail"]) == (503, True)
        assert ask(served, pipeline="weighing").status_code == 200
    finally:
        served.client.post("/queue/resume", json={"pipeline": "inference"})
    assert ask(served).status_code == 200


def test_batch_run_of_the_same_pipeline_is_a_run(served: RunningServer) -> None:
    run = served.run(pipeline_names=["training"], params={"tag": 1})
    assert served.show(str(run["run_id"]))["status"] == "success"
    eventually(lambda: state(served)["versions"]["model"] == run["run_id"])


def test_first_training_gets_in_and_calls_are_refused_until_then(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        eventually(lambda: "there is nothing" in str(server.client.get("/health/ready").json()))
        refused = ask(server)
        assert (refused.status_code, "'model'" in refused.json()["detail"]) == (503, True)
        train(server, 4)
        eventually(lambda: is_loaded(server, 4))
        assert server.client.get("/health/ready").json() == {"status": "ready"}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_newer_data_is_loaded_as_one_set_and_no_call_is_dropped(
    project: Path, executor: str
) -> None:
    with serve(project, {"inference": PRELOAD}, KEDRO_SERVER_EXECUTOR=executor) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        seen: list[tuple[int, int]] = []
        is_over = threading.Event()

        def ask_again_and_again() -> None:
            while not is_over.is_set():
                seen.append(tags(ask(server)))

        askers = [threading.Thread(target=ask_again_and_again) for _ in range(2)]
        for each in askers:
            each.start()
        for tag in (2, 3):
            train(server, tag, seconds=0.7)  # the scaler is there long before the model
            eventually(lambda tag=tag: is_loaded(server, tag))  # type: ignore[misc]
        failed = server.run(pipeline_names=["training"], params={"tag": 9, "fails": True})
        assert failed["status"] == "failure"
        time.sleep(1)
        is_over.set()
        for each in askers:
            each.join()
        assert [*dict.fromkeys(seen)] == [(1, 1), (2, 2), (3, 3)]
        assert state(server)["generation"] == 3


@pytest.mark.once
def test_plain_files_are_loaded_once_nothing_writes_them(project: Path) -> None:
    with serve(project, {"plain_inference": PLAIN}) as server:
        train(server, 1, "plain_training")
        eventually(lambda: is_loaded(server, 1, "plain_inference"))
        run_id = server.submit(pipeline_names=["plain_training"], params={"tag": 2, "seconds": 2})
        seen = set()
        while server.show(run_id)["status"] != "success":
            seen.add(tags(ask(server, pipeline="plain_inference")))
        assert seen == {(1, 1)}
        eventually(lambda: is_loaded(server, 2, "plain_inference"))


def test_data_that_cannot_be_loaded_or_answer_leaves_what_there_was(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        good = train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        broken = train(server, 2)
        file = project / f"data/model.pkl/{broken}/model.pkl"
        # As soon as it can be loaded, which it could before this moment.
        file.write_bytes(b"no pickle")
        server.run(pipeline_names=["training"], params={"tag": 3})
        eventually(lambda: is_loaded(server, 3))
        newest = state(server)["versions"]["model"]
        refused = server.client.post(
            "/pipelines/inference/reload", json={"load_versions": {"model": broken}}
        )
        assert refused.status_code == 409, refused.text
        assert "DatasetError" in refused.json()["detail"]
        assert tags(ask(server)) == (3, 3)
        for wrong, says in (({"model": "2020"}, "no version"), ({"no": good}, "not preloaded")):
            refused = server.client.post(
                "/pipelines/inference/reload", json={"load_versions": wrong}
            )
            assert (refused.status_code, says in refused.json()["detail"]) == (409, True), (
                refused.text
            )
        # The catalog's example has no answer any more: what was loaded before stays.
        nodes = project / "src/served_models/nodes.py"
        assert state(server)["versions"]["model"] == newest
        catalog = project / "conf/base/catalog.yml"
        catalog.write_text(catalog.read_text().replace("[{x: 1}]", "[{do: fail}]"))
        train(server, 5)
        eventually(lambda: "examples" in (state(server)["fault"] or ""))
        assert tags(ask(server)) == (3, 3)
        warned = server.client.get("/health/ready")
        assert (warned.status_code, "examples" in warned.text) == (200, True)
        assert nodes.exists()


@pytest.mark.once
def test_reload_promotes_and_rolls_back_on_every_server(project: Path) -> None:
    settings = {"inference": {**PRELOAD, "reload": "manual", "record": "none"}}
    with serve(project, settings) as one, serve(project, settings) as other:
        first = train(one, 1)
        for server in (one, other):
            eventually(lambda server=server: is_loaded(server, 1))  # type: ignore[misc]
        second = train(one, 2)
        time.sleep(1)
        assert tags(ask(one)) == tags(ask(other)) == (1, 1)
        done = call(one, "reload", "inference")
        assert done.returncode == 0, done.stderr
        assert f"model: {second}" in done.stdout
        assert tags(ask(one)) == (2, 2)
        eventually(lambda: is_loaded(other, 2))
        both = {"model": first, "scaler": first}
        with Client(other.url) as client:
            assert client.reload("inference", both)["versions"] == both
            with pytest.raises(RequestRefusedError, match="no version"):
                client.reload("inference", {"model": "2000-01-01T00.00.00.000Z"})
        eventually(lambda: is_loaded(one, 1))
        one.stop(signal.SIGTERM)
        with serve(project, settings) as again:  # it follows what was asked for last
            eventually(lambda: is_loaded(again, 1))
        audit = call(other, "server", "audit", program=[sys.executable, "-m", "kedro"], cwd=project)
        assert audit.stdout.count("pipeline.reloaded") == 3  # the first start counts


@pytest.mark.once
def test_pinned_versions_stay_until_the_newest_are_asked_for(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        first = train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        pinned = {"load_versions": {"model": first, "scaler": first}}
        answer = server.client.post("/pipelines/inference/reload", json=pinned)
        assert answer.status_code == 200, answer.text
        assert answer.json()["pinned"] == pinned["load_versions"]
        train(server, 2)
        time.sleep(1)
        assert tags(ask(server)) == (1, 1)
        assert server.client.post("/pipelines/inference/reload").status_code == 200
        assert tags(ask(server)) == (2, 2)


@pytest.mark.once
def test_worker_that_dies_or_hangs_costs_its_call_alone(project: Path) -> None:
    limit = {"KEDRO_SERVER_RUN_TIMEOUT_S": json.dumps({"inference": 1})}
    with serve(project, {"inference": PRELOAD}, **limit) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        for _ in range(3):
            crashed = ask(server, {"do": "crash"})
            assert (crashed.status_code, crashed.json()["error"]["type"]) == (500, "WorkerCrashed")
            assert "exit code 3" in crashed.json()["error"]["message"]
            assert is_loaded(server, 1)
        began = time.monotonic()
        hung = ask(server, {"do": "sleep", "seconds": 60})
        assert (hung.status_code, hung.json()["error"]["type"]) == (504, "RunTimeout")
        assert time.monotonic() - began < 10
        assert is_loaded(server, 1)
        assert server.show(hung.headers["Kedro-Run-Id"])["status"] == "failure"
        generation = state(server)["generation"]
        [template] = [
            each
            for each in psutil.Process(server.process.pid).children()
            if each.nice() == psutil.Process(server.process.pid).nice() and each.children()
        ]
        template.kill()
        eventually(lambda: is_loaded(server, 1))
        assert state(server)["generation"] == generation


@pytest.mark.once
def test_client_that_is_gone_frees_its_worker(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "workers": 1}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        body = json.dumps({"inputs": {"rows": [{"do": "sleep", "seconds": 60}]}}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = (
                f"POST /pipelines/inference/run HTTP/1.1\r\nHost: {host}:{port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            eventually((project / "data/sleeping").exists)
        began = time.monotonic()
        eventually(lambda: is_loaded(server, 1))
        assert time.monotonic() - began < 10
        assert not (project / "data/slept").exists()
        assert state(server)["calls"]["cancelled"] == 1


@pytest.mark.once
def test_calls_beyond_the_limit_are_refused_and_those_that_wait_have_their_turn(
    project: Path,
) -> None:
    settings = {"inference": {**PRELOAD, "workers": 1, "max_waiting": 1}}
    with serve(project, settings) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(ask, server, {"do": "sleep", "seconds": 2})
            eventually(lambda: state(server)["executing"] == 1)
            second = pool.submit(ask, server, {"x": 2})
            eventually(lambda: state(server)["waiting"] == 1)
            refused = ask(server)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert "max_waiting" in refused.json()["detail"]
            assert first.result().status_code == second.result().status_code == 200
        assert state(server)["calls"]["refused"] >= 1


@pytest.mark.once
def test_keys_count_for_calls_as_for_runs(project: Path) -> None:
    secrets = {name: create_secret() for name in ("caller", "other", "boss")}
    keys = [
        {"name": "caller", "scopes": ["run"], "pipelines": ["inference"], "max_active": 1},
        {"name": "other", "scopes": ["run"], "pipelines": ["training"]},
        {"name": "boss", "scopes": ["admin"]},
    ]
    file = project.parent / "keys.yml"
    listed = [{**key, "sha256": hash_secret(secrets[str(key["name"])].encode())} for key in keys]
    file.write_text(yaml.safe_dump(listed))
    with serve(project, {"inference": PRELOAD}, KEDRO_SERVER_API_KEYS_FILE=str(file)) as server:
        bearer = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
        trained = server.client.post(
            "/run", json={"pipeline_names": ["training"]}, headers=bearer["boss"]
        )
        assert trained.json()["status"] == "success", trained.text
        eventually(lambda: ask(server, headers=bearer["caller"]).status_code == 200)
        assert ask(server, headers=bearer["other"]).status_code == 403
        assert ask(server).status_code == 401
        for who, code in (("caller", 403), ("other", 403), ("boss", 200)):
            path = "/pipelines/inference/reload"
            assert server.client.post(path, headers=bearer[who]).status_code == code
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(ask, server, {"do": "sleep", "seconds": 2}, headers=bearer["caller"])
            eventually((project / "data/sleeping").exists)
            assert ask(server, headers=bearer["caller"]).status_code == 429
            assert ask(server, headers=bearer["boss"]).status_code == 200
            assert slow.result().status_code == 200


@pytest.mark.once
def test_every_call_is_recorded_where_that_is_wanted(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "record": "all"}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        response = ask(server, {"x": 8}, headers={"Run-Labels": "a=b"})
        run_id = response.headers["Kedro-Run-Id"]
        run = server.show(run_id)
        assert (run["status"], run["progress"]) == ("success", {"done": 1, "total": 1})
        assert run["request"]["data"]["folder"] is None  # type: ignore[index]
        assert "content" not in json.dumps(run["request"])
        assert (
            server.client.get(f"/runs/{run_id}/outputs/answer").json()
            == response.json()["outputs"]["answer"]
        )
        events = server.client.get(f"/runs/{run_id}/events").json()["events"]
        assert [event["id"] for event in events] == [*range(1, len(events) + 1)]
        listed = server.client.get("/runs", params={"label": "a=b"}).json()["runs"]
        assert [each["run_id"] for each in listed] == [run_id]
        again = server.client.post(f"/runs/{run_id}/retry", json={})
        assert again.status_code == 409


@pytest.mark.once
def test_nodes_that_change_what_is_shared_are_found(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "check": True, "workers": 1}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        assert "was changed by a call" not in server.log
        assert ask(server, {"do": "change"}).status_code == 200
        eventually(lambda: "'model' was changed by a call" in server.log)
        assert "predict" in server.log


@pytest.mark.once
def test_batch_workers_yield_to_served_ones(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        own = os.getpriority(os.PRIO_PROCESS, server.process.pid)
        templates = psutil.Process(server.process.pid).children()
        assert sorted(each.nice() - own for each in templates) == [0, 10]
        served = next(each for each in templates if each.nice() == own)
        assert len(served.children()) == 2
        assert all(each.nice() == own for each in served.children())


@pytest.mark.once
def test_server_that_stops_lets_calls_end(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(ask, server, {"do": "sleep", "seconds": 1.5})
            eventually((project / "data/sleeping").exists)
            assert server.stop(signal.SIGTERM) == 0
            assert tags(slow.result()) == (1, 1)


@pytest.mark.once
def test_killed_server_leaves_no_worker(project: Path) -> None:
    with serve(project, {"inference": PRELOAD}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        below = psutil.Process(server.process.pid).children(recursive=True)
        server.stop(signal.SIGKILL)
        eventually(lambda: not any(each.is_running() for each in below))


def test_library_with_threads_has_each_worker_load_for_itself(project: Path) -> None:
    nodes = project / "src/served_models/hooks.py"
    nodes.write_text(nodes.read_text() + "\nimport polars\n\npolars.DataFrame({'a': [1]}).sum()\n")
    with serve(project, {"inference": PRELOAD}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1), 60)
        assert "it runs the threads" in server.log
        assert tags(ask(server)) == (1, 1)


@pytest.mark.once
def test_unknown_pipeline_and_bad_settings_are_refused(project: Path) -> None:
    bad = [{"inference": {"workers": 0}}, {"inference": {"colour": 1}}, ["inference"]]
    for settings in bad:
        variable = {"KEDRO_SERVER_SERVED_PIPELINES": json.dumps(settings)}
        with (
            pytest.raises(AssertionError, match="served_pipelines"),
            kedro_flask_server(project, **variable),
        ):
            pass
    with serve(project, {"inference": PRELOAD}) as server:
        missing = server.client.post("/pipelines/training/reload")
        assert (missing.status_code, "not served" in missing.json()["detail"]) == (404, True)
    with serve(project, {"inference": {**PRELOAD, "preload": ["modle"]}}) as server:
        eventually(lambda: "no dataset 'modle'" in str(server.client.get("/health/ready").json()))
        assert "no dataset 'modle'" in ask(server).json()["detail"]


@pytest.mark.once
def test_calls_that_wait_while_the_server_stops_are_told_so(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "workers": 1}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(ask, server, {"do": "sleep", "seconds": 3})
            eventually((project / "data/sleeping").exists)
            waiting = pool.submit(ask, server)
            eventually(lambda: state(server)["waiting"] == 1)
            server.process.send_signal(signal.SIGTERM)
            assert waiting.result().status_code == 503
            assert slow.result().status_code == 200


@pytest.mark.parametrize("executor", EXECUTORS)
def test_preloaded_data_is_copied_where_the_catalog_says_so(project: Path, executor: str) -> None:
    catalog = project / "conf/base/catalog.yml"
    copied = "  metadata: {kedro-flask-server: {copy_mode: deepcopy}}\n"
    catalog.write_text(catalog.read_text().replace("data/model.pkl\n", f"data/model.pkl\n{copied}"))
    settings = {"inference": {**PRELOAD, "check": True, "workers": 1}}
    with serve(project, settings, KEDRO_SERVER_EXECUTOR=executor) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        assert ask(server, {"do": "change"}).status_code == 200
        assert is_loaded(server, 1)
        assert "was changed by a call" not in server.log


@pytest.mark.once
def test_small_limit_of_answers_counts_for_calls(project: Path) -> None:
    limit = {"KEDRO_SERVER_MAX_INLINE_OUTPUT_BYTES": "10"}
    with serve(project, {"inference": {**PRELOAD, "record": "none"}}, **limit) as server:
        train(server, 1)
        eventually(lambda: ask(server).status_code == 200)
        answer = ask(server, {"x": 2}).json()
        address = answer["outputs"]["answer"]
        assert address.keys() == {"href", "media_type", "size"}
        assert server.client.get(address["href"]).json() == [{"x": 2, "model": 1, "scaler": 1}]
        assert server.show(answer["run_id"])["status"] == "success"


@pytest.mark.once
def test_what_one_call_gives_changes_nothing_for_the_next(project: Path) -> None:
    (project / "data/lookup.csv").write_text("x;name\n1;stored\n")
    with serve(project, {"looking_up": {"workers": 1}}) as server:
        eventually(lambda: ask(server, pipeline="looking_up").status_code == 200)
        origin = {"Origin": server.url}

        def names() -> list[str]:
            [row] = ask(server, pipeline="looking_up").json()["outputs"]["named"]
            return [row["name"]]

        for given in ("given", "another"):
            assert names() == ["stored"]
            parts = {
                "lookup": ("a.csv", f"x;name\n1;{given}\n", "text/csv"),
                "rows": ("rows.json", json.dumps([{"x": 1}]), "application/json"),
            }
            path = "/pipelines/looking_up/run"
            answer = server.client.post(path, files=parts, headers=origin)
            assert answer.json()["outputs"]["named"] == [{"x": 1, "name": given}], answer.text
        eventually(lambda: not [*(project / ".kedro_server/data").glob("*/*")])


@pytest.mark.once
def test_bytes_that_are_no_text_are_a_422(project: Path) -> None:
    with serve(project, {"looking_up": {}, "weighing": {}}) as server:
        eventually(lambda: ask(server, pipeline="weighing").status_code == 200)
        answer = server.client.post(
            "/pipelines/weighing/run",
            content=b'{"inputs": {"rows": ["\xff\xfe"]}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, answer.text


@pytest.mark.once
def test_versions_of_a_training_that_goes_on_are_not_used_by_calls(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "preload": ["model"]}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        run_id = server.submit(pipeline_names=["training"], params={"tag": 2, "seconds": 2})
        seen = set()
        while True:
            found = tags(ask(server))
            if server.show(run_id)["status"] == "success":
                break  # by then the scaler may be the newest
            seen.add(found)
        assert seen == {(1, 1)}
        eventually(lambda: is_loaded(server, 2))


@pytest.mark.once
def test_what_fails_for_a_moment_is_loaded_later(project: Path) -> None:
    catalog = project / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text().replace("[{x: 1}]", "[{do: fail_once}]"))
    with serve(project, {"inference": {**PRELOAD, "workers": 1}}) as server:
        train(server, 1)
        eventually(lambda: "not yet" in (state(server)["fault"] or ""))
        eventually(lambda: is_loaded(server, 1))
        assert state(server)["fault"] is None


@pytest.mark.once
def test_version_that_is_long_gone_by_can_be_asked_for(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "preload": ["model"]}}) as server:
        first = train(server, 1)
        for number in range(60):
            newer = project / f"data/model.pkl/2030-01-01T00.00.00.{number:03d}Z"
            shutil.copytree(project / f"data/model.pkl/{first}", newer)
        pinned = {"load_versions": {"model": first}}
        done = server.client.post("/pipelines/inference/reload", json=pinned)
        assert done.json()["versions"] == {"model": first}, done.text
        time.sleep(1)
        assert state(server)["versions"] == {"model": first}
        assert state(server)["fault"] is None


@pytest.mark.once
def test_reason_is_hidden_from_callers_who_see_no_messages(project: Path) -> None:
    hidden = {"KEDRO_SERVER_EXPOSE_ERROR_MESSAGES": "false"}
    version = project / "data/model.pkl/by hand/model.pkl"
    version.parent.mkdir(parents=True)
    version.write_bytes(b"no pickle")
    os.utime(version, (0, 0))
    with serve(project, {"inference": {**PRELOAD, "preload": ["model"]}}, **hidden) as server:
        eventually(lambda: "could not load" in server.log and "pickle" in server.log)
        eventually(lambda: state(server)["fault"] != "it is being loaded.")
        assert "pickle" not in str(state(server)["fault"])
        refused = ask(server)
        assert (refused.status_code, "pickle" in refused.text) == (503, False)


@pytest.mark.once
def test_reload_takes_up_what_the_configuration_says_now(project: Path) -> None:
    with serve(project, {"weighing": {"workers": 1}}) as server:
        eventually(lambda: ask(server, pipeline="weighing").status_code == 200)
        parameters = project / "conf/base/parameters.yml"
        parameters.write_text(parameters.read_text().replace("bias: 0.5", "bias: 0.75"))
        assert server.client.post("/pipelines/weighing/reload").status_code == 200
        [row] = ask(server, pipeline="weighing").json()["outputs"]["weighed"]
        assert row["bias"] == 0.75


@pytest.mark.once
def test_worker_that_cannot_load_answers_no_call(project: Path) -> None:
    settings = {"plain_inference": {**PLAIN, "workers": 1, "reload": "manual"}}
    spawn = {"KEDRO_SERVER_WORKER_START_METHOD": "spawn"}
    with serve(project, settings, **spawn) as server:
        train(server, 1, "plain_training")
        eventually(lambda: is_loaded(server, 1, "plain_inference"), 60)
        train(server, 2, "plain_training")  # nobody has asked for it
        crashed = ask(server, {"do": "crash"}, pipeline="plain_inference")
        assert crashed.json()["error"]["type"] == "WorkerCrashed"
        refused = ask(server, pipeline="plain_inference")
        assert refused.status_code == 500, refused.text
        assert "has changed since it was chosen" in refused.json()["error"]["message"]
        assert server.client.post("/pipelines/plain_inference/reload").status_code == 200
        assert tags(ask(server, pipeline="plain_inference")) == (2, 2)


@pytest.mark.once
def test_calls_are_refused_at_once_where_no_worker_can_load(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "workers": 1, "reload": "manual"}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        shutil.rmtree(project / "data/model.pkl")
        [template] = [
            each
            for each in psutil.Process(server.process.pid).children()
            if each.nice() == psutil.Process(server.process.pid).nice()
        ]
        template.kill()
        eventually(lambda: "could not load" in (state(server)["fault"] or ""), 60)
        began = time.monotonic()
        refused = ask(server)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5"), refused.text
        assert time.monotonic() - began < 1
        assert "'model' is not there" in str(server.client.get("/health/ready").json()["warnings"])


def test_other_forms_and_runners_leave_nothing_behind(project: Path) -> None:
    with serve(project, {"inference": {**PRELOAD, "record": "none"}}) as server:
        train(server, 1)
        eventually(lambda: is_loaded(server, 1))
        for more in ({"headers": {"Accept": "text/csv, */*;q=0.1"}}, {"runner": "ParallelRunner"}):
            answer = ask(server, **more)
            assert answer.status_code == 200, answer.text
            assert server.client.get(f"/runs/{answer.json()['run_id']}").status_code == 404
        assert not [*(project / ".kedro_server/data").glob("*")]
