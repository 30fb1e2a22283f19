"""The template that is started while the server is still being made."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.servers import (
    PROJECTS,
    copy_project,
    environment,
    eventually,
    kedro_flask_server,
    start_command,
)

MARK = "KEDRO_TEST_OF_OPENING"
"""A variable by which the processes of a server are found, whoever their parent is."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


@pytest.fixture
def loaded(tmp_path: Path) -> Path:
    """Return a file to which each process that loads the project's pipelines adds its id."""
    script = tmp_path / "note.py"
    noted = tmp_path / "loaded"
    script.write_text(
        f"import os\nwith open({str(noted)!r}, 'a') as f: f.write(f'{{os.getpid()}} ')"
    )
    return noted


def alive(mark: str) -> list[psutil.Process]:
    """Return the processes with a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_server_uses_the_template_that_was_started_ahead(
    project: Path, loaded: Path, tmp_path: Path
) -> None:
    note = str(tmp_path / "note.py")
    with kedro_flask_server(project, "--workers", "2", PROBE_BROKEN=note) as server:
        assert server.run(pipeline_names=["one"])["status"] == "success"
        [template] = psutil.Process(server.process.pid).children()
        [pid] = loaded.read_text().split()
        assert template.pid == int(pid)
        assert all(each.ppid() == template.pid for each in template.children())
        left = [template, *template.children(recursive=True)]
        assert server.stop() == 0
    _, still_there = psutil.wait_procs(left, timeout=1)
    assert still_there == []


@pytest.mark.once
def test_there_is_no_template_where_runs_execute_in_threads(project: Path) -> None:
    with kedro_flask_server(project, "--executor", "threads") as server:
        assert server.run(pipeline_names=["one"])["status"] == "success"
        assert psutil.Process(server.process.pid).children() == []


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ("port", "Cannot listen"),
        pytest.param("blueprint", "probe.nope", marks=pytest.mark.once),
        pytest.param("open", "anonymous", marks=pytest.mark.once),
    ],
)
def test_template_is_gone_when_the_server_cannot_be_made(
    project: Path, tmp_path: Path, why: str, says: str
) -> None:
    mark = str(tmp_path)
    variables = {MARK: mark}
    with socket.socket() as taken, (tmp_path / "stderr").open("w+") as stderr:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = ["--port", str(taken.getsockname()[1])] if why == "port" else []
        if why == "blueprint":
            variables["PROBE_BLUEPRINTS"] = "probe.nope:bp"
        elif why == "open":  # not on loopback alone, and nobody has a key
            options = ["--host", "0.0.0.0"]
        code = subprocess.call(
            start_command(*options),
            cwd=project,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        eventually(lambda: not alive(mark), timeout_s=1)
        stderr.seek(0)
        assert (code, says in stderr.read()) == (1, True)


@pytest.mark.once
def test_template_is_gone_when_the_server_is_killed_while_it_is_made(
    project: Path, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    process = subprocess.Popen(
        start_command(),
        cwd=project,
        env=environment(**{MARK: mark}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: len(alive(mark)) > 1)
    process.kill()
    process.wait()
    eventually(lambda: not alive(mark), timeout_s=10)  # it imports, and then sees that it is alone
