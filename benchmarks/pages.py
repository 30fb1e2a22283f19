"""Measures the pages: of a large run, beside 1,000,000 runs, and of many that are left open.

Kedro's own server has one page, its API reference; what that takes is measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.load import get, measure
from tests.browsers import chromium, watch
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)

RUNS = 1_000_000
WITH_NODES = 20_000
NODES = 12
OPEN_PAGES = 100
EVERY_S = 3.0
QUIET_EVERY_S = 9.0
"""How often a page asks at first, and where nothing has changed for a minute (live.js)."""


def fill(project: Path, runs: int) -> None:
    """Store runs of 20 pipelines, the newest with what became of their nodes."""
    now_ms = int(time.time() * 1000)
    nodes = {
        f"node_{number}": {"state": "finished", "started_at": None, "duration_ms": 100.0 + number}
        for number in range(NODES)
    }
    summary = json.dumps({"nodes": nodes, "datasets": {}, "is_whole": True})
    rows, pipelines, summaries = [], [], []
    for number in range(runs):
        created_at = now_ms - (runs - number) * 2_500
        moment = time.strftime("%Y-%m-%dT%H.%M.%S", time.gmtime(created_at / 1000))
        run_id = f"{moment}.{created_at % 1000:03d}Z"
        status = "failure" if number % 11 == 0 else "success"
        pipeline = f"pipeline_{number % 20}" if number % 20 else "twenty"
        request = f'{{"pipeline_names": ["{pipeline}"]}}'
        rows.append((run_id, status, request, created_at, created_at + 2_000, 2_000.0))
        pipelines.append((run_id, pipeline))
        if runs - number <= WITH_NODES:
            summaries.append((run_id, summary))
    with sqlite3.connect(project / ".kedro_server" / "runs.db") as connection:
        connection.executemany(
            "INSERT INTO runs (run_id, project, env, status, request, started_at, finished_at,"
            " duration_ms) VALUES (?, 'probe', 'local', ?, ?, ?, ?, ?)",
            rows,
        )
        connection.executemany("INSERT INTO run_pipelines VALUES (?, ?)", pipelines)
        connection.executemany(
            "INSERT INTO run_provenance (run_id, summary) VALUES (?, ?)", summaries
        )
    connection.close()


def large_store(folder: Path, runs: int, seconds: float) -> None:
    """Print what pages take beside many runs."""
    project = copy_project(PROJECTS / "probe", folder)
    with kedro_flask_server(project) as server:
        server.run(pipeline_names=["one"])
    fill(project, runs)
    cursor = time.strftime("%Y-%m-%dT%H.%M.%S.000Z", time.gmtime(time.time() - runs * 1.25))
    pages = {
        "now": "/ui",
        "runs": "/ui/runs",
        "runs, from the middle on": f"/ui/runs?cursor={cursor}",
        "runs, failed": "/ui/runs?status=failure",
        "runs of a pipeline": "/ui/runs?pipeline=pipeline_7",
        "a pipeline with its grid": "/ui/pipelines/twenty",
        "pipelines": "/ui/pipelines",
        "datasets": "/ui/datasets",
    }
    kept = {"KEDRO_SERVER_KEEP_RUNS": str(2 * runs)}
    with kedro_flask_server(project, **kept) as server, kedro_own_server(project) as kedro:
        own_ms = measure(kedro.url, get("/snapshot"), 1, seconds).median_ms
        print(f"{runs:,} runs; median ms of one client{'':6}  ours   ours / Kedro's /snapshot")
        for name, path in pages.items():
            ours = measure(server.url, get(path), 1, seconds)
            goal = "  goal: below 100 ms" if name in ("runs", "a pipeline with its grid") else ""
            print(f"  {name:42} {ours.median_ms:7.1f}   {ours.median_ms / own_ms:6.2f}{goal}")
        print(f"  {'Kedro: /snapshot':42} {own_ms:7.1f}")
        left_open(server)


def left_open(server: RunningServer) -> None:
    """Print what many pages cost that ask for their list while nothing happens."""
    page = server.client.get("/ui", headers={"HX-Request": "true"}).text
    [etag] = re.findall(r'data-etag="([^"]+)"', page)
    process = psutil.Process(server.process.pid)

    def used_s() -> float:
        times = process.cpu_times()
        return times.user + times.system

    def share_of(seconds: float) -> float:
        before, began = used_s(), time.monotonic()
        time.sleep(seconds)
        return 100 * (used_s() - before) / (time.monotonic() - began)

    time.sleep(10)
    alone = share_of(20)
    for every_s, when in ((EVERY_S, "in the first minute"), (QUIET_EVERY_S, "after it")):
        with asking(server, etag, every_s) as answers:
            time.sleep(every_s)
            share = share_of(20)
        unchanged = 100 * answers.count(304) / len(answers)
        print(
            f"{OPEN_PAGES} open pages, {when}: {share - alone:.1f} % of a core beside the"
            f" {alone:.1f} % of a server that nobody looks at (goal: below 5); {unchanged:.0f} % of"
            f" {len(answers)} answers were 304"
        )


@contextmanager
def asking(server: RunningServer, etag: str, every_s: float) -> Iterator[list[int]]:
    """Have many clients ask for a list that they have; yield the statuses of the answers."""
    is_over, answers = threading.Event(), list[int]()

    def ask(delay_s: float) -> None:
        headers = {"HX-Request": "true", "If-None-Match": f'"{etag}"'}
        with httpx.Client(base_url=server.url, headers=headers) as client:
            is_over.wait(delay_s)
            while not is_over.wait(every_s):
                answers.append(client.get("/ui").status_code)

    threads = [
        threading.Thread(target=ask, args=(every_s * number / OPEN_PAGES,))
        for number in range(OPEN_PAGES)
    ]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        is_over.set()
        for each in threads:
            each.join()


def large_run(folder: Path, rounds: int) -> None:
    """Print after how long the page of a large run is usable, from the click on."""
    project = copy_project(PROJECTS / "chains", folder)
    whole_log = {"KEDRO_SERVER_MAX_LOG_BYTES": "67108864"}
    with kedro_flask_server(project, **whole_log) as server, chromium() as browser:
        run_id = server.submit(pipeline_names=["chain_1000", "print"], params={"lines": 20_000})
        while server.show(run_id, wait=60)["status"] == "running":
            pass
        found = []
        with watch(browser, server.url) as watched:
            page = watched.page
            for _ in range(rounds):
                page.goto("/ui/runs")
                link = page.locator(f'[href$="{run_id}"]')
                link.wait_for()
                began = time.monotonic()
                link.click()
                page.locator('tr[data-node="print_lines"]').wait_for()
                page.locator("#log .line", has_text="succeeded in").wait_for()
                # It takes what is typed: nothing holds the page up.
                page.get_by_label("Contains").fill("x")
                page.evaluate("() => new Promise(done => requestAnimationFrame(done))")
                found.append(time.monotonic() - began)
    print(
        f"a run of 1,001 nodes with 20,000 log lines is usable {statistics.median(found):.2f} s"
        f" after the click (median of {rounds}; the longest {max(found):.2f}; goal: 2)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"stored runs; default {RUNS:,}")
    parser.add_argument("--rounds", type=int, default=5, help="of the large run; default 5")
    parser.add_argument("--seconds", type=float, default=2, help="for each page; default 2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large_run(Path(folder, "large"), options.rounds)
        large_store(Path(folder, "many"), options.runs, options.seconds)


if __name__ == "__main__":
    main()
