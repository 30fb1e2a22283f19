"""Runs at the same time keep apart: parameters, catalog, credentials, ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.servers import PROJECTS, RunningServer, copy_project, kedro_flask_server

PLAIN_LOGGING = str(PROJECTS / "plain_logging.yml")
CLIENTS = 16
RUNS = 200


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def start(project: Path, **env: str) -> RunningServer:
    """Return a server for many runs, which share its process if nothing else is said."""
    env = {"KEDRO_LOGGING_CONFIG": PLAIN_LOGGING, "KEDRO_SERVER_EXECUTOR": "threads", **env}
    return kedro_flask_server(project, "--workers", "8", **env)


def send_tagged_runs(server: RunningServer, count: int) -> list[dict[str, object]]:
    """Send runs from several clients, each run with a tag of its own."""

    def send(number: int) -> dict[str, object]:
        return server.run(params={"tag": f"tag-{number}"})

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(send, range(count)))


def check_tagged_runs(project: Path, answers: list[dict[str, object]]) -> None:
    """Check that every run succeeded, and wrote its own tag, once, everywhere."""
    assert [each for each in answers if each["status"] != "success"] == []
    assert len({each["run_id"] for each in answers}) == len(answers)
    written = {
        path.stem: json.loads(path.read_text()) for path in (project / "data/echo").iterdir()
    }
    assert written == {
        tag: dict.fromkeys(("parameter", "nested", "argument", "credential"), tag)
        for tag in (f"tag-{number}" for number in range(len(answers)))
    }


@pytest.mark.parametrize(
    ("loader", "count"),
    [
        pytest.param("", RUNS, marks=pytest.mark.once),
        ("", 50),
        pytest.param("OldArgumentsLoader", 50, marks=pytest.mark.once),
        pytest.param("OwnResolversLoader", 50, marks=pytest.mark.once),
        pytest.param("ForeignLoader", 50, marks=pytest.mark.once),
    ],
)
def test_runs_at_the_same_time_keep_their_own_parameters(
    project: Path, loader: str, count: int
) -> None:
    with start(project, PROBE_LOADER=loader) as server:
        check_tagged_runs(project, send_tagged_runs(server, count))


@pytest.mark.once
@pytest.mark.parametrize("loader", ["", "OldArgumentsLoader", "ForeignLoader"])
def test_caller_never_chooses_a_dataset_type(project: Path, loader: str) -> None:
    chosen = {"pipeline_names": ["chosen"], "params": {"type": "pickle.PickleDataset"}}
    harmless = {"pipeline_names": ["twenty"], "params": {"tag": "x"}}

    def send(number: int) -> dict[str, object]:
        return server.run(**(chosen if number % 2 else harmless))

    with (
        start(project, PROBE_LOADER=loader) as server,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        answers = list(clients.map(send, range(50)))
    refused = [each["error"]["type"] for each in answers[1::2]]  # type: ignore[index]
    assert refused == ["InterpolationResolutionError"] * 25
    assert {each["status"] for each in answers[::2]} == {"success"}
    assert not (project / "data/chosen.json").exists()


@pytest.mark.once
def test_snapshots_and_runs_keep_their_own_parameters(project: Path) -> None:
    def snapshot(number: int) -> str:
        query = {"params": f"tag=snap-{number}"}
        body = server.client.get("/snapshot", params=query).json()
        return str(body["datasets"]["echo"]["filepath"])

    with (
        start(project) as server,
        ThreadPoolExecutor(8) as clients,
    ):
        runs = clients.submit(send_tagged_runs, server, 50)
        paths = list(clients.map(snapshot, range(50)))
        check_tagged_runs(project, runs.result())
    assert paths == [f"data/echo/snap-{number}.json" for number in range(50)]


@pytest.fixture
def wide_open(project: Path) -> Iterator[RunningServer]:
    with start(project) as server:
        yield server


@pytest.mark.once
def test_versioned_saves_at_the_same_time_never_collide(
    project: Path, wide_open: RunningServer
) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(
            clients.map(lambda _: wide_open.run(pipeline_names=["versioned"]), range(80))
        )
    assert {each["status"] for each in answers} == {"success"}
    versions = {path.name for path in (project / "data/versioned.json").iterdir()}
    assert versions == {each["run_id"] for each in answers}


@pytest.mark.once
@pytest.mark.parametrize("runner", ["ParallelRunner", "probe.runners.OwnParallelRunner"])
def test_parallel_runner_never_hangs(wide_open: RunningServer, runner: str) -> None:
    def send(_: int) -> dict[str, object]:
        return wide_open.run(pipeline_names=["wide"], runner=runner)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(send, range(16)))
    assert {each["status"] for each in answers} == {"success"}


@pytest.mark.once
def test_parallel_runner_does_not_fork_where_it_is_told_to(project: Path) -> None:
    with kedro_flask_server(project, "--executor", "threads", KEDRO_MP_CONTEXT="fork") as server:
        server.wait_for_line("KEDRO_MP_CONTEXT=fork is not used")
        answer = server.run(pipeline_names=["wide"], runner="ParallelRunner")
    assert answer["status"] == "success"


def test_first_runs_at_the_same_time_find_the_pipelines(wide_open: RunningServer) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(
            clients.map(lambda n: wide_open.run(params={"tag": f"first-{n}"}), range(CLIENTS))
        )
    assert {each["status"] for each in answers} == {"success"}


@pytest.mark.once
def test_client_that_goes_away_does_not_stop_its_run(
    project: Path, wide_open: RunningServer
) -> None:
    body = {"pipeline_names": ["sleep", "__default__"], "params": {"tag": "gone", "seconds": 1.0}}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{wide_open.url}/run", json=body, timeout=0.3)
    wide_open.wait_for_line("succeeded in")
    assert (project / "data/echo/gone.json").exists()
