"""What a run's own is in a new `kedro run`, and is its own in a worker, too."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers import RunningServer, eventually, kedro_flask_server

PYPROJECT = """
[tool.kedro]
package_name = "proj"
project_name = "proj"
kedro_init_version = "1.6.0"
"""

REGISTRY = """
import inspect
from kedro.pipeline import Pipeline, node
from proj import nodes

def register_pipelines():
    functions = inspect.getmembers(nodes, inspect.isfunction)
    return {
        name: Pipeline([node(function, "parameters", None, name=name)])
        for name, function in functions
        if function.__module__ == nodes.__name__
    }
"""

# As Kedro's starters had it: the project's package is named, so that Kedro configures logging
# once, before the project is there.
LOGGING = """
version: 1
disable_existing_loggers: false
formatters: {plain: {format: "%(levelname)s - %(name)s - %(message)s"}}
handlers:
  console: {class: logging.StreamHandler, formatter: plain, stream: ext://sys.stdout}
  device: {class: logging.FileHandler, formatter: plain, filename: /dev/stderr, delay: true}
  rotating:
    class: logging.handlers.RotatingFileHandler
    formatter: plain
    filename: logs/info.log
    maxBytes: 2000
    backupCount: 50
  latest: {class: logging.FileHandler, formatter: plain, filename: logs/latest.log, mode: w}
loggers:
  kedro: {level: INFO}
  proj: {level: INFO, handlers: [rotating, latest]}
  proj.device: {level: INFO, handlers: [device], propagate: false}
root: {handlers: [console]}
"""


def make_project(folder: Path, nodes: str, **files: str) -> Path:
    """Make a project with a pipeline for each function of some source text."""
    project = folder / "project"
    package = project / "src" / "proj"
    for each in ("conf/base", "conf/local", "logs", "out", "src/proj"):
        (project / each).mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "conf/base/catalog.yml").write_text("# none")
    (project / "conf/base/parameters.yml").write_text("i: 0")
    for name in ("__init__", "settings"):
        (package / f"{name}.py").touch()
    (package / "pipeline_registry.py").write_text(REGISTRY)
    (package / "nodes.py").write_text(nodes)
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    return project


def execute(server: RunningServer, pipeline: str, **params: object) -> str:
    answer = server.run(pipeline_names=[pipeline], params=params)
    assert answer["status"] == "success", (answer, server.log)
    return str(answer["run_id"])


def template_of(server: RunningServer) -> psutil.Process:
    [template] = psutil.Process(server.process.pid).children()
    return template


NODES = """
import json, logging, random
import numpy as np

random.seed(42)
np.random.seed(42)
OWN, SEEDED = np.random.default_rng(), np.random.default_rng(5)

def draw(parameters):
    drawn = random.random(), np.random.rand(), OWN.random(), SEEDED.random()
    with open(f"out/{parameters['i']}", "w") as file:
        json.dump([float(each) for each in drawn], file)

def talk(parameters):
    for line in range(10):
        logging.getLogger("proj").info("run %s line %s %s", parameters["i"], line, "x" * 50)

def talk_to_device(parameters):
    logging.getLogger("proj.device").info("a line for the device")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that tests share, on a project that seeds, and logs into files."""
    project = make_project(tmp_path_factory.mktemp("own"), NODES)
    (project / "conf/logging.yml").write_text(LOGGING)
    with kedro_flask_server(project, "--workers", "1") as server:
        yield server


def check_draws(server: RunningServer) -> None:
    import numpy as np

    expected = random.Random(42).random(), np.random.RandomState(42).rand()
    seeded = np.random.default_rng(5).random()
    for i in range(2):
        execute(server, "draw", i=i)
    first, second = (json.loads((server.cwd / f"out/{i}").read_text()) for i in range(2))
    assert (*first[:2], first[3]) == (*second[:2], second[3]) == (*expected, seeded)
    assert first[2] != second[2]  # of a generator that nobody has seeded


def test_seed_that_the_project_sets_counts_in_each_run(served: RunningServer) -> None:
    check_draws(served)


@pytest.mark.once
def test_seed_counts_where_workers_are_started_by_themselves(tmp_path: Path) -> None:
    project = make_project(tmp_path, NODES)
    with kedro_flask_server(project, KEDRO_SERVER_WORKER_START_METHOD="spawn") as server:
        check_draws(server)


def test_line_is_once_in_the_log_and_once_in_the_servers_output(served: RunningServer) -> None:
    run_id = execute(served, "talk", i=100)
    log = served.client.get(f"/runs/{run_id}/logs").text
    assert log.count("run 100 line 3 ") == 1
    served.wait_for_line("run 100 line 3 ")
    run_id = execute(served, "talk_to_device")
    log = served.client.get(f"/runs/{run_id}/logs").text
    assert log.count("a line for the device") == 1
    served.wait_for_line("a line for the device")
    assert served.log.count("run 100 line 3 ") == 1
    assert served.log.count("a line for the device") == 1


def test_log_files_have_every_run_and_are_opened_by_each(served: RunningServer) -> None:
    runs = range(200, 212)
    for i in runs:
        execute(served, "talk", i=i)
    logs = served.cwd / "logs"
    lines = "".join(each.read_text() for each in logs.glob("info.log*")).splitlines()
    for i in runs:
        assert len([line for line in lines if f"run {i} line" in line]) == 10
    assert max(each.stat().st_size for each in logs.glob("info.log*")) <= 2000
    latest = (logs / "latest.log").read_text().splitlines()
    assert [line.split()[5] for line in latest] == ["211"] * 10


SHARING = """
import os, tempfile

AUDIT = open("audit.csv", "a")
FOLDER = tempfile.TemporaryDirectory(prefix="scratch-")

def work(parameters):
    path = os.path.join(FOLDER.name, "number")
    AUDIT.write(f"run {parameters['i']}\\n")
    with open(path, "w") as file:
        file.write(str(parameters["i"]))
    assert os.listdir(FOLDER.name) == ["number"]
    with open(f"out/{parameters['i']}", "w") as file:
        file.write(FOLDER.name)
"""


@pytest.mark.once
def test_what_runs_would_share_has_each_start_by_itself(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    project = make_project(tmp_path, SHARING)
    with kedro_flask_server(project, "--workers", "1", TMPDIR=str(scratch)) as server:
        for i in range(3):
            execute(server, "work", i=i)
        [warning] = [line for line in server.lines if "starts by itself" in line]
        for name in (str(project / "audit.csv"), str(scratch / "scratch-"), "worker_start_method"):
            assert name in warning
        # The process that starts them has nothing of the project's.
        held = {each.path for each in template_of(server).open_files()}
        assert not any(path.startswith(str(project)) for path in held)
    assert (project / "audit.csv").read_text() == "run 0\nrun 1\nrun 2\n"
    folders = [(project / "out" / str(i)).read_text() for i in range(3)]
    assert len(set(folders)) == 3
    assert not any(Path(folder).exists() for folder in folders)


@pytest.mark.once
def test_fork_is_respected_and_what_runs_write_is_there(tmp_path: Path) -> None:
    nodes = SHARING.replace("assert", "# ")
    project = make_project(tmp_path, nodes)
    with kedro_flask_server(project, KEDRO_SERVER_WORKER_START_METHOD="fork") as server:
        for i in range(3):
            execute(server, "work", i=i)
        [warning] = [line for line in server.lines if "Runs share" in line]
        assert str(project / "audit.csv") in warning
        assert "starts by itself" not in server.log
    assert (project / "audit.csv").read_text() == "run 0\nrun 1\nrun 2\n"
    assert len({(project / "out" / str(i)).read_text() for i in range(3)}) == 1


LATE = """
import json, os

def work(parameters):
    import big_library
    from proj.reference import TABLE
    import proj.job
    with open(f"out/{parameters['i']}", "w") as file:
        json.dump([TABLE, big_library.MODE], file)

def configure(parameters):
    os.environ["MODE"] = str(parameters["i"])
    work(parameters)
"""

BIG_LIBRARY = """
import importlib, os
MODE = os.environ.get("MODE")
for number in range(12):
    importlib.import_module(f"big_library.part_{number}")

from kedro.io import MemoryDataset

class OtherDataset(MemoryDataset):
    pass
"""


def make_late_project(tmp_path: Path, **files: str) -> Path:
    """Make a project whose nodes import what they need themselves, and a library for it."""
    library = tmp_path / "site-packages" / "big_library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(BIG_LIBRARY)
    for number in range(12):
        (library / f"part_{number}.py").touch()
    project = make_project(
        tmp_path,
        LATE,
        reference="TABLE = open('reference.txt').read()",
        job="with open('job.log', 'a') as file:\n    file.write('executed\\n')",
        **files,
    )
    (project / "reference.txt").write_text("first")
    return project


@pytest.fixture
def late(tmp_path: Path) -> Iterator[RunningServer]:
    """Return a server on such a project."""
    env = {"PYTHONPATH": str(tmp_path / "site-packages")}
    with kedro_flask_server(make_late_project(tmp_path), "--workers", "1", **env) as server:
        yield server


def find(server: RunningServer, pipeline: str, i: int) -> list[object]:
    """Execute a run, and return what it has found."""
    (server.cwd / "reference.txt").write_text(f"before {i}")
    execute(server, pipeline, i=i)
    found: list[object] = json.loads((server.cwd / "out" / str(i)).read_text())
    return found


@pytest.mark.once
def test_only_libraries_are_imported_ahead_of_runs(late: RunningServer) -> None:
    first = template_of(late)
    assert find(late, "work", 0) == ["before 0", None]
    eventually(lambda: not first.is_running() and len(template_of(late).children()) >= 1)
    assert "big_library" not in late.log
    for i in (1, 2):
        assert find(late, "work", i) == [f"before {i}", None]
    assert (late.cwd / "job.log").read_text() == "executed\n" * 3
    # A run that sets something first has it count, if not at once: what it finds imported is told
    # by nothing.
    second = template_of(late)
    find(late, "configure", 3)
    eventually(lambda: not second.is_running() and len(template_of(late).children()) >= 1)
    assert find(late, "configure", 4) == ["before 4", "4"]


EARLY_HOOKS = """
import os
from kedro.framework.hooks import hook_impl

class Hooks:
    @hook_impl
    def after_context_created(self, context):
        os.environ["MODE"] = "of the hook"

HOOKS = (Hooks(),)
"""

OWN_DATASETS = """
from kedro.io import MemoryDataset
open("imported", "w").close()

class OwnDataset(MemoryDataset):
    pass
"""


@pytest.mark.once
@pytest.mark.parametrize(("hooks", "mode"), [("", None), (EARLY_HOOKS, "of the hook")])
def test_classes_of_datasets_are_imported_after_what_a_hook_sets(
    tmp_path: Path, hooks: str, mode: str | None
) -> None:
    project = make_late_project(tmp_path, settings=hooks, datasets=OWN_DATASETS)
    (project / "conf/base/catalog.yml").write_text(
        "own: {type: proj.datasets.OwnDataset}\nother: {type: big_library.OtherDataset}"
    )
    with kedro_flask_server(project, PYTHONPATH=str(tmp_path / "site-packages")) as server:
        eventually(lambda: server.client.get("/health/ready").status_code == 200)
        assert not (project / "imported").exists()
        for i in range(2):
            assert find(server, "work", i) == [f"before {i}", mode]


@pytest.mark.once
def test_variable_that_is_set_before_an_import_counts_in_each_run(late: RunningServer) -> None:
    first = template_of(late)
    for i in range(4):
        assert find(late, "configure", i) == [f"before {i}", str(i)]
    assert template_of(late) == first
    assert (late.cwd / "job.log").read_text() == "executed\n" * 4
