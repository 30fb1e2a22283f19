"""Measures what a process for each run costs and gives, beside threads, Kedro's server, and none.

Each round measures every contender in turn, on one project; what is printed are the medians over
the rounds. ``bare`` are as many processes as there are workers, which do nothing but run the
pipeline in a session of Kedro's, over and over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.load import measure as measure_load
from benchmarks.load import run
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    kedro_flask_server,
    kedro_own_server,
)

Figures = dict[str, float]
WORKERS = 2
CLIENTS = 4

_RATE = "CPU-bound run, 4 clients, runs/s"
_ONE = "1-node run, 1 client, median ms"
_HEALTH = "/health beside them, 99th percentile ms"

_BARE = """
import sys, time
from pathlib import Path
from kedro.framework.session import KedroServiceSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
session = KedroServiceSession.create(project_path=Path.cwd(), serving_mode=True)
loops, seconds = int(sys.argv[1]), float(sys.argv[2])

def run():
    session.run(pipeline_names=["cpu"], runtime_params={"loops": loops, "tag": "bare"})

run()
print("ready", flush=True)
sys.stdin.readline()
began, runs = time.monotonic(), 0
while time.monotonic() - began < seconds:
    run()
    runs += 1
print(runs / (time.monotonic() - began))
"""


def measure_bare(project: Path, loops: int, seconds: float) -> Figures:
    """Return how many runs per second processes reach that do nothing else."""
    command = [sys.executable, "-c", _BARE, str(loops), str(seconds)]
    processes = [
        subprocess.Popen(
            command,
            cwd=project,
            env=environment(**_QUIET),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return {_RATE: sum(float(process.communicate()[0]) for process in processes)}


def measure(server: RunningServer, loops: int, seconds: float) -> Figures:
    """Return every figure of one server."""
    cpu = run("cpu", loops=loops)
    figures = {
        _ONE: measure_load(server.url, run("one"), 1, seconds).median_ms,
        _RATE: measure_load(server.url, cpu, CLIENTS, seconds).rate,
    }
    # Apart: a hundred requests a second take their share of a processor.
    with health_times(server.url) as times_ms:
        measure_load(server.url, cpu, CLIENTS, seconds)
    figures[_HEALTH] = statistics.quantiles(times_ms, n=100)[98]
    return figures


@contextmanager
def health_times(url: str) -> Iterator[list[float]]:
    """Ask for /health every 10 ms, and return how long each answer took, in milliseconds."""
    times_ms: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not is_over.wait(0.01):
                began = time.perf_counter()
                client.get("/health").raise_for_status()
                times_ms.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times_ms
    finally:
        is_over.set()
        thread.join()


_QUIET = {"KEDRO_LOGGING_CONFIG": str(PROJECTS / "plain_logging.yml")}

_OURS = {
    "processes": {"KEDRO_SERVER_EXECUTOR": "processes"},
    "reused": {"KEDRO_SERVER_EXECUTOR": "processes", "KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
    "threads": {"KEDRO_SERVER_EXECUTOR": "threads"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; default 3")
    parser.add_argument("--seconds", type=float, default=10, help="for each figure; default 10")
    parser.add_argument(
        "--loops", type=int, default=20_000_000, help="of a CPU-bound run; default 20 million"
    )
    options = parser.parse_args()
    rounds: dict[str, list[Figures]] = {name: [] for name in ("bare", "kedro", *_OURS)}
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(PROJECTS / "probe", Path(folder))
        for _ in range(options.rounds):
            rounds["bare"].append(measure_bare(project, options.loops, options.seconds))
            with kedro_own_server(project, **_QUIET) as server:
                rounds["kedro"].append(measure(server, options.loops, options.seconds))
            for name, settings in _OURS.items():
                with kedro_flask_server(
                    project, "--workers", str(WORKERS), **_QUIET, **settings
                ) as server:
                    rounds[name].append(measure(server, options.loops, options.seconds))
    report(rounds)


def report(rounds: dict[str, list[Figures]]) -> None:
    """Print the medians over the rounds."""
    print(f"{os.cpu_count()} processors, {WORKERS} workers, {len(rounds['bare'])} rounds")
    print(f"{'figure':42}" + "".join(f"{name:>11}" for name in rounds))
    medians: dict[tuple[str, str], float] = {}
    for figure in (_RATE, _ONE, _HEALTH):
        line = f"{figure:42}"
        for name, figures in rounds.items():
            with contextlib.suppress(KeyError):
                medians[figure, name] = statistics.median(each[figure] for each in figures)
            found = medians.get((figure, name))
            line += f"{'-' if found is None else format(found, '.2f'):>11}"
        print(line)
    for name in ("kedro", *_OURS):
        print(f"CPU-bound, {name} / bare: {medians[_RATE, name] / medians[_RATE, 'bare']:.3f}")
    for name in ("processes", "reused"):
        print(
            f"1-node run, {name} - threads: {medians[_ONE, name] - medians[_ONE, 'threads']:.1f} ms"
        )


if __name__ == "__main__":
    main()
