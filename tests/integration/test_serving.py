"""``kedro server start``: what it prints, how it ends, what it refuses, and reloading."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.test_limits import send_sleeping_run
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    eventually,
    free_port,
    kedro_flask_server,
    read_where,
    refused_start,
    start_command,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def wait_for_file(folder: Path) -> None:
    ends_at = time.monotonic() + 30
    while not any(folder.iterdir()):
        assert time.monotonic() < ends_at
        time.sleep(0.01)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.once)]
)
def test_signal_lets_the_run_under_way_end(project: Path, tmp_path: Path, number: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with (
        kedro_flask_server(project, "--workers", "1", PROBE_MARKS=str(marks)) as server,
        ThreadPoolExecutor(4) as clients,
    ):
        executing = clients.submit(send_sleeping_run, server, 2)
        wait_for_file(marks)
        waiting = clients.submit(send_sleeping_run, server, 2)
        time.sleep(0.3)  # for the second request to arrive
        stopping = clients.submit(server.stop, number)
        assert waiting.result().status_code == 503
        late = send_sleeping_run(server, 2)
        assert late.status_code == 503
        assert late.headers["Retry-After"]
        assert executing.result().json()["status"] == "success"
        assert stopping.result() == 0
    assert "all runs had ended" in server.log


@pytest.mark.once
def test_server_works_on_for_the_shutdown_delay_and_says_that_it_stops(project: Path) -> None:
    with (
        kedro_flask_server(project, KEDRO_SERVER_SHUTDOWN_DELAY_S="3") as server,
        ThreadPoolExecutor(1) as clients,
    ):
        assert "Connection" not in server.client.get("/health").headers
        began = time.monotonic()
        stopping = clients.submit(server.stop)
        eventually(lambda: server.client.get("/health/ready").status_code == 503)
        answer = server.client.post("/run", json={"pipeline_names": ["one"]})
        assert answer.json()["status"] == "success"
        assert answer.headers["Connection"] == "close"
        assert stopping.result() == 0
        assert time.monotonic() - began >= 3


@pytest.mark.once
def test_run_that_outlasts_the_drain_time_is_cut_off(project: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with (
        kedro_flask_server(
            project, PROBE_MARKS=str(marks), KEDRO_SERVER_DRAIN_TIMEOUT_S="0.5"
        ) as server,
        ThreadPoolExecutor(1) as clients,
    ):
        executing = clients.submit(send_sleeping_run, server, 60)
        wait_for_file(marks)
        started_at = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - started_at < 5
        assert executing.result().json()["error"]["type"] == "ServerStopped"


@pytest.mark.once
def test_second_signal_ends_the_server_at_once(project: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with (
        kedro_flask_server(project, PROBE_MARKS=str(marks)) as server,
        ThreadPoolExecutor(1) as clients,
    ):
        executing = clients.submit(send_sleeping_run, server, 60)
        wait_for_file(marks)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting up to")
        time.sleep(0.6)  # a second signal sooner than half a second is the first again
        assert server.stop(signal.SIGTERM, timeout_s=5) == 1
        with pytest.raises(httpx.TransportError):
            executing.result()


@pytest.mark.once
def test_idle_server_stops_at_once_and_frees_its_port(project: Path) -> None:
    port = str(free_port())
    for _ in range(2):
        with kedro_flask_server(project, "--port", port) as server:
            assert server.url == f"http://127.0.0.1:{port}"
            assert server.stop(timeout_s=5) == 0


@pytest.mark.once
def test_start_says_what_it_serves_and_where(project: Path) -> None:
    with kedro_flask_server(project, "--env", "prod") as server:
        server.wait_for_line("Stop with Ctrl-C")
        assert f"probe ({project})" in server.log
        assert "Environment:   prod" in server.log
        assert f"API reference: {server.url}/docs" in server.log
        assert server.run(pipeline_names=["where"])["status"] == "success"
    assert read_where(project) == "prod"


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({}, "base"),
        ({"KEDRO_ENV": "prod"}, "prod"),
        ({"KEDRO_SERVER_ENV": "prod", "KEDRO_ENV": "local"}, "prod"),
        ({"PROBE_SERVER": '{"env": "prod"}'}, "prod"),
    ],
)
@pytest.mark.once
def test_environment_is_the_same_for_runs_and_snapshots(
    project: Path, given: dict[str, str], where: str
) -> None:
    catalog = project / "conf/prod/catalog.yml"
    catalog.write_text("only_prod: {type: MemoryDataset}\n")
    with kedro_flask_server(project, **given) as server:
        assert server.run(pipeline_names=["where"])["status"] == "success"
        datasets = server.client.get("/snapshot").json()["datasets"]
    assert read_where(project) == where
    assert ("only_prod" in datasets) == (where == "prod")


def refuse(project: Path, *options: str, **env: str) -> str:
    """Start a server that must not start, and return the one line that it says."""
    result = refused_start(project, *options, **env)
    lines = [line for line in result.stderr.splitlines() if "Error" in line]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.once
def test_start_refuses_a_port_in_use(project: Path, ours: RunningServer) -> None:
    port = ours.url.rpartition(":")[2]
    assert f"port {port}" in refuse(project, "--port", port)


def test_start_refuses_a_host_that_is_none(project: Path) -> None:
    assert "no.such.host.invalid" in refuse(project, "--host", "no.such.host.invalid")


def test_start_refuses_a_conf_source_that_does_not_exist(project: Path) -> None:
    assert "conf_source" in refuse(project, "--conf-source", "nowhere")


@pytest.mark.once
def test_start_refuses_bad_options_and_settings(project: Path) -> None:
    assert "workers" in refuse(project, "--workers", "0")
    assert "--nope" in refuse(project, "--nope")
    assert "--port" in refuse(project, "--port", "http")
    assert "KEDRO_SERVER_WORKRES" in refuse(project, KEDRO_SERVER_WORKRES="2")
    assert "wokers" in refuse(project, PROBE_SERVER='{"wokers": 2}')
    assert "SERVER" in refuse(project, PROBE_SERVER="[]")
    assert "probe.nope" in refuse(project, PROBE_BLUEPRINTS="probe.nope:bp")
    assert "probe.nodes:start" in refuse(project, PROBE_BLUEPRINTS="probe.nodes:start")


def test_start_outside_a_project_says_so(tmp_path: Path) -> None:
    result = refused_start(tmp_path)
    assert "project" in (result.stderr + result.stdout).lower()


def test_conf_source_may_be_an_archive(project: Path) -> None:
    archive = shutil.make_archive(str(project / "packed"), "zip", project, "conf")
    shutil.rmtree(project / "conf")
    with kedro_flask_server(project, "--conf-source", archive) as server:
        assert server.run(pipeline_names=["where"])["status"] == "success"


def test_kedro_help_lists_the_server_once_and_imports_nothing_heavy(project: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kedro", "--help"]
    result = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=60
    )
    listed = [line for line in result.stdout.splitlines() if line.startswith("  server ")]
    assert len(listed) == 1
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    # dynaconf, which Kedro imports, imports Flask by itself wherever it is installed.
    for heavy in ("waitress", "marshmallow", "apispec", "watchfiles", "kedro_flask_server.app"):
        assert heavy not in imported


@pytest.fixture
def reloading(project: Path):
    port = free_port()
    command = start_command("--port", str(port), "--reload")
    with RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}") as server:
        yield server


def wait_for_run(server: RunningServer, expected: object) -> None:
    """Wait until a run of the pipeline `where` ends as expected; reloading takes its time."""
    ends_at = time.monotonic() + 60
    last: object = None
    while time.monotonic() < ends_at:
        try:
            answer = httpx.post(f"{server.url}/run", json={"pipeline_names": ["where"]}, timeout=30)
            last = answer.json().get("status")
        except (httpx.TransportError, ValueError) as error:
            last = type(error).__name__
        if last == expected:
            return
        time.sleep(0.1)
    raise AssertionError(f"{last!r}, and never {expected!r}, in:\n{server.log}")


@pytest.mark.once
def test_reload_follows_source_and_configuration_and_survives_a_syntax_error(
    project: Path, reloading: RunningServer
) -> None:
    reloading.wait_for_line("for development only")
    wait_for_run(reloading, "success")

    def banners() -> int:
        return reloading.log.count("Address:")

    def wait_for_restart(before: int) -> None:
        ends_at = time.monotonic() + 60
        while banners() == before:
            assert time.monotonic() < ends_at, reloading.log
            time.sleep(0.05)

    before = banners()
    (project / "conf/base/parameters_new.yml").write_text("more: 1\n")
    wait_for_restart(before)
    assert re.search(r"Restarting: .*parameters_new\.yml changed", reloading.log)
    assert "more" in reloading.client.get("/snapshot").json()["parameters"]

    nodes = project / "src/probe/nodes.py"
    sound = nodes.read_text()
    nodes.write_text(sound + "\n\ndef broken(:\n")
    wait_for_run(reloading, "failure")
    nodes.write_text(sound)
    wait_for_run(reloading, "success")

    settings = project / "src/probe/settings.py"
    sound = settings.read_text()
    settings.write_text("broken (\n")
    reloading.wait_for_line("SyntaxError: ")
    settings.write_text(sound)
    wait_for_run(reloading, "success")

    before = banners()
    data = project / "data/new.json"
    data.write_text("{}")
    (project / "src/probe/new_module.py").write_text("")
    wait_for_restart(before)
    assert banners() == before + 1
