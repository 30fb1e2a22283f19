"""A project that is opened with its settings, and the template that is started meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers import (
    PROJECTS,
    call,
    copy_project,
    environment,
    eventually,
    kedro_flask_server,
    refused_start,
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


def write_settings(project: Path, database_url: str, **more: object) -> None:
    """Write the project's server.yml, and the credentials that it refers to."""
    lines = [f"{name}: {value}\n" for name, value in more.items()]
    conf = project / "conf"
    (conf / "base" / "server.yml").write_text("".join(lines))
    (conf / "local" / "server.yml").write_text("database_url: {credentials: runs_db}\n")
    (conf / "local" / "credentials.yml").write_text(f"runs_db: {{url: '{database_url}'}}\n")


def test_server_and_its_commands_read_the_settings_file(project: Path, tmp_path: Path) -> None:
    kedro = [sys.executable, "-m", "kedro"]
    database = tmp_path / "elsewhere.db"
    write_settings(project, f"sqlite:///{database}", max_body_bytes=100)
    made = call("", "server", "keys", "create", "ci", "--scope=admin", program=kedro, cwd=project)
    assert made.returncode == 0, made.stderr
    assert database.exists()
    key = next(word for word in made.stdout.split() if word.startswith("kfs_"))
    with kedro_flask_server(project) as server:
        headers = {"Authorization": f"Bearer {key}"}
        assert server.client.get("/runs", headers=headers).status_code == 200
        long = server.client.post("/run", json={"tags": ["x" * 100]}, headers=headers)
        assert long.status_code == 413
    assert not (project / ".kedro_server").exists()


def test_settings_file_with_an_unknown_name_stops_the_start(project: Path) -> None:
    (project / "conf" / "base" / "server.yml").write_text("port: 0\nwokers: 1\n")
    started = refused_start(project)
    assert started.returncode == 1
    where = f"'{project}/conf/base/server.yml', line 2"
    assert f"Error: Unknown setting 'wokers', given in {where}." in started.stderr


def test_password_from_the_credentials_is_learnt(project: Path) -> None:
    write_settings(project, "postgresql://user:hunter2hunter2@host/name")
    code = """
from kedro_flask_server.bootstrap import open_project
from kedro_flask_server.redaction import SECRETS
config = open_project(None, {}).config
SECRETS.forget(float("inf"))
print(config.database_url, SECRETS.redact("it is hunter2hunter2"))
"""
    opened = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(KEDRO_PROJECT_PATH=str(project)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    shown = "postgresql://user:hunter2hunter2@host/name it is <redacted>"
    assert opened.stdout.splitlines()[-1] == shown, opened.stderr
