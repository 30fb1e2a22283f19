"""Starts real servers on real projects, ours and Kedro's own, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import httpx
import pytest

PROJECTS = Path(__file__).parent / "projects"
EXAMPLE = Path(__file__).parent.parent / "examples" / "breast_cancer"

CLIENT = [sys.executable, "-m", "kedro_flask_server"]
"""The commands that use a server, without a project."""

EXECUTORS = ["processes", pytest.param("threads", marks=pytest.mark.once)]
"""Parameters of fixtures whose tests hold wherever runs execute."""

ANYONE = {"KEDRO_SERVER_ALLOW_ANONYMOUS": "true"}
"""Variables of a server that lets all callers in."""

_KEDRO_SERVER = """
import sys, uvicorn
from kedro.server import create_http_server
uvicorn.run(create_http_server(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
"""


def copy_project(source: Path, folder: Path) -> Path:
    """Return a copy of a project that a test may change and write data to."""
    ignored = shutil.ignore_patterns(
        "__pycache__", ".kedro_server", "*.json", "*.pickle", "*.csv", "echo"
    )
    return Path(shutil.copytree(source, folder / source.name, ignore=ignored))


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a server: this one's without settings, and `variables`."""
    inherited = {name: value for name, value in os.environ.items() if "KEDRO" not in name}
    return inherited | {"DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "500"} | variables


class RunningServer:
    """A server in a process, to be used in a ``with`` statement."""

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self.cwd = cwd
        self.env = environment(**(env or {}))
        self._announced = threading.Event()
        self.url = url or ""
        self.lines: list[str] = []

    @property
    def log(self) -> str:
        """All that the server has printed."""
        return "".join(self.lines)

    def __enter__(self) -> RunningServer:
        self.process = subprocess.Popen(
            self._command,
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        self.client = httpx.Client(base_url=self.url, timeout=120)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 40) -> int:
        """Send a signal, wait for the process to end, and return its exit code."""
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log}") from None
        self._reader.join(10)
        return code

    def submit(self, **request: object) -> str:
        """Send a run that nobody waits for, and return its id."""
        response = self.client.post("/run", json=request, headers={"Prefer": "respond-async"})
        assert response.status_code == 202, response.text
        run_id: str = response.json()["run_id"]
        return run_id

    def show(self, run_id: str, wait: int | None = None) -> dict[str, object]:
        """Return a run as the server tells it, after up to `wait` seconds its end."""
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        response = self.client.get(f"/runs/{run_id}", headers=headers)
        assert response.status_code == 200, response.text
        run: dict[str, object] = response.json()
        return run

    def has_event(self, run_id: str, event_type: str) -> bool:
        """Return whether a run has had an event of a type."""
        events = self.client.get(f"/runs/{run_id}/events").json()["events"]
        return any(each["type"] == event_type for each in events)

    def all_runs(self) -> list[dict]:
        """Return all runs, whole, the newest first, page by page."""
        runs: list[dict] = []
        url: str | None = "/runs?limit=200&include=request,traceback"
        while url:
            response = self.client.get(url)
            runs += response.json()["runs"]
            url = response.links.get("next", {}).get("url")
        return runs

    def run(self, **request: object) -> dict[str, object]:
        """Send a run, and return the answer's body."""
        response = self.client.post("/run", json=request)
        assert response.status_code == 200, response.text
        body: dict[str, object] = response.json()
        return body

    def wait_for_line(self, text: str, timeout_s: float = 60) -> None:
        """Wait until the server has printed a text."""
        ends_at = time.monotonic() + timeout_s
        while text not in self.log:
            assert time.monotonic() < ends_at, f"no {text!r} in:\n{self.log}"
            time.sleep(0.02)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            address = re.search(r"(?:^|\\n)Address: +(http://[^\s\\]+)", line)
            if address:
                self.url = address[1]
                self._announced.set()

    def _wait_until_it_answers(self, timeout_s: float = 90) -> None:
        ends_at = time.monotonic() + timeout_s
        with httpx.Client(timeout=5) as client:  # one: to make one takes as long as many requests
            while True:
                assert self.process.poll() is None, f"the server ended:\n{self.log}"
                assert time.monotonic() < ends_at, f"the server did not start:\n{self.log}"
                try:
                    if self.url and client.get(f"{self.url}/health").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)


def refused_start(project: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a server that must not start, and return what it says."""
    ended = subprocess.run(
        start_command(*options),
        cwd=project,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended


def eventually(is_true: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def start_command(*options: str) -> list[str]:
    """Return the command line of ``kedro server start`` on a free port."""
    return [sys.executable, "-m", "kedro", "server", "start", "--port", "0", *options]


def kedro_flask_server(project: Path, *options: str, **env: str) -> RunningServer:
    """Return our server, as ``kedro server start`` starts it."""
    return RunningServer(start_command(*options), cwd=project, env=env)


def kedro_own_server(project: Path, **env: str) -> RunningServer:
    """Return Kedro's own server."""
    port = free_port()
    command = [sys.executable, "-c", _KEDRO_SERVER, str(project), str(port)]
    return RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}", env=env)


def call(
    server: RunningServer | str, *arguments: str, program: list[str] = CLIENT, cwd: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Run a command against a server."""
    url = server if isinstance(server, str) else server.url
    return subprocess.run(
        [*program, *arguments],
        cwd=cwd,
        env=environment(KEDRO_SERVER_URL=url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def read_where(project: Path) -> str:
    """Return which configuration environment the probe's pipeline `where` ran with."""
    where: str = json.loads((project / "data/stored_a.json").read_text())["where"]
    return where
