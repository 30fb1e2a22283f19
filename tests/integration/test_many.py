"""Many runs at once, a tenth of which crash, take too long or are cancelled."""

from __future__ import annotations

import json
import logging
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.servers import PROJECTS, RunningServer, copy_project, eventually, kedro_flask_server

CLIENTS = 16
CRASHES = {"exit": "exit code 3", "segfault": "SIGSEGV", "kill": "SIGKILL"}


def tag_of(number: int) -> str:
    """Return a run's tag, too short to be a secret: the probe has it among its credentials."""
    return f"t-{number}"


@dataclass
class Crowd:
    """Sends runs of all kinds, and knows what must become of each."""

    server: RunningServer
    project: Path
    chance: random.Random
    memory_mb: list[float] = field(default_factory=list)

    def send(self, number: int) -> str:
        kind = "well"
        if self.chance.random() < 0.1:
            kind = self.chance.choice(["crash", "timeout", "cancel"])
        getattr(self, kind)(tag_of(number))
        if number % 100 == 0:
            self.memory_mb.append(psutil.Process(self.server.process.pid).memory_info().rss / 1e6)
        return kind

    def well(self, tag: str) -> None:
        answer = self.server.run(params={"tag": tag})
        assert answer["status"] == "success", answer
        written = json.loads((self.project / "data" / "echo" / f"{tag}.json").read_text())
        assert written == dict.fromkeys(("parameter", "nested", "argument", "credential"), tag)

    def crash(self, tag: str) -> None:
        how = self.chance.choice([*CRASHES])
        answer = self.server.run(pipeline_names=["crash"], params={"tag": tag, "what": how})
        assert answer["error"]["type"] == "WorkerCrashed", answer
        assert CRASHES[how] in answer["error"]["message"]

    def timeout(self, tag: str) -> None:
        params = {"tag": tag, "seconds": 100}
        answer = self.server.run(pipeline_names=["sleep"], params=params)
        assert answer["error"]["type"] == "RunTimeout", answer

    def cancel(self, tag: str) -> None:
        params = {"tag": tag, "seconds": 0.05}
        run_id = self.server.submit(pipeline_names=["slow"], params=params)
        time.sleep(self.chance.uniform(0, 0.3))
        response = self.server.client.post(f"/runs/{run_id}/cancel")
        ended = self.server.show(run_id, wait=60)
        if response.status_code == 409:
            assert ended["status"] == "success", ended
        else:
            assert ended["status"] in ("cancelled", "success"), ended


def run_many(folder: Path, runs: int, seed: int) -> list[float]:
    """Send runs, check all of them, and return the memory of the server as it went, in MB."""
    project = copy_project(PROJECTS / "probe", folder)
    settings = {
        "KEDRO_LOGGING_CONFIG": str(PROJECTS / "plain_logging.yml"),
        "KEDRO_SERVER_RUN_TIMEOUT_S": json.dumps({"sleep": 0.3}),
        "KEDRO_SERVER_CANCEL_GRACE_S": "0.5",
        "KEDRO_SERVER_EXECUTOR": "processes",
    }
    with kedro_flask_server(project, **settings) as server:
        crowd = Crowd(server, project, random.Random(seed))
        with ThreadPoolExecutor(CLIENTS) as clients:
            kinds = Counter(clients.map(crowd.send, range(runs)))
        tags = Counter(run["request"]["params"]["tag"] for run in server.all_runs())
        assert tags == Counter(map(tag_of, range(runs)))
        [template] = psutil.Process(server.process.pid).children()
        # The spare, and one for each run that may execute.
        eventually(lambda: len(template.children(recursive=True)) <= 3)
    assert not template.is_running()
    logging.getLogger(__name__).info("%s, seed %d, MB %s", kinds, seed, crowd.memory_mb)
    return crowd.memory_mb


@pytest.mark.once
def test_many_runs_are_neither_wrong_nor_missing_nor_doubled(tmp_path: Path) -> None:
    run_many(tmp_path, 1_000, random.randrange(10**6))
