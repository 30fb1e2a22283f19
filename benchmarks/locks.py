"""Measures what it costs that runs keep out of each other's way, beside Kedro's own server.

Servers with `dataset_conflicts` allow and wait, on copies of one project, are sent the same runs in
turn, so that what else the machine does falls on all alike. Then the store alone: how long it takes
to find the next of few and of many queued runs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.__main__ import in_turns, load_process
from benchmarks.load import Request, run
from kedro_flask_server.model.data_access import DataAccess
from kedro_flask_server.model.run import RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.store import Database, NewRun, PendingEvents, RunStore, locate
from tests.servers import kedro_flask_server, kedro_own_server

DATASETS = 300
NODES = 10
GOAL = 1.05
"""How many times as long as with `allow` a run may take with `wait`."""

EXECUTORS = {
    "default": {"KEDRO_SERVER_EXECUTOR": "processes"},
    "reused": {"KEDRO_SERVER_EXECUTOR": "processes", "KEDRO_SERVER_MAX_RUNS_PER_WORKER": "1000000"},
    "threads": {"KEDRO_SERVER_EXECUTOR": "threads"},
}
RUNS: dict[str, Request] = {
    "1 node, 2 files": run("one"),
    "1 node, a path of its own": run("named"),
    f"{NODES} nodes, {DATASETS} files": run("many"),
}

_PIPELINES = f"""
from kedro.pipeline import Pipeline, node


def make(tag):
    return tag


def seed():
    return ("x",) * {DATASETS // 2}


def pass_on(*given):
    return given


def register_pipelines():
    places = range({DATASETS // 2})
    step = {DATASETS // 2 // NODES}
    parts = [places[start : start + step] for start in places[::step]]
    many = [
        node(pass_on, [f"in_{{n}}" for n in part], [f"out_{{n}}" for n in part], name=f"n{{at}}")
        for at, part in enumerate(parts)
    ]
    return {{
        "seed": Pipeline([node(seed, None, [f"in_{{n}}" for n in places], name="seed")]),
        "one": Pipeline([node(make, "in_0", "out_0", name="one")]),
        "named": Pipeline([node(make, "in_0", "named", name="named")]),
        "many": Pipeline(many),
        "__default__": Pipeline(many),
    }}
"""


def write_project(folder: Path) -> Path:
    """Write a project whose catalog is that of the measured runs."""
    package = folder / "src" / "locked"
    for each in (package, folder / "conf/base", folder / "conf/local", folder / "data"):
        each.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "locked"\nproject_name = "locked"\n'
        'kedro_init_version = "1.6.0"\nsource_dir = "src"\n'
    )
    (folder / "conf/base/catalog.yml").write_text(_catalog())
    (folder / "conf/base/parameters.yml").write_text("tag: none\n")
    for name in ("__init__", "settings"):
        (package / f"{name}.py").write_text('"""Nothing."""\n')
    (package / "pipeline_registry.py").write_text(_PIPELINES)
    return folder


def _catalog() -> str:
    entries = [
        f"{kind}_{number}:\n  type: json.JSONDataset\n  filepath: data/{kind}/{number}.json\n"
        for kind in ("in", "out")
        for number in range(DATASETS // 2)
    ]
    path = "data/named/${runtime_params:tag, none}.json"
    return "".join([*entries, f"named:\n  type: json.JSONDataset\n  filepath: {path}\n"])


def measure_servers(seconds: float, turns: int) -> None:
    """Print how long runs take, and how many times as long as with `allow`."""
    print(f"{'run':<28}{'':<10}{'allow':>8}{'wait':>8}{'ratio':>7}  goal {GOAL:<5}{'Kedro':>8}")
    for executor, settings in EXECUTORS.items():
        with tempfile.TemporaryDirectory() as folder, load_process() as load, ExitStack() as stack:
            urls = {}
            for name in ("allow", "wait", "Kedro"):
                project = write_project(Path(folder, name))
                env = {**settings, "KEDRO_SERVER_DATASET_CONFLICTS": name}
                server = stack.enter_context(
                    kedro_own_server(project)
                    if name == "Kedro"
                    else kedro_flask_server(project, "--workers", "2", COLUMNS="80", **env)
                )
                assert server.run(pipeline_names=["seed"])["status"] == "success"
                urls[name] = server.url
            for what, request in RUNS.items():
                _report(what, executor, in_turns(load, urls, request, seconds, turns))


def _report(what: str, executor: str, took: dict[str, list[float]]) -> None:
    allow, wait, kedro = (statistics.median(took[name]) for name in ("allow", "wait", "Kedro"))
    ratio = statistics.median(b / a for a, b in zip(took["allow"], took["wait"], strict=True))
    word = "reached" if ratio <= GOAL else "missed"
    print(f"{what:<28}{executor:<10}{allow:8.2f}{wait:8.2f}{ratio:7.3f}  {word:<10}{kedro:8.2f}")


def measure_queue(length: int) -> None:
    """Print how long the store takes to find the next of so many runs that wait for each other."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Database(locate(None, Path(folder))), project="p", env="e")
        store.open()
        server = ServerProcess.this()
        store.servers.register(server, lease_s=60)
        ids = RunIds()
        for _ in range(length):
            store.new_runs.add(_queued(server), ids.next)
        claims = sorted(_claims(store, server))
        store.close()
    median, last = statistics.median(claims), claims[int(0.99 * len(claims))]
    print(f"{length:>6} queued: the next is found in {median:.2f} ms, 99 % in {last:.2f} (goal 5)")


def _queued(server: ServerProcess) -> NewRun:
    half = range(10)
    access = DataAccess(
        reads={f"in_{n}": f"file:///data/in/{n}.json" for n in half},
        writes={f"out_{n}": f"file:///data/out/{n}.json" for n in half},
    )
    return NewRun(
        submission=Submission(request=RunRequest(pipeline_names=["many"])),
        server_id=server.server_id,
        is_held=False,
        workers=4,
        max_queued=1_000_000,
        locks=access.locks(),
    )


def _claims(store: RunStore, server: ServerProcess) -> Iterator[float]:
    success = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)
    for _ in range(100):
        began = time.perf_counter()
        claimed = store.queue.claim(server.server_id)
        yield (time.perf_counter() - began) * 1000
        assert claimed is not None
        store.finish(claimed.run, success, PendingEvents(server_id=server.server_id, events=[]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="for each figure; default 2")
    parser.add_argument("--turns", type=int, default=9, help="of all servers; default 9")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    measure_servers(options.seconds, options.turns)
    for length in (100, 10_000):
        measure_queue(length)


if __name__ == "__main__":
    main()
