"""The liveness probe fails where a thread has ended, and for nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.servers import PROJECTS, RunningServer, copy_project, eventually, kedro_flask_server

pytestmark = pytest.mark.once

ENDS_THREADS = """
import ctypes, threading
from flask import Blueprint

bp = Blueprint("ends_threads", __name__)


@bp.post("/end/<name>")
def end(name):
    [thread] = [each for each in threading.enumerate() if each.name == name]
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    return {}
"""


def status(server: RunningServer, probe: str) -> int:
    return server.client.get(f"/health/{probe}").status_code


def test_dead_thread_fails_liveness_and_a_dead_store_does_not(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    (project / "src/probe/ends.py").write_text(ENDS_THREADS)
    with (project / "src/probe/settings.py").open("a") as settings:
        settings.write('\nSERVER_BLUEPRINTS = ["probe.ends:bp"]\n')
    state = project / ".kedro_server"
    for name in ("kedro-housekeeper", "kedro-workers"):
        with kedro_flask_server(project) as server:
            eventually(lambda: status(server, "ready") == 200)
            if name == "kedro-housekeeper":
                shutil.rmtree(state)
                state.touch()
                eventually(lambda: status(server, "ready") == 503)
                assert status(server, "live") == 200
                state.unlink()
                eventually(lambda: status(server, "ready") == 200)
            assert server.client.post(f"/end/{name}").status_code == 200
            eventually(lambda: status(server, "live") == 503)
            answer = server.client.get("/health/live").json()
            assert answer["status"] == "not alive"
            assert name in answer["detail"]
            assert status(server, "ready") == 503
            assert server.client.get("/health").status_code == 200
