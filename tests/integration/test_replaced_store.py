"""The store is deleted, replaced or restored below a server that runs."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import (
    PROJECTS,
    RunningServer,
    call,
    copy_project,
    eventually,
    kedro_flask_server,
)

pytestmark = pytest.mark.once

KEDRO = [sys.executable, "-m", "kedro"]
NOTICED_S = 15
"""Far above the two seconds that it takes: the machine may be busy."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


@pytest.fixture
def server(project: Path) -> Iterator[RunningServer]:
    with kedro_flask_server(project, KEDRO_SERVER_WORKERS="1") as running:
        yield running


def is_ready(server: RunningServer) -> bool:
    return server.client.get("/health/ready").status_code == 200


def short(server: RunningServer) -> str:
    run_id = server.submit(pipeline_names=["sleep"], params={"seconds": 0})
    assert server.show(run_id, wait=30)["status"] == "success"
    return run_id


def test_folder_that_is_deleted_is_made_again_and_who_waits_has_an_answer(
    server: RunningServer, project: Path
) -> None:
    long = {"pipeline_names": ["sleep"], "params": {"seconds": 6}}
    with ThreadPoolExecutor(2) as clients:
        executing = clients.submit(server.client.post, "/run", json=long)
        eventually(lambda: server.client.get("/runs?status=running").json()["runs"])
        queued = clients.submit(server.client.post, "/run", json=long)
        eventually(lambda: server.client.get("/runs?status=queued").json()["runs"])
        shutil.rmtree(project / ".kedro_server")
        deleted_at = time.monotonic()
        eventually(lambda: not is_ready(server), NOTICED_S)
        refused = server.client.post("/run", json=long, headers={"Prefer": "respond-async"})
        assert refused.status_code == 503
        assert "was deleted" in refused.json()["detail"]
        eventually(lambda: is_ready(server), NOTICED_S)
        assert time.monotonic() - deleted_at < NOTICED_S
        assert queued.result(60).status_code == 503
        assert executing.result(60).json()["status"] == "success"
    server.wait_for_line("was deleted or replaced: it is opened again")
    server.wait_for_line("its row is gone")
    run_id = short(server)
    assert [run["run_id"] for run in server.all_runs()] == [run_id]
    with sqlite3.connect(f"file:{project}/.kedro_server/runs.db?mode=ro", uri=True) as reader:
        assert reader.execute("SELECT run_id FROM runs").fetchall() == [(run_id,)]
    made = call(
        server, "server", "keys", "create", "a", "--scope", "admin", program=KEDRO, cwd=project
    )
    assert made.returncode == 0, made.stderr
    eventually(lambda: server.client.get("/runs").status_code == 401, NOTICED_S)


def test_file_that_is_restored_is_read_and_what_ran_when_it_was_copied_is_lost(
    server: RunningServer, project: Path
) -> None:
    path = project / ".kedro_server" / "runs.db"
    before = short(server)
    ran = server.submit(pipeline_names=["sleep"], params={"seconds": 1})
    eventually(lambda: server.show(ran)["status"] == "running")
    copy = project / "copy.db"
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    assert server.show(ran, wait=30)["status"] == "success"
    after = short(server)

    shutil.rmtree(path.parent)
    path.parent.mkdir()
    shutil.move(copy, path)
    eventually(lambda: server.client.get(f"/runs/{after}").status_code == 404, NOTICED_S)
    eventually(lambda: is_ready(server), NOTICED_S)
    assert server.show(before)["status"] == "success"
    assert server.show(ran)["status"] == "lost"
    assert {run["run_id"] for run in server.all_runs()} == {before, ran}
    short(server)
    assert server.stop() == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_left_out_of_an_ended_run_is_gone_from_the_files_within_a_minute(
    server: RunningServer, project: Path
) -> None:
    canary = "the-password-of-an-ended-run"
    request = {"seconds": 1, "db": {"password": canary}, "rest": "x" * 50_000}
    run_id = server.submit(pipeline_names=["sleep"], params=request)
    folder = project / ".kedro_server"

    def holders() -> list[str]:
        return [each.name for each in folder.iterdir() if canary.encode() in each.read_bytes()]

    assert holders()
    assert server.show(run_id, wait=30)["status"] == "success"
    eventually(lambda: not holders(), timeout_s=60)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
