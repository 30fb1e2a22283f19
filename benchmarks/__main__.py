"""Measures ours and Kedro's own server in turn, on one project, in one run.

Each round starts one server and then the other, and measures every figure; what is printed are
the medians over the rounds and their ratio. Every timed run carries parameters of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

Figures = dict[str, float]


class Load:
    """Sends requests to one server; each run gets a tag that no other has."""

    def __init__(self, server: RunningServer, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._sent = iter(range(10**9))
        self.failed = 0

    def run(self, **request: object) -> None:
        """Send a run, and count it if it fails: Kedro's own server fails some under load."""
        params = {"tag": f"{os.getpid()}-{id(self)}-{next(self._sent)}"}
        answer = self._server.run(params=params, **request)
        self.failed += answer["status"] != "success"

    def get(self, path: str) -> None:
        """Get a path and see that it is there."""
        self._server.client.get(path).raise_for_status()

    def median_ms(self, send: Callable[[], None]) -> float:
        """Return how long one client waits for an answer: the median, in milliseconds."""
        durations = []
        ends_at = time.perf_counter() + self._seconds
        while time.perf_counter() < ends_at or not durations:
            started_at = time.perf_counter()
            send()
            durations.append((time.perf_counter() - started_at) * 1000)
        return statistics.median(durations)

    def rate(self, send: Callable[[], None], clients: int) -> float:
        """Return how many answers several clients get, per second."""
        started_at = time.perf_counter()
        ends_at = started_at + self._seconds

        def keep_sending() -> int:
            sent = 0
            while time.perf_counter() < ends_at or not sent:
                send()
                sent += 1
            return sent

        with ThreadPoolExecutor(clients) as pool:
            sent = sum(
                each.result() for each in [pool.submit(keep_sending) for _ in range(clients)]
            )
        return sent / (time.perf_counter() - started_at)


def memory_mb(server: RunningServer) -> float:
    """Return the memory that a server's process holds, in MB (its resident set)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) / 1024


def measure(server: RunningServer, seconds: float, started_at: float) -> Figures:
    """Return every figure of one server."""
    load = Load(server, seconds)
    figures = {}
    load.run(pipeline_names=["one"])
    figures["first successful run after the start, s"] = time.perf_counter() - started_at
    figures["memory after the first run, MB"] = memory_mb(server)
    figures["1-node run, 1 client, median ms"] = load.median_ms(
        lambda: load.run(pipeline_names=["one"])
    )
    figures["1-node run, 8 clients, runs/s"] = load.rate(
        lambda: load.run(pipeline_names=["one"]), 8
    )
    figures["20-node run, 1 client, median ms"] = load.median_ms(
        lambda: load.run(pipeline_names=["twenty"])
    )
    figures["CPU-bound run, 4 clients, runs/s"] = load.rate(
        lambda: load.run(pipeline_names=["cpu"]), 4
    )
    figures["/snapshot, 8 clients, requests/s"] = load.rate(lambda: load.get("/snapshot"), 8)
    figures["/health, 8 clients, requests/s"] = load.rate(lambda: load.get("/health"), 8)
    figures["runs that failed"] = load.failed
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; default 5")
    parser.add_argument("--seconds", type=float, default=3, help="for each figure; default 3")
    parser.add_argument("--json", type=Path, help="a file for all figures of all rounds")
    options = parser.parse_args()

    starts = {"ours": kedro_flask_server, "kedro": kedro_own_server}
    rounds: dict[str, list[Figures]] = {name: [] for name in starts}
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(PROJECTS / "probe", Path(folder))
        for number in range(options.rounds):
            # Whoever comes first in one round comes last in the next.
            for name in list(starts)[:: 1 if number % 2 == 0 else -1]:
                started_at = time.perf_counter()
                with starts[name](project) as server:
                    rounds[name].append(measure(server, options.seconds, started_at))
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=2))
    report(rounds)


def report(rounds: dict[str, list[Figures]]) -> None:
    """Print the medians over the rounds, and their ratio."""
    print(f"httpx {httpx.__version__}, {os.cpu_count()} processors, {len(rounds['ours'])} rounds")
    print(f"{'figure':42} {'ours':>10} {'kedro':>10} {'ours/kedro':>11}")
    for figure in rounds["ours"][0]:
        ours, kedro = (
            statistics.median(each[figure] for each in rounds[name]) for name in ("ours", "kedro")
        )
        print(f"{figure:42} {ours:10.2f} {kedro:10.2f} {_ratio(ours, kedro)}")


def _ratio(ours: float, kedro: float) -> str:
    return f"{ours / kedro:11.2f}" if kedro else f"{'-':>11}"


if __name__ == "__main__":
    main()
