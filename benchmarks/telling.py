"""Measures what it costs a run to tell of many nodes and lines, from a process and from a thread.

Each round starts every contender in turn, on one project; what is printed are the medians over the
rounds. What a process costs beside a thread is its constant, which the run of one node shows, and
a part for each node and line: the ratio is that of the rest, the constant taken off.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import KEDRO
from benchmarks.load import Load, Request, run
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

PROCESSES, THREADS = "processes", "threads"
CONTENDERS = (THREADS, PROCESSES, KEDRO)

_MB = 1_000_000
_ONE = "1 node"
_LONGEST = "1,000 nodes"
_LOGGED = "10,000 log lines"
_AT_LEAST = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A run, and how many times as long as in a thread it may take in a process."""

    request: Request
    times: float | None = None
    of: str | None = None
    """Which figure of the thread it is compared with; by default the same."""


FIGURES = {
    _ONE: Figure(request=run("chain_1")),
    "20 nodes": Figure(request=run("chain_20"), times=1.5),
    "100 nodes": Figure(request=run("chain_100"), times=1.5),
    _LONGEST: Figure(request=run("chain_1000"), times=1.5),
    _LOGGED: Figure(request=run("log", lines=10_000), times=2),
    # What is printed in a thread is in no run's log, and so takes next to nothing.
    "10,000 printed lines": Figure(request=run("print", lines=10_000), times=2, of=_LOGGED),
}

_MAX_LONGEST_MS = 600
"""What 1,000 nodes may take in a thread."""

Round = dict[str, float]


def measure(server: RunningServer, seconds: float) -> Round:
    """Return the median of each figure, in milliseconds."""
    return {name: median_ms(server.url, each.request, seconds) for name, each in FIGURES.items()}


def median_ms(url: str, request: Request, seconds: float) -> float:
    """Return what a run takes: the median of those within some seconds, but of three at least."""
    times_ms: list[float] = []
    with Load(url, request) as load:
        load.once()
        ends_at = time.monotonic() + seconds
        while len(times_ms) < _AT_LEAST or time.monotonic() < ends_at:
            answer = load.once()
            if not answer.is_success:
                raise ValueError(f"a run of {request.body} has failed")
            times_ms.append((answer.answered_at - answer.sent_at) * 1000)
    return statistics.median(times_ms)


def start(contender: str, project: Path) -> RunningServer:
    """Return the server of a contender, which is yet to start."""
    if contender == KEDRO:
        return kedro_own_server(project, COLUMNS="80")
    # All of a log is kept: what is thrown away costs less.
    settings = {"EXECUTOR": contender, "MAX_LOG_BYTES": str(10 * _MB)}
    env = {f"KEDRO_SERVER_{name}": value for name, value in settings.items()}
    return kedro_flask_server(project, COLUMNS="80", **env)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; default 3")
    parser.add_argument("--seconds", type=float, default=2, help="for each figure; default 2")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="of these alone")
    parser.add_argument("--json", type=Path, help="a file for all figures of all rounds")
    options = parser.parse_args()
    names = options.only or CONTENDERS
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(PROJECTS / "chains", Path(folder))
        for number in range(options.rounds):
            for name in names[:: 1 if number % 2 == 0 else -1]:
                with start(name, project) as server:
                    rounds[name].append(measure(server, options.seconds))
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=2))
    report(rounds)


def report(rounds: dict[str, list[Round]]) -> None:
    """Print the medians over the rounds, and the ratios beside their goals."""
    medians = {
        name: {figure: statistics.median(each[figure] for each in found) for figure in FIGURES}
        for name, found in rounds.items()
    }
    print(f"{'median ms of':22}" + "".join(f"{name:>11}" for name in medians))
    for figure in FIGURES:
        print(f"{figure:22}" + "".join(f"{each[figure]:11.1f}" for each in medians.values()))
    if not {PROCESSES, THREADS} <= medians.keys():
        return
    processes, threads = medians[PROCESSES], medians[THREADS]
    constant_ms = processes[_ONE] - threads[_ONE]
    print(f"\nA process costs {constant_ms:.1f} ms; for the rest it takes, threads being 1:")
    for figure, each in FIGURES.items():
        if each.times is not None:
            ratio = (processes[figure] - constant_ms) / threads[each.of or figure]
            print(f"{figure:22}{ratio:11.2f}   goal {each.times:g} {_verdict(ratio, each.times)}")
    longest = threads[_LONGEST]
    print(
        f"{_LONGEST} in a thread: {longest:.0f} ms   goal {_MAX_LONGEST_MS}"
        f" {_verdict(longest, _MAX_LONGEST_MS)}"
    )
    if KEDRO in medians:
        print("\nTimes faster than Kedro's own server, in threads and processes:")
        for figure in FIGURES:
            ratios = (medians[KEDRO][figure] / each[figure] for each in (threads, processes))
            print(f"{figure:22}" + "".join(f"{ratio:11.1f}" for ratio in ratios))


def _verdict(value: float, goal: float) -> str:
    return "met" if value <= goal else "MISSED"


if __name__ == "__main__":
    main()
