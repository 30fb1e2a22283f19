"""What becomes of runs when servers are killed, stopped, cut off from the store, or share one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import do_without, require
from tests.postgresql import PostgreSQL
from tests.servers import (
    ANYONE,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    free_port,
    kedro_flask_server,
    start_command,
)

pytestmark = pytest.mark.once

LEASE_S = 3
GUNICORN_CONFIGURATION = Path(__file__).parents[2] / "docs" / "gunicorn.conf.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


Start = Callable[..., RunningServer]


@pytest.fixture
def start(project: Path, marks: Path) -> Start:
    def start(*options: str, **env: str) -> RunningServer:
        return kedro_flask_server(project, *options, PROBE_MARKS=str(marks), **env)

    return start


def marking(tag: str, seconds: float) -> dict[str, object]:
    return {"pipeline_names": ["mark"], "params": {"tag": tag, "seconds": seconds}}


def lines(marks: Path, tag: str) -> list[str]:
    path = marks / tag
    return path.read_text().splitlines() if path.exists() else []


def test_killed_servers_runs_are_told_truly_at_the_next_start(start: Start, marks: Path) -> None:
    with start("--workers", "1") as server, ThreadPoolExecutor(2) as clients:
        running = server.submit(**marking("running", 60))
        eventually(lambda: lines(marks, "running"))
        waiting = server.submit(**marking("waiting", 0))
        body = marking("plain", 0)
        plain = clients.submit(httpx.post, f"{server.url}/run", json=body, timeout=60)
        eventually(lambda: len(server.client.get("/runs").json()["runs"]) == 3)
        [plain_id] = {run["run_id"] for run in server.client.get("/runs").json()["runs"]} - {
            *(running, waiting)
        }
        server.stop(signal.SIGKILL)
        assert isinstance(plain.exception(), httpx.TransportError)
    with start("--workers", "1") as server:
        lost = server.show(running)
        assert (lost["status"], lost["error"]["type"]) == ("lost", "RunLost")  # type: ignore[index]
        assert server.show(waiting, wait=30)["status"] == "success"
        assert server.show(plain_id)["status"] == "cancelled"
    assert lines(marks, "running")[-1] != "end"
    assert lines(marks, "waiting") == ["begin", "end"]
    assert lines(marks, "plain") == []


def test_server_that_stops_leaves_the_queue_to_the_next_one(start: Start, marks: Path) -> None:
    with start("--workers", "1") as server:
        running = server.submit(**marking("running", 1))
        queued = [server.submit(**marking(f"queued-{n}", 0)) for n in range(3)]
        eventually(lambda: lines(marks, "running"))
        assert server.stop() == 0
    assert [lines(marks, f"queued-{n}") for n in range(3)] == [[]] * 3
    with start("--workers", "1") as server:
        assert server.show(running)["status"] == "success"
        assert {server.show(run_id, wait=30)["status"] for run_id in queued} == {"success"}
    assert [lines(marks, f"queued-{n}") for n in range(3)] == [["begin", "end"]] * 3


def test_run_that_outlasts_the_drain_time_is_recorded_for_what_it_is(
    start: Start, marks: Path
) -> None:
    with start(KEDRO_SERVER_DRAIN_TIMEOUT_S="0.5") as server:
        run_id = server.submit(**marking("long", 60))
        eventually(lambda: lines(marks, "long"))
        assert server.stop() == 1
    ended_at = time.time()
    with start() as server:
        run = server.show(run_id)
        assert (run["status"], run["error"]["type"]) == ("failure", "ServerStopped")  # type: ignore[index]
    assert float(lines(marks, "long")[-1]) < ended_at


def test_servers_share_a_store_and_one_sees_at_once_that_the_other_died(
    start: Start, marks: Path, postgresql_server: PostgreSQL
) -> None:
    url = postgresql_server.new_database()
    with (
        start("--workers", "1", KEDRO_SERVER_DATABASE_URL=url) as first,
        start("--workers", "1", KEDRO_SERVER_DATABASE_URL=url) as second,
    ):
        lost = first.submit(**marking("lost", 60))
        eventually(lambda: lines(marks, "lost"))
        spared = second.submit(**marking("spared", 60))
        eventually(lambda: lines(marks, "spared"))
        queued = first.submit(**marking("queued", 0))
        assert second.show(queued)["status"] == "queued"
        first.stop(signal.SIGKILL)
        killed_at = time.monotonic()
        eventually(lambda: second.show(lost)["status"] == "lost")
        assert time.monotonic() - killed_at < 5
        assert second.show(spared)["status"] == "running"
        second.client.post(f"/runs/{queued}/cancel")
        second.stop(signal.SIGKILL)


def elsewhere(project: Path, marks: Path, url: str) -> RunningServer:
    """Return a server that sees no process of this machine, as one on another machine."""
    unshare = [require("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        do_without("a namespace of processes can be made by root alone")
    port = free_port()
    command = [*unshare, *start_command("--port", str(port), "--workers", "1")]
    return RunningServer(
        command,
        cwd=project,
        url=f"http://127.0.0.1:{port}",
        env=shared(url) | {"PROBE_MARKS": str(marks)},
    )


def shared(url: str) -> dict[str, str]:
    return {"KEDRO_SERVER_DATABASE_URL": url, "KEDRO_SERVER_LEASE_S": str(LEASE_S)}


def wait_for_death(server: RunningServer) -> int:
    return server.process.wait(4 * LEASE_S)


@pytest.fixture(params=["processes"])
def machines(
    request: pytest.FixtureRequest,
    project: Path,
    marks: Path,
    start: Start,
    postgresql_server: PostgreSQL,
) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Return two servers on one database, each elsewhere to the other; the first is busy."""
    url = postgresql_server.new_database()
    with elsewhere(project, marks, url) as watching:
        watching.submit(**marking("busy", 60))  # so that it takes up nothing else
        eventually(lambda: lines(marks, "busy"))
        with start("--workers", "1", "--executor", request.param, **shared(url)) as server:
            yield watching, server
        watching.process.kill()


@pytest.mark.parametrize("machines", ["processes", "threads"], indirect=True)
def test_stopped_server_never_goes_on_with_what_is_lost(
    marks: Path, machines: tuple[RunningServer, RunningServer]
) -> None:
    watching, server = machines
    run_id = server.submit(**marking("stopped", 60))
    eventually(lambda: lines(marks, "stopped"))
    server.process.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    eventually(lambda: watching.show(run_id)["status"] == "lost")
    written = lines(marks, "stopped")
    assert LEASE_S / 2 < time.monotonic() - stopped_at < 2 * LEASE_S
    time.sleep(2 * LEASE_S - (time.monotonic() - stopped_at))
    server.process.send_signal(signal.SIGCONT)
    assert wait_for_death(server) == -signal.SIGALRM
    assert lines(marks, "stopped") == written
    assert watching.show(run_id)["status"] == "lost"


@pytest.mark.parametrize("machines", ["threads"], indirect=True)
def test_node_that_keeps_python_to_itself_does_not_outlive_its_lease(
    marks: Path, machines: tuple[RunningServer, RunningServer]
) -> None:
    watching, server = machines
    body = {"pipeline_names": ["hold"], "params": {"tag": "held", "seconds": 4 * LEASE_S}}
    run_id = server.submit(**body)
    assert wait_for_death(server) == -signal.SIGALRM
    eventually(lambda: watching.show(run_id)["status"] == "lost")
    assert lines(marks, "held") == ["begin"]


def test_paused_database_ends_a_server_that_executes_and_no_other(
    start: Start, marks: Path, postgresql_server: PostgreSQL
) -> None:
    settings = shared(postgresql_server.new_database())
    with start("--workers", "1", **settings) as server:
        run_id = server.submit(**marking("cut-off", 60))
        eventually(lambda: lines(marks, "cut-off"))
        with start("--workers", "1", **settings) as idle:
            postgresql_server.pause()
            try:
                assert wait_for_death(server) == -signal.SIGALRM
                written = lines(marks, "cut-off")
                started_at = time.monotonic()
                assert idle.client.post("/run", json={}).status_code == 503
                assert time.monotonic() - started_at < 5
                time.sleep(LEASE_S)
                assert idle.client.get("/health/ready").status_code == 503
            finally:
                postgresql_server.resume()
            eventually(lambda: idle.client.get("/health/ready").status_code == 200)
            eventually(lambda: idle.show(run_id)["status"] == "lost", 5)
            assert lines(marks, "cut-off") == written
            assert idle.run(**marking("later", 0))["status"] == "success"


def test_gil_and_sigstop_are_no_matter_on_one_machine(start: Start, marks: Path) -> None:
    with start("--workers", "2", KEDRO_SERVER_LEASE_S=str(LEASE_S)) as server, start() as other:
        body = {"pipeline_names": ["hold"], "params": {"tag": "held", "seconds": LEASE_S + 1}}
        held = server.submit(**body)
        eventually(lambda: lines(marks, "held"))
        assert other.show(held, wait=60)["status"] == "success"
        run_id = server.submit(**marking("stopped", 1))
        eventually(lambda: lines(marks, "stopped"))
        executing = server if "stopped" in open_marks(server, marks) else other
        executing.process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 1)
        executing.process.send_signal(signal.SIGCONT)
        assert other.show(run_id, wait=60)["status"] == "success"
    assert lines(marks, "stopped").count("begin") == 1


def open_marks(server: RunningServer, marks: Path) -> set[str]:
    """Return the names of the marks that a server's runs are at."""
    opened = psutil.Process(server.process.pid).open_files()
    return {Path(file.path).name for file in opened if Path(file.path).parent == marks}


def test_gunicorns_workers_share_the_queue_and_lose_nothing(project: Path, marks: Path) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "kedro_flask_server:create_http_server()"),
        *("--threads", "8", "--workers", "2", "--bind", f"127.0.0.1:{port}"),
        *("--config", str(GUNICORN_CONFIGURATION)),
    ]
    env = {"KEDRO_PROJECT_PATH": str(project), "PROBE_MARKS": str(marks), **ANYONE}
    env["KEDRO_SERVER_WORKERS"] = "1"
    url = f"http://127.0.0.1:{port}"
    with RunningServer(command, cwd=project, url=url, env=env) as server:
        run_ids = [server.submit(**marking(f"run-{n}", 0.2)) for n in range(8)]
        assert {server.show(run_id, wait=30)["status"] for run_id in run_ids} == {"success"}
        left = [server.submit(**marking(f"left-{n}", 0.5)) for n in range(6)]
        assert server.stop(timeout_s=60) == 0
    with RunningServer(command, cwd=project, url=url, env=env) as server:
        assert {server.show(run_id, wait=30)["status"] for run_id in left} == {"success"}
    for tag in [f"run-{n}" for n in range(8)] + [f"left-{n}" for n in range(6)]:
        assert (lines(marks, tag).count("begin"), lines(marks, tag)[-1]) == (1, "end")


def test_killed_servers_other_processes_write_nothing_more(start: Start, marks: Path) -> None:
    with start() as server:
        run_id = server.submit(**marking("parallel", 60), runner="ParallelRunner")
        eventually(lambda: lines(marks, "parallel"))
        server.stop(signal.SIGKILL)
    eventually(lambda: not opened_by_anybody(marks / "parallel"), 5)
    with start() as server:
        assert server.show(run_id)["status"] == "lost"
    assert lines(marks, "parallel")[-1] != "end"


def opened_by_anybody(path: Path) -> bool:
    def opens(process: psutil.Process) -> bool:
        try:
            return any(file.path == str(path) for file in process.open_files())
        except psutil.Error:
            return False

    return any(opens(process) for process in psutil.process_iter())
