"""What is measured, of whom, and which goal it has against Kedro's own server in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import Request, first_success_at, get, measure, run
from tests.servers import RunningServer, free_port, kedro_flask_server, kedro_own_server

KEDRO = "kedro"
DEFAULT = "default"
_THREADS = "threads"
_REUSED = "reused"

WORKERS = 2
CONTENDERS: dict[str, dict[str, str]] = {
    KEDRO: {},
    DEFAULT: {},
    _THREADS: {"KEDRO_SERVER_EXECUTOR": "threads"},
    _REUSED: {"KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
}
"""Who is measured, and the settings of each: ours are as installed but for what the name says."""

_AS_INSTALLED = {"COLUMNS": "80"}
"""Lines as wide as rich draws them where there is no terminal; those of the tests are wider."""

_FIRST = "first successful run after the start, s"
_RSS = "memory of the server after it (RSS), MB"
_PSS = "memory with all its processes (PSS), MB"
_ONE = "1-node run, 1 client, median ms"
_ONE_RATE = "1-node run, 8 clients, runs/s"
_TWENTY = "20-node run, 1 client, median ms"
_CPU = "CPU-bound run, 4 clients, runs/s"
_SNAPSHOT = "/snapshot, 8 clients, requests/s"
_HEALTH = "/health, 8 clients, requests/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How many times better than Kedro's own server a contender should be, or None: no goal."""

    figure: str
    contender: str
    factor: float | None

    def ratio(self, ours: float, kedro: float) -> float:
        """Return how many times better ours is, whether that means more or less."""
        return ours / kedro if self.figure.endswith("/s") else kedro / ours


GOALS = [
    Goal(figure=figure, contender=contender, factor=factor)
    for figure, contender, factor in (
        (_ONE, _THREADS, 5),
        (_ONE, DEFAULT, 1),
        (_ONE_RATE, _THREADS, 6),
        (_ONE_RATE, _REUSED, 10),
        (_ONE_RATE, DEFAULT, 2),
        (_TWENTY, _THREADS, 8),
        (_CPU, DEFAULT, 1.9),
        (_CPU, _REUSED, 1.9),
        (_SNAPSHOT, DEFAULT, 25),
        (_HEALTH, DEFAULT, 0.8),
        (_FIRST, DEFAULT, 1),
        (_FIRST, _THREADS, 1),
        (_RSS, DEFAULT, 1),
        (_RSS, _THREADS, 1),
        (_PSS, DEFAULT, None),
        (_PSS, _THREADS, None),
    )
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A figure that a load finds: a median with one client, a rate with several."""

    request: Request
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A figure of one round, and what it took to find it: failures, and the client's part."""

    value: float
    answers: int = 0
    failed: int = 0
    client_us: float = 0
    reader_us: float = 0
    client_share: float = 0


Round = dict[str, Sample]


def timed_figures(loops: int) -> dict[str, Timed]:
    """Return the figures that take a load, by name; a CPU-bound run counts to `loops`."""
    success = '"status": ?"success"'
    return {
        _ONE: Timed(request=run("one"), clients=1),
        _ONE_RATE: Timed(request=run("one"), clients=8),
        _TWENTY: Timed(request=run("twenty"), clients=1),
        _CPU: Timed(request=run("cpu", loops=loops), clients=4),
        _SNAPSHOT: Timed(request=get("/snapshot", success), clients=8),
        _HEALTH: Timed(request=get("/health", '"status": ?"healthy"'), clients=8),
    }


def start(contender: str, project: Path) -> tuple[str, RunningServer]:
    """Return the address of a contender's server, and the server, which is yet to start."""
    settings = _AS_INSTALLED | CONTENDERS[contender]
    if contender == KEDRO:
        server = kedro_own_server(project, **settings)
        return server.url, server
    port = str(free_port())
    server = kedro_flask_server(project, "--workers", str(WORKERS), "--port", port, **settings)
    return f"http://127.0.0.1:{port}", server


def measure_contender(
    contender: str, project: Path, load: Executor, figures: dict[str, Timed], seconds: float
) -> Round:
    """Start a contender's server, and return the figures that it has a goal for."""
    wanted = {goal.figure for goal in GOALS if contender in (goal.contender, KEDRO)}
    url, server = start(contender, project)
    began = time.monotonic()
    first = load.submit(first_success_at, url, run("one"))
    with server:
        found = {_FIRST: Sample(value=first.result() - began)}
        found[_RSS] = Sample(value=_megabytes(server, _resident, False))
        found[_PSS] = Sample(value=_megabytes(server, _proportional, True))
        for name, figure in figures.items():
            if name in wanted:
                found[name] = _take(url, figure, load, seconds)
    return {name: sample for name, sample in found.items() if name in wanted}


def _take(url: str, figure: Timed, load: Executor, seconds: float) -> Sample:
    """Take one figure, in the process for that; here only the server's output is read."""
    reader_s = time.process_time()
    outcome = load.submit(measure, url, figure.request, figure.clients, seconds).result()
    reader_s = time.process_time() - reader_s
    return Sample(
        value=outcome.median_ms if figure.clients == 1 else outcome.rate,
        answers=outcome.answers,
        failed=outcome.failed,
        client_us=outcome.client_cpu_s / outcome.answers * 1e6,
        reader_us=reader_s / outcome.answers * 1e6,
        client_share=(outcome.client_cpu_s + reader_s) / outcome.took_s,
    )


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _proportional(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


def _megabytes(
    server: RunningServer, held: Callable[[psutil.Process], int], with_children: bool
) -> float:
    process = psutil.Process(server.process.pid)
    total = 0
    for each in [process, *(process.children(recursive=True) if with_children else [])]:
        try:
            total += held(each)
        except psutil.NoSuchProcess:  # a worker that has had its run
            continue
    return total / 2**20
