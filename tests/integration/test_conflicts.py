"""Runs that use each other's files and versions, which none sees half-written or mixed."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.postgresql import PostgreSQL
from tests.servers import (
    EXECUTORS,
    RunningServer,
    eventually,
    kedro_flask_server,
)

WAIT = {"KEDRO_SERVER_DATASET_CONFLICTS": "wait"}
Serve = Callable[..., RunningServer]


@pytest.fixture
def project(trainings: Path) -> Path:
    return trainings


@pytest.fixture
def serve(serve_trainings: Serve) -> Serve:
    return serve_trainings


@pytest.fixture(params=EXECUTORS)
def server(request: pytest.FixtureRequest, serve: Serve) -> RunningServer:
    workers = "4" if request.param == "processes" else "8"
    return serve(executor=request.param, dataset_conflicts="wait", workers=workers)


def train(name: str, **params: Any) -> dict[str, Any]:
    return {"pipeline_names": [name], "params": params}


def send_mixed(
    servers: list[RunningServer], number: int, *, runners: list[str], clients: int
) -> Counter[str]:
    """Send trainings and evaluations at random, and return how they ended."""
    for name in ("seed", "versioned_seed"):
        assert servers[0].run(pipeline_names=[name])["status"] == "success"
    chance = random.Random(number)
    requests = [
        train(
            chance.choice(("", "versioned_")) + chance.choice(("train_a", "train_b", "evaluate")),
            tag=str(n),
        )
        | {"runner": chance.choice(runners)}
        for n in range(number)
    ]

    def send(at: int) -> str:
        ended = servers[at % len(servers)].run(**requests[at])
        error: Any = ended.get("error")
        return f"{error['type']}: {error['message']}" if error else str(ended["status"])

    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(send, range(number)))


def test_trainings_and_evaluations_never_see_a_mixed_pair(server: RunningServer) -> None:
    runners = ["SequentialRunner", "ThreadRunner"]
    assert send_mixed([server], 120, runners=runners, clients=16) == {"success": 120}


@pytest.mark.once
def test_no_pair_is_mixed_in_400_runs_with_any_runner(serve: Serve) -> None:
    server = serve(workers="6")
    runners = ["SequentialRunner", "ThreadRunner", "ParallelRunner"]
    assert send_mixed([server], 400, runners=runners, clients=16) == {"success": 400}


@pytest.mark.once
def test_no_pair_is_mixed_by_workers_that_are_used_again(serve: Serve) -> None:
    server = serve(workers="4", max_runs_per_worker="50")
    runners = ["SequentialRunner", "ThreadRunner"]
    assert send_mixed([server], 400, runners=runners, clients=16) == {"success": 400}


@pytest.mark.once
def test_two_servers_on_one_database_keep_out_of_each_others_way(
    serve: Serve, postgresql_server: PostgreSQL
) -> None:
    url = postgresql_server.new_database()
    servers = [serve(database_url=url, workers="3") for _ in range(2)]
    ends = send_mixed(servers, 200, runners=["SequentialRunner"], clients=16)
    assert ends == {"success": 200}


@pytest.mark.once
def test_ordinary_project_runs_100_times_and_none_is_broken(server: RunningServer) -> None:
    def send(_: int) -> object:
        return server.run()["status"]

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(send, range(100))) == {"success": 100}


@pytest.mark.once
def test_runs_are_broken_where_they_may_conflict(serve: Serve) -> None:
    """So that the tests here can fail at all."""
    server = serve(dataset_conflicts="allow", workers="4")
    ends = send_mixed([server], 200, runners=["SequentialRunner"], clients=16)
    broken = [each for each in ends if "mixed" in each or "Failed while loading" in each]
    assert broken
    assert not any("_versions" in each for each in broken)  # versions are safe all the same


def test_run_waits_for_the_one_that_writes_what_it_reads(server: RunningServer) -> None:
    server.run(pipeline_names=["seed"])
    training = server.submit(**train("train_a", seconds=1, tag="x"))
    evaluation = server.submit(pipeline_names=["evaluate"])
    waiting: Any = server.show(evaluation)["waiting_for"]
    assert (waiting["reason"], waiting["run_id"]) == ("dataset", training)
    assert waiting["dataset"] in ("a_model", "a_scaler")
    assert server.show(training)["has_locks"] is True
    other = server.submit(pipeline_names=["idle"])
    assert server.show(other, wait=20)["status"] == "success"
    assert server.show(evaluation)["status"] == "queued"
    assert server.show(evaluation, wait=20)["status"] == "success"
    events = server.client.get(f"/runs/{evaluation}/events").json()["events"]
    told = [each for each in events if each["type"] == "run.waiting"]
    assert told[0]["data"] == waiting


def test_folder_and_its_partitions_are_in_each_others_way(server: RunningServer) -> None:
    assert server.run(**train("report", tag="old"))["status"] == "success"
    first = server.submit(**train("report", seconds=1, tag="one"))
    second = server.submit(**train("report", seconds=0, tag="two"))
    summary = server.submit(pipeline_names=["summarize"])
    assert server.show(second, wait=20)["status"] == "success"  # another partition
    assert server.show(summary)["waiting_for"] == {
        "reason": "dataset",
        "dataset": "reports",
        "run_id": first,
    }
    assert server.show(summary, wait=20)["status"] == "success"
    found = json.loads((server.cwd / "data/summary.json").read_text())
    assert found == 3


def test_inference_goes_on_while_a_training_writes_new_versions(server: RunningServer) -> None:
    server.run(pipeline_names=["versioned_seed"])
    training = server.submit(**train("versioned_train_a", seconds=2, tag="new"))
    eventually(lambda: server.show(training)["status"] == "running")
    for _ in range(3):
        assert server.run(pipeline_names=["versioned_evaluate"])["status"] == "success"
    assert server.show(training)["status"] == "running"
    assert server.show(training, wait=20)["status"] == "success"


def test_dataset_that_a_run_writes_is_read_in_its_own_version(server: RunningServer) -> None:
    server.run(pipeline_names=["versioned_seed"])
    with ThreadPoolExecutor(8) as pool:
        ends = [*pool.map(lambda n: server.run(**train("versioned_both", tag=str(n))), range(40))]
    assert {each["status"] for each in ends} == {"success"}


def test_versions_that_the_request_gives_count(server: RunningServer) -> None:
    first = str(server.run(pipeline_names=["versioned_seed"])["run_id"])
    new = server.run(**train("versioned_train_a", tag="new"))
    assert new["status"] == "success"
    mixed = server.run(
        pipeline_names=["versioned_evaluate"], load_versions={"a_model_versions": first}
    )
    assert mixed["status"] == "failure"
    assert "mixed: the model of seed, the scaler of new" in str(mixed["error"])


def test_version_of_a_failed_run_is_the_latest_and_the_row_says_so(serve: Serve) -> None:
    server = serve()
    server.run(pipeline_names=["versioned_seed"])
    failed = str(server.run(**train("versioned_train_b", seconds="none"))["run_id"])
    for part in ("model", "scaler"):
        place = server.cwd / f"data/b/{part}_versions.json" / failed / f"{part}_versions.json"
        place.parent.mkdir()
        place.write_text(json.dumps({"tag": "left"}))
    evaluation = server.submit(pipeline_names=["versioned_evaluate"])
    ended: Any = server.show(evaluation, wait=20)
    assert ended["status"] == "success"
    assert [failed in each and "failure" in each for each in ended["warnings"]] == [True, True]
    strict = serve(skip_failed_versions="true")
    ended = strict.show(strict.submit(pipeline_names=["versioned_evaluate"]), wait=20)
    assert (ended["status"], ended["warnings"]) == ("success", [])


def test_what_exists_is_looked_for_as_kedro_does(server: RunningServer) -> None:
    server.run(pipeline_names=["versioned_seed"])
    before = sorted((server.cwd / "data/a/model_versions.json").iterdir())
    answer = server.run(pipeline_names=["versioned_both"], only_missing_outputs=True)
    assert answer["status"] == "success"
    assert sorted((server.cwd / "data/a/model_versions.json").iterdir()) == before


@pytest.mark.parametrize("executor", EXECUTORS)
def test_dataset_that_a_hook_moves_keeps_runs_apart_all_the_same(
    project: Path, executor: str
) -> None:
    place = str(project / "data/a/model.json")
    env = {**WAIT, "KEDRO_SERVER_EXECUTOR": executor, "TRAININGS_MOVED_TO": place}
    with kedro_flask_server(project, KEDRO_SERVER_WORKERS="4", **env) as server:
        server.run(pipeline_names=["seed"])
        training = server.submit(**train("train_a", seconds=1.5, tag="x"))
        eventually(lambda: server.show(training)["status"] == "running")
        moving = server.submit(**train("move", tag="y"))
        in_the_way = {"reason": "dataset", "dataset": "moved", "run_id": training}
        eventually(lambda: server.show(moving)["waiting_for"] == in_the_way)
        assert server.show(moving, wait=20)["status"] == "success"
        finished = {each: server.show(each)["finished_at"] for each in (training, moving)}
        assert str(finished[moving]) > str(finished[training])
        # What the hook does is known now: the next run waits without taking a slot.
        training = server.submit(**train("train_a", seconds=1, tag="x"))
        next_one = server.submit(**train("move", tag="y"))
        assert server.show(next_one)["started_at"] is None
        events = server.client.get(f"/runs/{next_one}/events").json()["events"]
        assert [each["type"] for each in events] == ["run.queued", "run.waiting"]


@pytest.mark.once
def test_run_is_refused_with_the_one_in_its_way(serve: Serve) -> None:
    server = serve(dataset_conflicts="refuse")
    server.run(pipeline_names=["seed"])
    training = server.submit(**train("train_a", seconds=1, tag="x"))
    refused = server.client.post("/run", json={"pipeline_names": ["evaluate"]})
    assert refused.status_code == 409
    assert refused.json()["run_id"] == training
    assert training in refused.json()["detail"]
    assert len(server.all_runs()) == 2
    assert server.show(training, wait=20)["status"] == "success"
    assert server.run(pipeline_names=["evaluate"])["status"] == "success"


def test_edited_catalog_is_known_before_a_run_is_refused(serve: Serve) -> None:
    server = serve(dataset_conflicts="refuse")
    server.run(pipeline_names=["seed"])
    assert server.run(pipeline_names=["evaluate"])["status"] == "success"
    catalog = server.cwd / "conf/base/catalog.yml"
    text = catalog.read_text().replace("data/{side}/{part}.json", "data/new/{side}_{part}.json")
    training = server.submit(**train("train_a", seconds=1.5, tag="x"))
    eventually(lambda: server.has_event(training, "node.started"))  # its catalog has been read
    catalog.write_text(text)
    answer = server.client.post("/run", json={"pipeline_names": ["seed"]})
    assert answer.json()["status"] == "success"
    assert server.show(training, wait=20)["status"] == "success"


@pytest.mark.once
def test_exempt_pipelines_neither_wait_nor_are_waited_for(serve: Serve) -> None:
    server = serve(workers="3", conflict_exempt_pipelines='["train_a"]')
    server.run(pipeline_names=["seed"])
    training = server.submit(**train("train_a", seconds=2, tag="x"))
    evaluation = server.submit(pipeline_names=["evaluate"])
    assert server.show(evaluation, wait=20)["status"] == "success"
    assert server.show(training)["status"] == "running"
    assert server.show(training)["has_locks"] is False


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("start_method", ["auto", pytest.param("spawn", marks=pytest.mark.once)])
def test_place_that_cannot_be_told_is_named_once_at_the_start(
    serve: Serve, executor: str, start_method: str
) -> None:
    server = serve(executor=executor, dataset_conflicts="wait", worker_start_method=start_method)
    server.show(server.submit(pipeline_names=["idle"]), wait=20)
    server.wait_for_line("because of 'queried'")
    assert server.run(pipeline_names=["query"])["status"] == "success"
    assert server.log.count("because of 'queried'") == 1


@pytest.mark.once
def test_run_goes_on_after_the_server_that_was_in_its_way_was_killed(
    project: Path, serve: Serve
) -> None:
    first = serve(workers="2")
    first.run(pipeline_names=["seed"])
    training = first.submit(**train("train_a", seconds=60, tag="x"))
    eventually(lambda: first.show(training)["status"] == "running")
    evaluation = first.submit(pipeline_names=["evaluate"])
    assert first.show(evaluation)["status"] == "queued"
    first.stop(signal.SIGKILL)
    second = serve(workers="2")
    assert second.show(evaluation, wait=20)["status"] == "success"
    assert second.show(training)["status"] == "lost"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_run_that_cannot_be_planned_fails_as_with_kedro(serve: Serve, executor: str) -> None:
    server = serve(executor=executor, dataset_conflicts="wait", workers="1")
    for body in ({"pipeline_names": ["no_such"]}, {"node_names": ["no_such"]}):
        assert server.run(**body)["error"]["type"] == "ValueError"
    catalog = server.cwd / "conf/base/catalog.yml"
    text = catalog.read_text()
    catalog.write_text(f"{text}\nbroken: [")
    assert server.run(pipeline_names=["idle"])["status"] == "failure"
    catalog.write_text(text)
    assert server.run(pipeline_names=["idle"])["status"] == "success"
