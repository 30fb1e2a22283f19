"""Measures what data costs that goes into a run and out of it, beside Kedro's own server.

Kedro's own server takes no data: beside it stands the same run without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psutil

from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

PARQUET = "application/vnd.apache.parquet"
GOAL_OF_PARQUET = 3.0
"""How many times as long as reading and writing the file a run on it may take."""

EXECUTORS = {
    "processes": {},
    "reused": {"KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
    "threads": {"KEDRO_SERVER_EXECUTOR": "threads"},
}


def took_ms(function: Callable[[], object]) -> float:
    """Return how long a call took, in milliseconds."""
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1000


def frame_of(megabytes: float) -> pd.DataFrame:
    """Return numbers that take as many megabytes in a file of Parquet."""
    rows = int(megabytes * 1e6 / 80)
    numbers = np.random.default_rng(1).random((rows, 10))
    return pd.DataFrame(numbers, columns=[f"column_{at}" for at in range(10)])


def call(server: RunningServer, pipeline: str, **sent: object) -> httpx.Response:
    """Run a pipeline on data."""
    response = server.client.post(f"/pipelines/{pipeline}/run", **sent)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text[:500]
    return response


def measure_parquet(server: RunningServer, name: str, folder: Path, turns: int) -> None:
    """Print how long 50 MB of Parquet take in and out, and the file alone."""
    frame, path = frame_of(50), folder / "in.parquet"
    frame.to_parquet(path)
    content = path.read_bytes()
    headers = {"Content-Type": PARQUET, "Accept": PARQUET}

    def whole() -> None:
        answer = call(server, "scale", content=content, headers=headers)
        assert len(answer.content) > 10_000_000

    def alone() -> None:
        pd.read_parquet(path).to_parquet(folder / "out.parquet")

    whole()
    ratios = []
    for _ in range(turns):
        ratios.append((took_ms(whole), took_ms(alone)))
    ratio = statistics.median(one / other for one, other in ratios)
    word = "reached" if ratio <= GOAL_OF_PARQUET else "missed"
    ours, bare = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(
        f"{len(content) / 1e6:.0f} MB of Parquet{'':<8}{name:<10}{ours:9.0f} ms, file alone "
        f"{bare:.0f} ms, ratio {ratio:.2f}, goal {GOAL_OF_PARQUET} {word}",
        flush=True,
    )


def measure_json(server: RunningServer, kedro: RunningServer, name: str, turns: int) -> None:
    """Print how long JSON of 1 kB and 1 MB takes beside the same run without data."""
    for what, rows in (("1 kB", 10), ("1 MB", 10_000)):
        sent = [{f"column_{at}": at + 0.25 for at in range(8)} for _ in range(rows)]
        content = json.dumps({"inputs": {"value": sent}, "save": False}).encode()
        headers = {"Content-Type": "application/json"}

        def with_data(content: bytes = content, headers: dict[str, str] = headers) -> None:
            call(server, "echo", content=content, headers=headers)

        def without() -> None:
            assert server.run(pipeline_names=["wait"])["status"] == "success"

        def kedros() -> None:
            assert kedro.run(pipeline_names=["wait"])["status"] == "success"

        taken = [tuple(map(took_ms, (with_data, without, kedros))) for _ in range(turns)]
        data, bare, own = (statistics.median(each) for each in zip(*taken, strict=True))
        print(
            f"{what} of JSON{'':<13}{name:<10}{data:9.1f} ms, without data {bare:.1f} ms, ratio "
            f"{data / bare:.2f}; Kedro's own without data {own:.1f} ms",
            flush=True,
        )


def measure_memory(server: RunningServer, name: str, calls: int) -> None:
    """Print the memory of the server over many calls of 1 MB."""
    sent = [{f"column_{at}": at + 0.25 for at in range(8)} for _ in range(10_000)]
    content = json.dumps({"inputs": {"value": sent}, "save": False}).encode()
    headers = {"Content-Type": "application/json"}
    process, sizes = psutil.Process(server.process.pid), []
    for number in range(calls):
        answer = call(server, "echo", content=content, headers=headers)
        server.client.delete(f"/runs/{answer.headers['Kedro-Run-Id']}/outputs")
        if number % max(1, calls // 10) == 0:
            sizes.append(process.memory_info().rss / 1e6)
    shown = ", ".join(f"{each:.0f}" for each in sizes)
    print(f"memory, {calls} calls of 1 MB  {name:<10} MB: {shown}", flush=True)


def measure_mixing(server: RunningServer, name: str, calls: int) -> None:
    """Print what calls over 64 connections with data of their own are answered."""
    found: Counter[str] = Counter()
    data = server.cwd / ".kedro_server" / "data"
    before = len([*data.iterdir()])
    with httpx.Client(
        base_url=server.url, timeout=300, limits=httpx.Limits(max_connections=64)
    ) as client:

        def send(number: int) -> None:
            body = {"inputs": {"value": {"number": number}}, "save": False}
            while True:
                answer = client.post("/pipelines/echo/run", json=body)
                if answer.status_code != 503:
                    break
                found["503"] += 1
                time.sleep(0.05)
            run_id = answer.headers["Kedro-Run-Id"]
            is_own = answer.json()["outputs"] == {"echoed": {"number": number}}
            found["own" if is_own else "mixed"] += 1
            client.delete(f"/runs/{run_id}/outputs")

        with ThreadPoolExecutor(64) as pool:
            [*pool.map(send, range(calls))]
    left = len([*data.iterdir()]) - before
    print(f"{calls} calls, 64 connections  {name:<10} {dict(found)}, left: {left}", flush=True)
    assert not found["mixed"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="of each figure; default 9")
    parser.add_argument("--calls", type=int, default=500, help="for memory and mixing; default 500")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        project = copy_project(PROJECTS / "exchanged", folder / "kedro")
        kedro = stack.enter_context(kedro_own_server(project))
        for name, settings in EXECUTORS.items():
            project = copy_project(PROJECTS / "exchanged", folder / name)
            env = {**settings, "KEDRO_SERVER_WORKERS": "2", "COLUMNS": "80"}
            with kedro_flask_server(project, **env) as server:
                measure_parquet(server, name, folder, options.turns)
                measure_json(server, kedro, name, options.turns)
                measure_memory(server, name, options.calls)
                measure_mixing(server, name, options.calls)


if __name__ == "__main__":
    main()
