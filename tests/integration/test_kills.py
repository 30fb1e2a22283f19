"""Clients send runs while the server is killed and started again, over and over.

At the end, the store, the files that the runs wrote and what the clients were told agree about
every single run.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    free_port,
    start_command,
)

CLIENTS = 16
KINDS = {
    "plain": {},
    "async": {"Prefer": "respond-async"},
    "keyed": {"Idempotency-Key": "{tag}"},
    "keyed async": {"Idempotency-Key": "{tag}", "Prefer": "respond-async, wait=1"},
}


@dataclass(kw_only=True)
class Sent:
    """A run that a client has sent, and what it was told last."""

    tag: str
    kind: str
    status: int | None = None
    body: dict | None = None


class Restarter:
    """Keeps a server up that is killed at random."""

    def __init__(self, project: Path, marks: Path, database_url: str, seed: int) -> None:
        self._project = project
        self._database_url = database_url
        self._marks = marks
        self._random = random.Random(seed)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.kills = 0

    def server(self) -> RunningServer:
        options = ["--port", str(self._port), "--workers", "4"]
        plain_logging = str(PROJECTS / "plain_logging.yml")
        env = {
            "PROBE_MARKS": str(self._marks),
            "KEDRO_LOGGING_CONFIG": plain_logging,
            "KEDRO_SERVER_DATABASE_URL": self._database_url,
        }
        return RunningServer(start_command(*options), cwd=self._project, url=self.url, env=env)

    def kill_until(self, is_over: threading.Event, kills: int) -> None:
        while not is_over.is_set() or self.kills < kills:
            with self.server() as server:
                is_over.wait(self._random.uniform(0, 4))
                # Most are killed; some are told to stop, and killed while they do.
                if self._random.random() < 0.2:
                    server.process.send_signal(signal.SIGTERM)
                    time.sleep(self._random.uniform(0, 0.3))
                server.stop(signal.SIGKILL)
                self.kills += 1


def send(client: httpx.Client, sent: Sent, seconds: float) -> Sent:
    """Send a run; with a key, as often as it takes to be answered."""
    request = {"pipeline_names": ["mark"], "params": {"tag": sent.tag, "seconds": seconds}}
    headers = {name: value.format(tag=sent.tag) for name, value in KINDS[sent.kind].items()}
    for _ in range(600):
        try:
            response = client.post("/run", json=request, headers=headers)
        except httpx.TransportError as error:
            time.sleep(0.3)
            if sent.kind.startswith("keyed") or isinstance(error, httpx.ConnectError):
                continue
            return sent
        sent.status, sent.body = response.status_code, response.json()
        if response.status_code in (200, 202):
            return sent
        assert response.status_code in (409, 503), response.text
        if sent.kind in ("plain", "async"):
            return sent
        time.sleep(0.1)
    raise AssertionError(f"never answered: {sent}")


def run_with_kills(folder: Path, database_url: str, *, runs: int, kills: int, seed: int) -> None:
    """Send runs while the server is killed, and check that all agrees."""
    project = copy_project(PROJECTS / "probe", folder)
    marks = folder / "marks"
    marks.mkdir()
    restarter = Restarter(project, marks, database_url, seed)
    is_over = threading.Event()
    chance = random.Random(seed)
    to_send = [
        (Sent(tag=f"tag-{number}", kind=chance.choice(list(KINDS))), chance.uniform(0, 0.2))
        for number in range(runs)
    ]
    with (
        ThreadPoolExecutor(1) as background,
        ThreadPoolExecutor(CLIENTS) as clients,
        httpx.Client(base_url=restarter.url, timeout=60) as client,
    ):
        killing = background.submit(restarter.kill_until, is_over, kills)
        try:
            sent = list(clients.map(lambda each: send(client, *each), to_send))
        finally:
            is_over.set()
        killing.result()
    with restarter.server() as server:
        runs_at_the_end = wait_for_ends(server)
        check(sent, runs_at_the_end, marks)
        for run in runs_at_the_end:
            check_events(run, server.client.get(f"/runs/{run['run_id']}/events?limit=1000").json())
    logging.getLogger(__name__).info("%d runs, %d kills, seed %d", runs, restarter.kills, seed)


def wait_for_ends(server: RunningServer) -> list[dict]:
    """Wait until every run has ended, and return all of them."""
    active = {"status": ["queued", "running"]}
    ends_at = time.monotonic() + 120
    while server.client.get("/runs", params=active).json()["runs"]:
        assert time.monotonic() < ends_at, server.client.get("/runs", params=active).text
        time.sleep(0.2)
    return server.all_runs()


def check(sent: list[Sent], runs: list[dict], marks: Path) -> None:
    by_tag = {run["request"]["params"]["tag"]: run for run in runs}
    assert len(by_tag) == len(runs)
    assert {path.name for path in marks.iterdir()} <= set(by_tag)
    for tag, run in by_tag.items():
        path = marks / tag
        lines = path.read_text().splitlines() if path.exists() else []
        check_marks(run, lines)
    for each in sent:
        check_told(each, by_tag.get(each.tag))


def check_events(run: dict, page: dict) -> None:
    events = page["events"]
    assert page["next"] is None
    assert [event["id"] for event in events] == list(range(1, len(events) + 1)), run
    assert events[0]["type"] == "run.queued"
    ends = [event["data"] for event in events if event["type"] == "run.finished"]
    assert ends[0]["status"] == run["status"], (run, ends)
    assert all(end.get("is_late") for end in ends[1:])
    finished = [event for event in events if event["type"] == "node.finished"]
    assert len(finished) == 1 if run["status"] == "success" else len(finished) <= 1, run


def check_marks(run: dict, lines: list[str]) -> None:
    begun, ended = lines.count("begin"), lines.count("end")
    assert begun <= 1, f"executed twice: {run}"
    if run["status"] == "success":
        assert (begun, ended) == (1, 1), run
    elif run["status"] == "cancelled":
        assert begun == 0, run
        assert run["started_at"] is None
    elif run["status"] == "failure":
        assert run["error"]["type"] == "ServerStopped", run
    else:
        assert run["status"] == "lost", run


def check_told(sent: Sent, run: dict | None) -> None:
    if sent.status == 200:
        assert run is not None
        assert sent.body is not None
        assert sent.body["run_id"] == run["run_id"]
        if sent.body["status"] == "success":
            assert run["status"] == "success", (sent, run)
        else:
            told = {"RunLost": "lost", "RunCancelled": "cancelled", "ServerStopped": "failure"}
            assert told[sent.body["error"]["type"]] == run["status"], (sent, run)
    elif sent.status == 202:
        assert run is not None
        assert sent.body is not None
        assert sent.body["run_id"] == run["run_id"]
        assert run["status"] in ("success", "lost", "failure"), (sent, run)
    elif sent.status == 503:  # to a plain one: it has not run, and never will
        assert run is None or run["status"] == "cancelled", (sent, run)


@pytest.mark.once
def test_killed_servers_lose_no_run_and_tell_no_lie(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'state' / 'runs.db'}"
    run_with_kills(tmp_path, database_url, runs=60, kills=4, seed=random.randrange(10**6))
