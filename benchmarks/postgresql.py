"""Measures what runs cost whose store is PostgreSQL on the same machine, beside SQLite.

Each round starts a server with either store in turn, in reverse order every other round; what is
printed are the medians over the rounds, and PostgreSQL's ratio to SQLite beside the goal.
PostgreSQL is as it is installed: each commit is on the disk before it is answered (fsync,
synchronous_commit).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import Executor
from pathlib import Path

from benchmarks.__main__ import load_process
from benchmarks.figures import WORKERS
from benchmarks.load import Outcome, measure, run
from tests.postgresql import PostgreSQL, running_postgresql
from tests.servers import PROJECTS, copy_project, kedro_flask_server

EXECUTORS = {
    "threads": {"KEDRO_SERVER_EXECUTOR": "threads"},
    "reused": {"KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
    "default": {},
}
STORES = ("sqlite", "postgresql")

_MEDIAN = "1-node run, 1 client, median ms"
_RATE = "1-node run, 8 clients, runs/s"
GOALS = {_MEDIAN: 1.5, _RATE: 0.6}
"""At most so many times SQLite's median, at least so many times its rate."""

Figures = dict[tuple[str, str, str], list[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgresql", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; default 5")
    parser.add_argument("--seconds", type=float, default=3, help="for each figure; default 3")
    parser.add_argument("--executors", nargs="*", default=list(EXECUTORS), choices=EXECUTORS)
    parser.add_argument("--no-fsync", action="store_true", help="leave the disk out of it")
    options = parser.parse_args()

    figures: Figures = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgresql(fsync=not options.no_fsync) as postgresql,
        load_process() as load,
    ):
        for number in range(options.rounds):
            for executor in options.executors:
                for store in STORES[:: 1 if number % 2 == 0 else -1]:
                    project = copy_project(
                        PROJECTS / "probe", Path(folder, f"{number}-{executor}-{store}")
                    )
                    settings = EXECUTORS[executor] | _settings(store, postgresql)
                    for name, outcome in _measure(project, settings, load, options.seconds):
                        value = outcome.median_ms if name == _MEDIAN else outcome.rate
                        figures.setdefault((executor, name, store), []).append(value)
                        if outcome.failed:
                            raise SystemExit(f"{outcome.failed} runs failed: {executor}, {store}")
    report(figures)


def _settings(store: str, postgresql: PostgreSQL) -> dict[str, str]:
    if store == "sqlite":
        return {}
    return {"KEDRO_SERVER_DATABASE_URL": postgresql.new_database()}


def _measure(
    project: Path, settings: dict[str, str], load: Executor, seconds: float
) -> list[tuple[str, Outcome]]:
    with kedro_flask_server(project, "--workers", str(WORKERS), COLUMNS="80", **settings) as server:
        return [
            (name, load.submit(measure, server.url, run("one"), clients, seconds).result())
            for name, clients in ((_MEDIAN, 1), (_RATE, 8))
        ]


def report(figures: Figures) -> None:
    """Print the medians over the rounds, and the ratios beside the goals."""
    print(f"{'figure':32} {'executor':9} {'sqlite':>9} {'postgresql':>11} {'ratio':>6} {'goal':>6}")
    for executor, name, store in figures:
        if store != "sqlite":
            continue
        sqlite, postgresql = (statistics.median(figures[executor, name, each]) for each in STORES)
        ratio, goal = postgresql / sqlite, GOALS[name]
        is_met = ratio <= goal if name == _MEDIAN else ratio >= goal
        print(
            f"{name:32} {executor:9} {sqlite:9.2f} {postgresql:11.2f} {ratio:6.2f} {goal:6g}"
            f" {'met' if is_met else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
