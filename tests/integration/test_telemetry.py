"""Kedro's usage telemetry is told of the command that starts a server, and not of its runs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

pytestmark = pytest.mark.once


class Proxy:
    """Takes down what would go over the network, and lets nothing through."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.requests: list[bytes] = []
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(1000))


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener)
        thread = threading.Thread(target=proxy.serve)
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def run_five_times(server: RunningServer) -> None:
    for number in range(5):
        answer = server.run(pipeline_names=["one"], params={"tag": str(number)})
        assert answer["status"] == "success"


@pytest.fixture
def agreed(tmp_path: Path) -> Path:
    """Return a project whose users have agreed to telemetry."""
    project = copy_project(PROJECTS / "probe", tmp_path)
    (project / ".telemetry").write_text("consent: true\n")
    return project


def variables(proxy: Proxy) -> dict[str, str]:
    return {"DO_NOT_TRACK": "", "CI": "", "HTTPS_PROXY": proxy.address}


def test_kedro_s_own_server_posts_in_each_run(agreed: Path, proxy: Proxy) -> None:
    with kedro_own_server(agreed, **variables(proxy)) as server:
        run_five_times(server)
        assert len(proxy.requests) == 5


SESSION = """
import sys
from kedro.framework.session import KedroSession
with KedroSession.create(project_path=Path.cwd()) as session:
    session.run(pipeline_names=["one"])
    plugins = [each.project_name for _, each in session._hook_manager.list_plugin_distinfo()]
assert "kedro-telemetry" not in plugins, plugins
assert "kedro_telemetry.plugin" not in sys.modules
"""


def test_worker_does_not_import_it_whoever_opens_a_session(agreed: Path, proxy: Proxy) -> None:
    with kedro_flask_server(agreed, **variables(proxy)) as server:
        answer = server.run(pipeline_names=["execute"], params={"what": SESSION})
        assert answer["status"] == "success", answer
        parallel = server.run(pipeline_names=["one"], runner="ParallelRunner")
        assert parallel["status"] == "success", parallel
        assert proxy.requests == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_run_posts_and_the_command_does_once(agreed: Path, proxy: Proxy, executor: str) -> None:
    with kedro_flask_server(agreed, "--executor", executor, **variables(proxy)) as server:
        run_five_times(server)
        assert proxy.requests == []
    [sent] = proxy.requests
    assert sent.startswith(b"CONNECT heapanalytics.com:443")
