"""What runs tell reaches the store: all of it up to a crash, bounded, with its node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import EXECUTORS, PROJECTS, RunningServer, copy_project, kedro_flask_server

SECRET = "s3cr3t-canary-that-is-cut"
MAX_LOG_BYTES = 20_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("telling"))
    with kedro_flask_server(
        project, "--executor", "processes", "--workers", "2", MY_API_TOKEN=SECRET
    ) as server:
        yield server


def execute(server: RunningServer, code: str) -> dict[str, Any]:
    return server.run(pipeline_names=["execute"], params={"what": code})


def log_of(server: RunningServer, run: dict[str, Any]) -> str:
    return server.client.get(f"/runs/{run['run_id']}/logs").text


def printed(server: RunningServer, run: dict[str, Any]) -> list[str]:
    return re.findall(r"INFO     output: (.*)", log_of(server, run))


def records(server: RunningServer, run: dict[str, Any]) -> list[dict[str, Any]]:
    page = server.client.get(f"/runs/{run['run_id']}/events?limit=1000").json()
    return [event["data"] for event in page["events"] if event["type"] == "log"]


def test_crash_loses_nothing_that_was_told_before(served: RunningServer) -> None:
    code = """
import os, signal
for number in range(5000):
    print("line", number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    crashed = execute(served, code)
    assert crashed["error"]["type"] == "WorkerCrashed"
    assert printed(served, crashed) == [f"line {number}" for number in range(5000)]


@pytest.mark.parametrize("say", ["sys.stdout.write(text)", "os.write(1, text.encode())"])
def test_secret_at_the_cut_of_a_long_line_is_not_told(served: RunningServer, say: str) -> None:
    code = f"""
import os, sys, time
secret = os.environ["MY_API_TOKEN"]
for text in ("." * 65_530 + secret[:12], secret[12:] + "." * 50_000, chr(10), "next", chr(10)):
    {say}
    time.sleep(0.2)  # for the server to read each for itself
"""
    lines = printed(served, execute(served, code))
    assert lines[-1] == "next"
    assert not [at for at in range(len(SECRET) - 5) if SECRET[at : at + 6] in "".join(lines)]


def test_log_names_the_node_of_each_record(served: RunningServer) -> None:
    run = served.run(pipeline_names=["talk"], params={"tag": "it"}, runner="ThreadRunner")
    talk = [each for each in records(served, run) if "talk of" in each["message"]]
    assert sorted(each["node"] for each in talk) == [f"talk_{number}" for number in range(6)]
    code = """
import threading
thread = threading.Thread(target=print, args=("from a thread of its own",))
thread.start()
thread.join()
"""
    told = {each["message"]: each.get("node") for each in records(served, execute(served, code))}
    assert told["from a thread of its own"] == "execute"
    assert told["Completed node: execute"] is None


@pytest.mark.once
@pytest.mark.parametrize("executor", EXECUTORS)
def test_log_beyond_its_bound_is_counted(tmp_path: Path, executor: str) -> None:
    project = copy_project(PROJECTS / "chains", tmp_path)
    with kedro_flask_server(
        project, "--executor", executor, KEDRO_SERVER_MAX_LOG_BYTES=str(MAX_LOG_BYTES)
    ) as server:
        for pipeline in ["log"] if executor == "threads" else ["log", "print"]:
            run = server.run(pipeline_names=[pipeline], params={"lines": 50_000, "tag": "it"})
            *_, cut, last = log_of(server, run).splitlines()
            kept = len(re.findall(r": line \d{6} of it", log_of(server, run)))
            assert 100 < kept < MAX_LOG_BYTES / 30
            assert "the rest is not kept" in cut
            [count] = re.findall(r"cut: ([\d,]+) lines", last)
            # Kedro has its last words, too.
            assert 0 <= int(count.replace(",", "")) - (50_000 - kept) < 10
            page = server.client.get(f"/runs/{run['run_id']}/events?limit=1000").json()
            assert "node.finished" in [event["type"] for event in page["events"]]


@pytest.mark.once
def test_output_of_programs_beyond_the_bound_is_counted(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    with kedro_flask_server(
        project, "--executor", "processes", KEDRO_SERVER_MAX_LOG_BYTES=str(MAX_LOG_BYTES)
    ) as server:
        command = "seq -f line%07.0f 1 1000000"
        run = execute(server, f"import subprocess; subprocess.run({command.split()}, check=True)")
        assert run["status"] == "success"
        lines = log_of(server, run).splitlines()
        kept = sum("output: line" in line for line in lines)
        [count] = re.findall(r"cut: ([\d,]+) lines", lines[-1])
        assert 0 <= int(count.replace(",", "")) - (1_000_000 - kept) < 10


@pytest.mark.once
def test_runs_need_no_folder_for_temporary_files(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "chains", tmp_path)
    start = tmp_path / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text("import tempfile; tempfile.tempdir = '/nonexistent'")
    with kedro_flask_server(project, "--executor", "processes", PYTHONPATH=str(start)) as server:
        assert server.run(pipeline_names=["chain_20"])["status"] == "success"
