"""Measures what 100,000 stored runs with 20 events each cost.

Ours with and without them, and Kedro's own server in the same run; that one stores nothing, so
that it has no pages to be compared with.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.load import get, measure, run
from kedro_flask_server.client import Client
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

RUNS = 100_000
EVENTS = 20
Figures = dict[str, float]


def fill(project: Path) -> None:
    """Store runs of the last 30 days: of 20 pipelines, one in a thousand of the rarest."""
    chance = random.Random(1)
    now_ms = int(time.time() * 1000)
    error = '{"type": "ValueError", "message": "' + "x" * 500 + '"}'
    runs, pipelines = [], []
    for number in range(RUNS):
        created_at = now_ms - (RUNS - number) * 25_000
        moment = time.strftime("%Y-%m-%dT%H.%M.%S", time.gmtime(created_at / 1000))
        run_id = f"{moment}.{created_at % 1000:03d}Z"
        status = chance.choices(["success", "failure", "cancelled"], [90, 9, 1])[0]
        pipeline = "rare" if number % 1000 == 0 else f"pipeline_{number % 20}"
        request = f'{{"params": {{"tag": "{number}"}}, "pipeline_names": ["{pipeline}"]}}'
        times = (created_at, created_at + 20_000)
        runs.append((run_id, status, request, *times, error if status == "failure" else None))
        pipelines.append((run_id, pipeline))
    with sqlite3.connect(project / ".kedro_server" / "runs.db") as connection:
        connection.executemany(
            "INSERT INTO runs (run_id, project, env, status, request, started_at, finished_at,"
            " error) VALUES (?, 'probe', 'local', ?, ?, ?, ?, ?)",
            runs,
        )
        connection.executemany("INSERT INTO run_pipelines VALUES (?, ?)", pipelines)
        record = {"level": "INFO", "logger": "kedro.pipeline.node", "message": "x" * 100}
        connection.execute(
            "WITH RECURSIVE numbers(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM numbers"
            f" WHERE id < {EVENTS}) INSERT INTO events SELECT run_id, id, started_at, 'log', ?"
            " FROM runs, numbers WHERE finished_at - started_at = 20000",
            [json.dumps(record)],
        )
    connection.close()


def measure_runs(server: RunningServer, seconds: float) -> Figures:
    """Return what runs take."""
    one = run("one")
    return {
        "1-node run, 1 client, median ms": measure(server.url, one, 1, seconds).median_ms,
        "1-node run, 8 clients, runs/s": measure(server.url, one, 8, seconds).rate,
    }


def measure_pages(server: RunningServer, seconds: float) -> Figures:
    """Return what pages of 50 runs take, in milliseconds."""
    middle = server.client.get("/runs?limit=50").json()["runs"][-1]["created_at"]
    then = time.gmtime(time.time() - RUNS // 2 * 25)
    cursor = time.strftime("%Y-%m-%dT%H.%M.%S.000Z", then)
    pages = {
        "the newest": "/runs",
        "from the middle on": f"/runs?cursor={cursor}",
        "of one state": "/runs?status=cancelled",
        "of one pipeline": "/runs?pipeline=pipeline_7",
        "of a rare pipeline": "/runs?pipeline=rare",
        "since a time": f"/runs?since={middle}",
        "until long ago": "/runs?until=2020-01-01T00:00:00Z",
    }
    [newest] = server.client.get("/runs?limit=1").json()["runs"]
    pages = {f"/runs, {name}, median ms": path for name, path in pages.items()}
    pages["/runs/<id>/events, median ms"] = f"/runs/{newest['run_id']}/events"
    figures = {
        name: measure(server.url, get(path), 1, seconds).median_ms for name, path in pages.items()
    }
    figures["event to its follower, median ms"] = median_delay_ms(server)
    return figures


def median_delay_ms(server: RunningServer) -> float:
    """Return after how long a follower knows of an event, in milliseconds."""
    run_id = server.submit(pipeline_names=["slow"], params={"seconds": 0.1})
    delays = []
    with Client(server.url) as client:
        for event in client.follow(run_id):
            delays.append((time.time() - event.time.timestamp()) * 1000)
    return statistics.median(delays)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; default 3")
    parser.add_argument("--seconds", type=float, default=2, help="for each figure; default 2")
    options = parser.parse_args()

    names = ("ours, full", "ours, empty", "kedro")
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        full = copy_project(PROJECTS / "probe", Path(folder, "full"))
        empty = copy_project(PROJECTS / "probe", Path(folder, "empty"))
        with kedro_flask_server(full) as server:
            server.run(pipeline_names=["one"])
        fill(full)
        for number in range(options.rounds):
            for name in names[:: 1 if number % 2 == 0 else -1]:
                if name == "kedro":
                    with kedro_own_server(empty) as server:
                        rounds[name].append(measure_runs(server, options.seconds))
                    continue
                with kedro_flask_server(full if name == "ours, full" else empty) as server:
                    figures = measure_runs(server, options.seconds)
                    rounds[name].append(figures | measure_pages(server, options.seconds / 4))
    report(rounds)


def report(rounds: dict[str, list[Figures]]) -> None:
    """Print the medians over the rounds, and the ratios to the full store."""
    print(f"{RUNS:,} runs stored; {len(rounds['kedro'])} rounds")
    names = (f"{name:>11}" for name in ("full", "empty", "full/empty", "kedro", "full/kedro"))
    print(f"{'figure':44}", *names)
    for figure in rounds["ours, full"][0]:
        median = {
            name: statistics.median(each[figure] for each in rounds[name])
            for name in rounds
            if figure in rounds[name][0]
        }
        full, empty = median["ours, full"], median["ours, empty"]
        values = [full, empty, full / empty]
        if "kedro" in median:
            values += [median["kedro"], full / median["kedro"]]
        print(f"{figure:44}", *(f"{value:11.2f}" for value in values))


if __name__ == "__main__":
    main()
