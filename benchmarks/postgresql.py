"""Measures what runs cost whose store is PostgreSQL on the same machine, beside SQLite.

A server with each store is up, and all are measured in turn, for a moment each, so that what else
the machine does falls on all alike. What is printed are the medians over all turns, and those of
the ratios to SQLite's beside the goal. PostgreSQL is as it is installed: each commit is on the disk
before it is answered (fsync, synchronous_commit), which SQLite leaves to the system. The third
server's PostgreSQL has fsync off, to tell what of the difference is the disk's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path

from benchmarks.__main__ import load_process
from benchmarks.figures import WORKERS
from benchmarks.load import measure, run
from tests.postgresql import running_postgresql
from tests.servers import PROJECTS, RunningServer, copy_project, kedro_flask_server

EXECUTORS = {
    "threads": {"KEDRO_SERVER_EXECUTOR": "threads"},
    "reused": {"KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
    "default": {},
}

_MEDIAN = "1-node run, 1 client, median ms"
_RATE = "1-node run, 8 clients, runs/s"
GOALS = {_MEDIAN: 1.5, _RATE: 0.6}
"""At most so many times SQLite's median, at least so many times its rate."""

_SQLITE, _POSTGRESQL, _UNSAFE = "sqlite", "postgresql", "no fsync"

Turn = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgresql", description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="of each store; default 15")
    parser.add_argument("--seconds", type=float, default=1, help="for each figure; default 1")
    parser.add_argument("--executors", nargs="*", default=list(EXECUTORS), choices=EXECUTORS)
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgresql(fsync=True) as postgresql,
        running_postgresql() as unsafe,
        load_process() as load,
    ):
        databases = {_POSTGRESQL: postgresql, _UNSAFE: unsafe}
        names = (_SQLITE, *databases)
        print(f"{'figure':32} {'executor':9}", *(f"{name:>10}" for name in names), "ratio  goal")
        for executor in options.executors:
            with ExitStack() as servers:
                urls = {}
                for store in names:
                    settings = dict(EXECUTORS[executor])
                    if store in databases:
                        url = databases[store].new_database()
                        settings["KEDRO_SERVER_DATABASE_URL"] = url
                    server = _server(Path(folder, executor, store), settings)
                    urls[store] = servers.enter_context(server).url
                for name, clients in ((_MEDIAN, 1), (_RATE, 8)):
                    turns = [
                        _measure(urls, number, clients, options.seconds, load)
                        for number in range(options.turns)
                    ]
                    report(executor, name, turns)


def _server(folder: Path, settings: dict[str, str]) -> RunningServer:
    project = copy_project(PROJECTS / "probe", folder)
    return kedro_flask_server(project, "--workers", str(WORKERS), COLUMNS="80", **settings)


def _measure(
    urls: dict[str, str], number: int, clients: int, seconds: float, load: Executor
) -> Turn:
    found = {}
    for store in list(urls)[:: 1 if number % 2 == 0 else -1]:
        outcome = load.submit(measure, urls[store], run("one"), clients, seconds).result()
        if outcome.failed:
            raise SystemExit(f"{outcome.failed} runs failed with {store}")
        found[store] = outcome.median_ms if clients == 1 else outcome.rate
    return found


def report(executor: str, name: str, turns: list[Turn]) -> None:
    """Print the medians over the turns, and those of the ratios beside the goal."""
    medians = (statistics.median(turn[store] for turn in turns) for store in turns[0])
    ratio, without_disk = (
        statistics.median(turn[store] / turn[_SQLITE] for turn in turns)
        for store in (_POSTGRESQL, _UNSAFE)
    )
    goal = GOALS[name]
    is_met = ratio <= goal if name == _MEDIAN else ratio >= goal
    print(
        f"{name:32} {executor:9}",
        *(f"{each:10.2f}" for each in medians),
        f"{ratio:5.2f}  {goal:g} {'met' if is_met else 'MISSED'} (without the disk"
        f" {without_disk:.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
