"""Projects do over a server what they do with a new `kedro run`: their own results are compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import (
    RunningServer,
    environment,
    kedro_flask_server,
    refused_start,
)

# What `kedro run` does with its options (`kedro.framework.cli.project.run`).
RUN = """
import importlib, json, sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(".")
asked = json.loads(sys.argv[1])
module, _, name = asked.get("runner", "kedro.runner.SequentialRunner").rpartition(".")
with KedroSession.create(".", runtime_params=asked.get("params") or {}) as session:
    session.run(
        runner=getattr(importlib.import_module(module), name)(is_async=False),
        tags=tuple(asked.get("tags", ())),
        node_names=tuple(asked.get("node_names", ())),
        load_versions=asked.get("load_versions", {}),
        **{
            key: asked.get(key, [])
            for key in ("from_nodes", "to_nodes", "from_inputs", "to_outputs")
            + ("pipeline_names", "namespaces")
        },
    )
"""

NOTES = """
import json

def note(name, content):
    with open(f"out/{name}.json", "w") as file:
        json.dump(content, file)
"""

ODD = {
    "src/odd/__init__.py": "",
    "src/odd/notes.py": NOTES,
    "src/odd/settings.py": '''
import logging
from pathlib import Path

import yaml
from kedro.framework.hooks import hook_impl
from kedro.framework.session import KedroSession

from odd.notes import note


def include(loader, node):
    return yaml.safe_load((Path("conf") / node.value).read_text())


for each in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    each.add_constructor("!include", include)


class PendingEvents:
    @hook_impl
    def after_catalog_created(self, conf_catalog):
        note("types", {name: entry["type"] for name, entry in conf_catalog.items()})

    @hook_impl
    def before_pipeline_run(self, run_params):
        told = {
            name: [type(each).__name__, str(each).partition(" at 0x")[0]]
            for name, each in run_params.items()
        }
        for name in ("session_id", "run_id"):  # of a service session, and new each time
            told.pop(name, None)
        note("run_params", {name: told[name] for name in sorted(told)})

    @hook_impl
    def after_node_run(self, node):
        lines = Path("logs/info.log").read_text().splitlines()
        note("node_log", [line for line in lines if "number" in line][-1:])

    @hook_impl
    def after_pipeline_run(self):
        lines = Path("logs/info.log").read_text().splitlines()
        note("run_log", [line for line in lines if "number" in line][-1:])


class Audited(KedroSession):
    """Not what serves."""


HOOKS = (PendingEvents(),)
SESSION_CLASS = Audited
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"upper": str.upper, "size": lambda text: len(text.encode())},
}
''',
    "src/odd/runner.py": """
from kedro.runner import SequentialRunner
from pluggy import PluginManager

from odd.notes import note


class Curious(SequentialRunner):
    def _run(self, pipeline, catalog, hook_manager=None, run_id=None):
        hooks = hook_manager.hook.before_dataset_loaded.get_hookimpls()
        after = hook_manager.hook.after_pipeline_run.get_hookimpls()
        note("runner", [isinstance(hook_manager, PluginManager), len(hooks), len(after)])
        return super()._run(pipeline, catalog, hook_manager, run_id)
""",
    "src/odd/pipeline_registry.py": """
import logging

from kedro.pipeline import Node, Pipeline
from omegaconf import OmegaConf

from odd.notes import note


def show(parameters):
    logging.getLogger("odd").info("number %s", parameters.get("number"))
    templates = OmegaConf.create(parameters["templates"])
    note("parameters", parameters)
    note("columns", list(parameters["columns"]))
    note("later", OmegaConf.to_container(templates, resolve=True))


def register_pipelines():
    return {
        "__default__": Pipeline([Node(show, "parameters", None, name="show", tags="t")]),
        "other": Pipeline([Node(show, "parameters", None, name="other")]),
    }
""",
    "conf/base/parameters.yml": r"""
columns: {}
model: !include shared/model.yml
size: ${size:${runtime_params:pattern, abc}}
templates:
  own: \${upper:abc}
  global: \${globals:types.csv}
  given: \${runtime_params:pattern, none}
""",
    "conf/base/globals.yml": "types: {csv: pandas.CSVDataset}\npaths: {eu: data/eu}\n",
    "conf/base/catalog.yml": (
        "sales:\n  type: ${globals:types.csv}\n"
        "  filepath: ${globals:paths.${runtime_params:region, eu}}/sales.csv\n"
    ),
    "conf/logging.yml": """
version: 1
disable_existing_loggers: false
formatters: {plain: {format: '%(message)s'}}
handlers:
  file: {class: logging.FileHandler, filename: logs/info.log, formatter: plain, delay: true}
root: {level: INFO, handlers: [file]}
""",
    "conf/shared/model.yml": "rate: 0\n",
    "conf/local/.gitkeep": "",
    "logs/.gitkeep": "",
    "pyproject.toml": (
        '[tool.kedro]\npackage_name = "odd"\nproject_name = "odd"\nkedro_init_version = "1.7.0"\n'
    ),
}

REQUESTS: list[dict[str, Any]] = [
    {"params": {"columns": {"zip": 1, "name": {"z": 1, "a": 2}, "age": 3}, "number": 1}},
    {
        "params": {"pattern": "^a$ US$ 5", "region": "eu", "number": 2},
        "tags": ["t"],
        "from_nodes": ["show"],
        "runner": "odd.runner.Curious",
    },
    {"pipeline_names": ["other"], "node_names": ["other"], "params": {"number": 3}},
    {"load_versions": {}, "params": {"region": "eu", "number": 4}},
]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "out").mkdir()
    return folder


def take_notes(project: Path) -> dict[str, Any]:
    """Return what a run has noted, and forget it."""
    found = {path.name: path.read_text() for path in sorted((project / "out").iterdir())}
    for name in found:
        (project / "out" / name).unlink()
    return found


def run_with_kedro(project: Path, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(request)],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def kedros_notes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return a project, and what `kedro run` notes in it for each request."""
    project = write(tmp_path_factory.mktemp("odd"), ODD)
    notes = []
    for rate, request in enumerate(REQUESTS, 1):
        (project / "conf/shared/model.yml").write_text(f"rate: {rate}\n")
        done = run_with_kedro(project, request)
        assert done.returncode == 0, done.stderr
        notes.append(take_notes(project))
    return project, notes


@pytest.mark.once
@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_runs_note_what_kedros_do(kedros_notes: tuple[Path, list[Any]], executor: str) -> None:
    project, expected = kedros_notes
    assert len(expected[1]) == 8
    with kedro_flask_server(project, "--executor", executor, "--workers", "1") as server:
        for rate, (request, notes) in enumerate(zip(REQUESTS, expected, strict=True), 1):
            (project / "conf/shared/model.yml").write_text(f"rate: {rate}\n")
            answer = server.run(**request)
            assert answer["status"] == "success", answer
            assert take_notes(project) == notes
        stored = server.show(str(server.all_runs()[-1]["run_id"]))["request"]
        assert json.dumps(stored["params"]) == json.dumps(REQUESTS[0]["params"])  # type: ignore[index]
    assert "SESSION_CLASS in settings.py: not used" in (project / "logs/info.log").read_text()


BROKEN = {
    "conf/local/.gitkeep": "",
    "pyproject.toml": ODD["pyproject.toml"],
    "src/odd/__init__.py": "",
    "src/odd/notes.py": NOTES,
    "src/odd/pipelines/__init__.py": "",
    "src/odd/pipelines/bad/__init__.py": "import a_library_that_is_not_there",
    **{
        f"src/odd/pipelines/{name}/__init__.py": f"""
from kedro.pipeline import Node, Pipeline
from odd.notes import note

def work():
    note({name!r}, {name!r})
    return 1

def create_pipeline():
    return Pipeline([Node(work, None, {name!r}, name={name!r})])
"""
        for name in ("good", "sound")
    },
    "src/odd/settings.py": "",
    "src/odd/pipeline_registry.py": """
from kedro.framework.project import find_pipelines

def register_pipelines():
    found = find_pipelines(raise_errors=True)
    found["__default__"] = sum(found.values())
    return found
""",
    "conf/base/catalog.yml": "kind: {type: '${runtime_params:kind, MemoryDataset}'}",
    "conf/base/parameters.yml": "a: 1",
}


@pytest.mark.once
@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_broken_pipeline_fails_its_own_runs_alone(tmp_path: Path, executor: str) -> None:
    project = write(tmp_path / "broken", BROKEN)
    assert run_with_kedro(project, {"pipeline_names": ["good"]}).returncode == 0
    expected = take_notes(project)
    with kedro_flask_server(project, "--executor", executor) as server:
        for _ in range(2):
            assert server.run(pipeline_names=["good"])["status"] == "success"
            assert take_notes(project) == expected
            for names in (["bad"], ["sound", "bad"], ["__default__"], None):
                answer = server.run(pipeline_names=names)
                assert answer["error"]["type"] in ("ImportError", "ModuleNotFoundError"), answer  # type: ignore[index]
            assert server.run(pipeline_names=["sound", "good"])["status"] == "success"
            assert len(take_notes(project)) == 2
        chosen = {"kind": "pickle.PickleDataset"}
        answer = server.run(pipeline_names=["good"], params=chosen)
        assert answer["error"]["type"] == "InterpolationResolutionError"  # type: ignore[index]
        assert server.client.get("/snapshot").json()["status"] == "failure"
        ready = server.client.get("/health/ready")
        assert (ready.status_code, [*ready.json()["faults"]]) == (503, ["pipelines"])


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return write(tmp_path / "odd", {name: ODD[name] for name in ODD if name != "conf/logging.yml"})


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (("--env", "locl"), {}, ("'env' cannot be 'locl'", "base, local, shared")),
        ((), {"KEDRO_ENV": "locl"}, ("'env' cannot be 'locl'",)),
        (
            ("--executor", "threads"),
            {"KEDRO_SERVER_CONCURRENCY": '{"othr": 1}'},
            ("'concurrency' names 'othr'", "__default__, other"),
        ),
    ],
)
def test_name_that_is_none_stops_the_start(
    odd: Path, options: tuple[str, ...], variables: dict[str, str], words: tuple[str, ...]
) -> None:
    done = refused_start(odd, *options, **variables)
    for each in words:
        assert each in done.stdout + done.stderr


@pytest.mark.once
def test_server_is_not_ready_whose_settings_name_pipelines_that_are_none(odd: Path) -> None:
    def is_settled(server: RunningServer) -> Any:
        faults = server.client.get("/health/ready").json().get("faults", {})
        return "workers" not in faults and faults

    with kedro_flask_server(odd, KEDRO_SERVER_RUN_TIMEOUT_S='{"othr": 5, "other": 5}') as server:
        server.run()  # which waits for a worker
        faults = is_settled(server)
        assert "'run_timeout_s' names 'othr'" in faults["settings"]
