"""How many may wait, and who is always answered."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.servers import RunningServer, kedro_flask_server

WORKERS, WAITING = 2, 6


def send_sleeping_run(server: RunningServer, seconds: float) -> httpx.Response:
    body = {"pipeline_names": ["sleep"], "params": {"seconds": seconds}}
    return httpx.post(f"{server.url}/run", json=body, timeout=120)


@pytest.mark.once
def test_full_server_refuses_runs_and_answers_health(probe: Path) -> None:
    with (
        kedro_flask_server(
            probe, "--workers", str(WORKERS), KEDRO_SERVER_MAX_WAITING=str(WAITING)
        ) as server,
        ThreadPoolExecutor(30) as clients,
    ):
        runs = [clients.submit(send_sleeping_run, server, 2) for _ in range(20)]
        time.sleep(1)  # the time that 20 requests need to arrive; the runs take 2 s each

        durations = []
        for _ in range(50):
            started_at = time.perf_counter()
            assert httpx.get(f"{server.url}/health").status_code == 200
            durations.append(time.perf_counter() - started_at)
        assert server.client.get("/snapshot").json()["status"] == "success"
        responses = [run.result() for run in runs]

    assert max(durations) < 1  # they have a thread, and do not wait for runs, which take 2 s
    refused = [each for each in responses if each.status_code == 503]
    assert len(refused) == 20 - WORKERS - WAITING
    assert all(int(each.headers["Retry-After"]) > 0 and each.json()["detail"] for each in refused)
    served = [each.json()["status"] for each in responses if each.status_code == 200]
    assert served == ["success"] * (WORKERS + WAITING)


@pytest.mark.once
def test_two_hundred_runs_at_once_are_each_served_or_refused(probe: Path) -> None:
    with kedro_flask_server(probe) as server, ThreadPoolExecutor(200) as clients:
        responses = list(clients.map(lambda _: send_sleeping_run(server, 0.01), range(200)))
        assert {each.status_code for each in responses} <= {200, 503}
        assert server.client.get("/health").status_code == 200
        assert server.run(pipeline_names=["twenty"])["status"] == "success"


@pytest.mark.once
def test_idle_connections_do_not_keep_others_out(probe: Path) -> None:
    import socket

    with kedro_flask_server(probe) as server:
        host, port = server.url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(500)]
        try:
            assert httpx.get(f"{server.url}/health", timeout=5).status_code == 200
        finally:
            for each in idle:
                each.close()
