"""Measures what it costs to record what runs are made of, beside Kedro's own server.

Servers with this package, and with a copy of it that records nothing, on copies of one project, are
sent the same runs in turn, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import kedro_flask_server as package
from benchmarks.__main__ import in_turns, load_process
from benchmarks.load import run
from benchmarks.locks import EXECUTORS, write_project
from tests.servers import kedro_flask_server, kedro_own_server

GOAL_MS = 0.3
"""How much longer a run of one node may take."""

RUNS = {
    "1 node, in memory": run("memory"),
    "1 node, 2 files": run("one"),
    "10 nodes, 300 files": run("many"),
}

# What records it, and what is there instead in the copy.
_CHANGES = {
    "project/kedro_project.py": [
        ("found = describe_run(self.made_with, pipeline, catalog, self.path)", "return"),
    ],
    "project/run_hooks.py": [
        ("if self._catalog is None or is_parameter(dataset):", "if True:"),
        ("rows = rows_of(data)", "rows = None"),
    ],
    "model/report.py": [("self.summary.add(event)", "pass")],
    "runs/recorder.py": [("summary=report.summary", "summary=None")],
}


def copy_without(folder: Path) -> Path:
    """Return a folder with a copy of the package that records nothing of the kind."""
    source = Path(package.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    copy = Path(shutil.copytree(source, folder / source.name, ignore=ignored))
    for name, changes in _CHANGES.items():
        text = (copy / name).read_text()
        for what, instead in changes:
            assert what in text, f"{name} has no {what!r}"
            text = text.replace(what, instead)
        (copy / name).write_text(text)
    return folder


def measure_servers(seconds: float, turns: int) -> None:
    """Print how long runs take with it and without, and the difference."""
    columns = "".join(f"{name:>9}" for name in ("without", "with", "more"))
    print(f"{'run, median ms':<24}{'':<10}{columns}{'ratio':>8}  goal {GOAL_MS} ms{'Kedro':>8}")
    for executor, settings in EXECUTORS.items():
        with tempfile.TemporaryDirectory() as place, load_process() as load, ExitStack() as stack:
            folder = Path(place)
            own = Path(package.__file__).parents[1]
            trees = {"without": copy_without(folder / "tree"), "with": own}
            urls = {}
            for name in (*trees, "Kedro"):
                project = write_project(folder / name)
                add_run_in_memory(project)
                if name == "Kedro":
                    server = stack.enter_context(kedro_own_server(project))
                else:
                    env = {**settings, "PYTHONPATH": str(trees[name]), "COLUMNS": "80"}
                    served = kedro_flask_server(project, "--workers", "2", **env)
                    server = stack.enter_context(served)
                assert server.run(pipeline_names=["seed"])["status"] == "success"
                urls[name] = server.url
            for what, request in RUNS.items():
                _report(what, executor, in_turns(load, urls, request, seconds, turns))


def add_run_in_memory(project: Path) -> None:
    """Add a pipeline of one node without files."""
    registry = project / "src/locked/pipeline_registry.py"
    own = '        "memory": Pipeline([node(make, "params:tag", "made", name="memory")]),\n'
    registry.write_text(registry.read_text().replace("    return {\n", "    return {\n" + own))


def _report(what: str, executor: str, took: dict[str, list[float]]) -> None:
    without, with_it, kedro = (statistics.median(took[name]) for name in took)
    pairs = [*zip(took["without"], took["with"], strict=True)]
    more = statistics.median(after - before for before, after in pairs)
    ratio = statistics.median(after / before for before, after in pairs)
    word = "" if not what.startswith("1 node") else "reached" if more < GOAL_MS else "missed"
    print(
        f"{what:<24}{executor:<10}{without:9.2f}{with_it:9.2f}{more:9.2f}{ratio:8.3f}  {word:<11}"
        f"{kedro:8.2f}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="for each figure; default 2")
    parser.add_argument("--turns", type=int, default=9, help="of all servers; default 9")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    measure_servers(options.seconds, options.turns)


if __name__ == "__main__":
    main()
