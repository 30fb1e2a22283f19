"""Measures ours and Kedro's own server in turn, on one project, in one run.

Each round starts every contender in turn, in reverse order every other round; what is printed are
the medians over the rounds, and how many times better ours is. Every timed run carries parameters
of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import (
    CONTENDERS,
    DEFAULT,
    GOALS,
    KEDRO,
    WORKERS,
    Goal,
    Round,
    Sample,
    measure_contender,
    timed_figures,
)
from benchmarks.load import Request, measure
from tests.servers import PROJECTS, copy_project

Rounds = dict[str, list[Round]]

_LEGEND = f"""\
ratio: how many times better ours is than Kedro's own server, whether that means more or less.
threads: executor threads; default: a process for each run; reused: processes that are used again.
All with {WORKERS} workers and the logging that they come with, without telemetry. Medians and rates
count runs that succeed, and no others; those that fail are listed below.
"""

_LOAD_LEGEND = """
The measuring itself: the process that sends (client) and the thread that reads what the server
prints (reader), in µs of a processor for each answer; both together, in % of one processor.
"""


def main() -> None:
    """Measure and print."""
    options = _parse()
    with tempfile.TemporaryDirectory() as folder, load_process() as load:
        project = copy_project(PROJECTS / "probe", Path(folder))
        rounds = measure_rounds(options, project, load)
    circumstances = _circumstances(options)
    if options.json:
        write(rounds, circumstances, options.json)
    print(", ".join(f"{name} {value}" for name, value in circumstances.items()))
    report_figures(rounds)
    report_load(rounds)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; default 5")
    parser.add_argument("--seconds", type=float, default=3, help="for each figure; default 3")
    parser.add_argument(
        "--loops", type=int, default=3_000_000, help="of a CPU-bound run; default 3 million"
    )
    parser.add_argument("--json", type=Path, help="a file for all figures of all rounds")
    parser.add_argument(
        "--short",
        action="store_true",
        help="one round, 0.8 s for each figure, no starts beforehand: in CI, under a minute",
    )
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seconds = 1, 0.8
    return options


@contextmanager
def load_process() -> Iterator[Executor]:
    """Start the process that all load comes from, for as long as the ``with`` statement lasts."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=gc.freeze) as load:
        load.submit(os.getpid).result()
        yield load


def in_turns(
    load: Executor, urls: Mapping[str, str], request: Request, seconds: float, turns: int
) -> dict[str, list[float]]:
    """Return the median time of a request in each turn, in milliseconds, by server.

    What else the machine does falls on all servers alike: they are asked one after the other, and
    in the opposite order every other turn.

    Args:
        load: The result of `load_process`.
        urls: The servers, by their names.
        request: What to send, from one client.
        seconds: How long, in each turn.
        turns: How often.
    """
    took: dict[str, list[float]] = {name: [] for name in urls}
    for turn in range(turns):
        for name in list(urls)[:: 1 if turn % 2 == 0 else -1]:
            found = load.submit(measure, urls[name], request, 1, seconds).result()
            assert not found.failed
            took[name].append(found.median_ms)
    return took


def measure_rounds(options: argparse.Namespace, project: Path, load: Executor) -> Rounds:
    """Return what each contender reached in each round."""
    rounds: Rounds = {name: [] for name in CONTENDERS}
    # Whoever starts first reads the files for the others.
    for name in () if options.short else (KEDRO, DEFAULT):
        measure_contender(name, project, load, {}, 0)
    for number in range(options.rounds):
        for name in list(CONTENDERS)[:: 1 if number % 2 == 0 else -1]:
            figures = timed_figures(options.loops)
            rounds[name].append(measure_contender(name, project, load, figures, options.seconds))
    return rounds


def _circumstances(options: argparse.Namespace) -> dict[str, object]:
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("kedro", "kedro-flask-server", "uvicorn", "waitress")},
        "rounds of each": options.rounds,
        "seconds a figure": options.seconds,
    }


def write(rounds: Rounds, circumstances: dict[str, object], path: Path) -> None:
    """Write every figure of every round to a JSON file."""
    figures = {
        name: [{key: dataclasses.asdict(each[key]) for key in each} for each in found]
        for name, found in rounds.items()
    }
    path.write_text(json.dumps(circumstances | {"rounds": figures}, indent=2))


def report_figures(rounds: Rounds) -> None:
    """Print the medians over the rounds, and their ratio beside the goal."""
    print(_LEGEND)
    print(f"{'figure':40} {'contender':9} {'ours':>9} {'kedro':>9} {'ratio':>7} {'goal':>5}")
    for goal in GOALS:
        ours, kedro = (
            statistics.median(each[goal.figure].value for each in rounds[name])
            for name in (goal.contender, KEDRO)
        )
        ratio = goal.ratio(ours, kedro)
        print(
            f"{goal.figure:40} {goal.contender:9} {ours:9.2f} {kedro:9.2f} {ratio:7.2f}"
            f" {_verdict(goal, ratio)}"
        )


def _verdict(goal: Goal, ratio: float) -> str:
    if goal.factor is None:
        return f"{'-':>5}"
    return f"{goal.factor:5g} {'met' if ratio >= goal.factor else 'MISSED'}"


def report_load(rounds: Rounds) -> None:
    """Print which runs failed, and what the measuring itself took of the processors."""
    print(_LOAD_LEGEND)
    names = ("answers", "failed", "client", "reader", "both %")
    print(f"{'figure':40} {'contender':9}", *(f"{name:>8}" for name in names))
    for name, found in rounds.items():
        for figure in [each for each in found[0] if found[0][each].answers]:
            print(f"{figure:40} {name:9}", _load_cells([each[figure] for each in found]))


def _load_cells(samples: list[Sample]) -> str:
    client, reader, share = (
        statistics.median(getattr(each, field) for each in samples)
        for field in ("client_us", "reader_us", "client_share")
    )
    answers, failed = (
        sum(getattr(each, field) for each in samples) for field in ("answers", "failed")
    )
    return f"{answers:8} {failed:8} {client:8.0f} {reader:8.0f} {share * 100:8.1f}"


if __name__ == "__main__":
    main()
