"""The recipes of the docs, run as they are printed there, with pipelines of the probe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import require
from tests.servers import RunningServer, environment, eventually

pytestmark = pytest.mark.once

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


def recipe(name: str, pipeline: str, folder: Path, **changes: str) -> Path:
    """Return a copy of a recipe that runs one of the probe's pipelines."""
    text = (RECIPES / name).read_text()
    for old, new in {"training": pipeline, **changes}.items():
        assert old in text
        text = text.replace(old, new)
    copy = folder / name
    copy.write_text(text)
    copy.chmod(0o755)
    return copy


def run(command: list[str], server: RunningServer, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(**({"KEDRO_SERVER_URL": server.url} | env)),
        capture_output=True,
        text=True,
        timeout=200,
    )


def newest(server: RunningServer, pipeline: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = server.client.get(
        "/runs", params={"pipeline": pipeline}
    ).json()["runs"]
    return found


def test_script_with_curl_fails_when_the_run_fails(ours: RunningServer, tmp_path: Path) -> None:
    require("curl")
    good = run([str(recipe("run.sh", "versioned", tmp_path))], ours)
    assert (good.returncode, good.stderr) == (0, "")
    run_id = newest(ours, "versioned")[0]["run_id"]
    assert f'"run_id":"{run_id}"' in good.stdout
    soon = {"--retry 5": "--retry 1"}  # five take half a minute
    for _ in range(2):  # what has failed can be run again, on the same day
        before = len(newest(ours, "fail"))
        bad = run([str(recipe("run.sh", "fail", tmp_path, **soon))], ours)
        assert bad.returncode == 22
        assert '"status":"failure"' in bad.stdout
        assert len(newest(ours, "fail")) == before + 1
    nobody = {"KEDRO_SERVER_URL": "http://127.0.0.1:9"}
    away = run([str(recipe("run.sh", "one", tmp_path, **soon))], ours, **nobody)
    assert away.returncode == 7


@pytest.mark.parametrize(("pipeline", "is_mailed"), [("one", False), ("fail", True)])
def test_line_of_cron_runs_as_cron_runs_it(
    ours: RunningServer, tmp_path: Path, pipeline: str, is_mailed: bool
) -> None:
    variable, line = recipe("crontab", pipeline, tmp_path).read_text().splitlines()
    name, _, documented = variable.partition("=")
    assert (name, documented) == ("KEDRO_SERVER_URL", "http://127.0.0.1:8000")
    *when, command = line.split(" ", 5)
    assert when == ["0", "3", "*", "*", "*"]
    assert "%" not in command  # cron takes it for a line feed
    command = command.replace("/opt/kedro/bin/python", sys.executable)
    # What crontab(5) says of a command's environment.
    bare = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), name: ours.url}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=bare, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == int(is_mailed)
    assert ("ValueError" in done.stdout + done.stderr) == is_mailed


@pytest.mark.parametrize(("pipeline", "code"), [("one", 0), ("fail", 1)])
def test_steps_of_the_ci_job_fail_when_the_run_fails(
    ours: RunningServer, tmp_path: Path, pipeline: str, code: int
) -> None:
    workflow = yaml.safe_load(recipe("github.yml", pipeline, tmp_path).read_text())
    job = workflow["jobs"]["train"]
    assert set(job["env"]) == {"KEDRO_SERVER_URL", "KEDRO_SERVER_API_KEY"}
    install, step = [step["run"] for step in job["steps"] if "run" in step]
    assert "install 'kedro-flask-server[client] @" in install
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run(["bash", "-e", "-c", step], ours, PATH=path, KEDRO_SERVER_API_KEY="a-key")
    assert done.returncode == code
    assert "Run ID: " in done.stdout


@pytest.mark.orchestrator
@pytest.mark.parametrize(("pipeline", "code"), [("one", 0), ("fail", 1)])
def test_airflow_runs_the_dag(
    ours: RunningServer, tmp_path: Path, pipeline: str, code: int
) -> None:
    program = str(Path(sys.executable).parent / "airflow")
    (tmp_path / "dags").mkdir()
    no_retry = {"retries=1": "retries=0"}  # it would come after five minutes
    recipe("airflow_dag.py", pipeline, tmp_path / "dags", **no_retry)
    env = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        assert run([program, *command], ours, **env).returncode == 0
    began = len(newest(ours, pipeline))
    done = run([program, "dags", "test", f"nightly_{pipeline}"], ours, **env)
    assert len(newest(ours, pipeline)) == began + 1
    assert "Kedro project probe" in done.stdout + done.stderr
    ended = "success" if code == 0 else "failed"
    assert f"state={ended}" in done.stdout + done.stderr


@pytest.mark.orchestrator
@pytest.mark.parametrize(("pipeline", "code"), [("one", 0), ("fail", 1)])
def test_prefect_runs_the_flow(
    ours: RunningServer, tmp_path: Path, pipeline: str, code: int
) -> None:
    began = len(newest(ours, pipeline))
    soon = {"retry_delay_seconds=60": "retry_delay_seconds=1"}
    file = recipe("prefect_flow.py", pipeline, tmp_path, **soon)
    env = {"PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path)}
    env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"  # 20 are few on a busy machine
    done = run([sys.executable, str(file)], ours, **env)
    assert done.returncode == code
    assert "Kedro project probe" in done.stdout + done.stderr
    # A retry is another run.
    eventually(lambda: len(newest(ours, pipeline)) == began + 1 + code)
