"""The example project over a real socket, and the README's first command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers import (
    EXAMPLE,
    RunningServer,
    copy_project,
    environment,
    eventually,
    kedro_flask_server,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[RunningServer]:
    with kedro_flask_server(project) as running:
        yield running


def test_whole_project_runs_and_its_model_is_versioned(
    project: Path, server: RunningServer
) -> None:
    assert server.client.get("/scores/forest").status_code == 404
    answer = server.run(params={"forest": {"trees": 5}})
    assert answer["status"] == "success"
    versions = [path.name for path in (project / "data/models/forest.pickle").iterdir()]
    assert versions == [answer["run_id"]]
    assert server.client.get("/scores/forest").json()["accuracy"] > 0.8
    assert json.loads((project / "data/best_model.json").read_text())["model"]


def test_parts_of_it_run_by_pipeline_namespace_tag_and_version(server: RunningServer) -> None:
    prepared = server.run(pipeline_names=["data_preparation"], tags=["data"])
    trained = server.run(pipeline_names=["training"], namespaces=["linear"])
    both = server.run(pipeline_names=["training"], tags=["training"])
    version = {"linear.model": trained["run_id"]}
    scored = server.run(pipeline_names=["evaluation"], load_versions=version)
    assert [each["status"] for each in (prepared, trained, both, scored)] == ["success"] * 4


def test_snapshot_shows_pipelines_datasets_and_parameters(server: RunningServer) -> None:
    snapshot = server.client.get("/snapshot").json()
    names = {each["name"] for each in snapshot["pipelines"]}
    assert names == {"__default__", "data_preparation", "training", "evaluation", "inference"}
    assert snapshot["datasets"]["forest.model"]["type"] == "pickle.PickleDataset"
    assert snapshot["parameters"] == ["forest", "linear", "seed", "test_fraction"]


def test_trained_model_predicts_what_is_sent(server: RunningServer) -> None:
    described = server.client.get("/pipelines/inference").json()["inputs"]["samples"]
    assert described["is_required"]
    server.run(pipeline_names=["data_preparation"])
    assert server.run(pipeline_names=["training"])["status"] == "success"
    body = {"inputs": {"samples": described["example"]}, "save": False}
    answer = server.client.post("/pipelines/inference/run", json=body).json()
    assert [row["benign"] for row in answer["outputs"]["predictions"]] == [False, True]


@pytest.mark.once
def test_three_lines_of_settings_make_a_fast_endpoint(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/serving.md").read_text()
    [lines] = re.findall(r"```yaml\n( *served_pipelines:.*?)```", page, re.DOTALL)
    settings = textwrap.dedent(lines)
    assert len(settings.splitlines()) == 3
    project = copy_project(EXAMPLE, tmp_path)
    (project / "conf/base/server.yml").write_text(settings)
    with kedro_flask_server(project) as server:
        described = server.client.get("/pipelines/inference").json()["inputs"]["samples"]
        body = {"inputs": {"samples": described["example"]}}
        refused = server.client.post("/pipelines/inference/run", json=body)
        assert (refused.status_code, "'forest.model'" in refused.text) == (503, True)
        assert server.run()["status"] == "success"
        eventually(lambda: server.client.get("/pipelines/inference").json()["served"]["generation"])
        answer = server.client.post("/pipelines/inference/run", json=body).json()
        assert [row["benign"] for row in answer["outputs"]["predictions"]] == [False, True]


@pytest.mark.once
def test_first_command_of_the_readme_runs_the_example_and_stays_up(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    tox = (REPOSITORY / "tox.ini").read_text()
    assert ".venv/bin/pip install tox && .venv/bin/tox -e example" in readme
    assert "commands = python examples/try.py" in tox
    examples = tmp_path / "examples"
    examples.mkdir()
    copy_project(EXAMPLE, examples)
    (examples / "try.py").write_text((REPOSITORY / "examples/try.py").read_text())
    process = subprocess.Popen(
        [sys.executable, "-u", str(examples / "try.py"), "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    printed = []
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if "-d '{}'" in line:
            break
    assert process.poll() is None
    server = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    printed += process.stdout
    process.stdout.close()
    assert process.wait(30) == 0
    assert not [each for each in server if each.is_running()]
    text = "".join(printed)
    assert '200 {"status":"success"' in text
    assert '"accuracy"' in text
    # The answers and what to do next stand last; the log is in the file that is named.
    assert len(printed) < 20, text
    log = Path(re.search(r"its log: (.*)\)", text)[1]).read_text()  # type: ignore[index]
    assert "Running node: " in log
    assert "WARNING" not in log, log
