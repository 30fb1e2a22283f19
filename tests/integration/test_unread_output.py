"""A server whose output is not read: a paused terminal, a log driver that is stuck."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.servers import EXECUTORS, PROJECTS, copy_project, environment, free_port, start_command

pytestmark = pytest.mark.once

_F_SETPIPE_SZ = 1031


@pytest.mark.parametrize("executor", EXECUTORS)
def test_runs_and_signals_go_on_and_what_was_dropped_is_said(tmp_path: Path, executor: str) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    reading, writing = os.pipe()
    fcntl.fcntl(writing, _F_SETPIPE_SZ, 4096)
    command = [*start_command("--executor", executor), "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=project, env=environment(), stdout=writing, stderr=writing
    )
    os.close(writing)
    try:
        transport = httpx.HTTPTransport(retries=9)
        with httpx.Client(base_url=url, transport=transport, timeout=60) as client:
            client.get("/health")
            for _ in range(3):
                body = {"pipeline_names": ["chat"], "params": {"loops": 5_000}}
                assert client.post("/run", json=body).json()["status"] == "success"
            assert client.get("/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)
