"""The plugins that people use, as they are: each run is one of its own to them."""

from __future__ import annotations

import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import PROJECTS, copy_project, kedro_flask_server

CLIENTS = 16
RUNS = int(os.environ.get("PLUGIN_RUNS", "100"))

pytestmark = [pytest.mark.plugins, pytest.mark.once, pytest.mark.timeout(3600)]

_LOGGED = """
    SELECT tag.value, number.value, metrics.value
    FROM runs
    JOIN params AS tag ON tag.run_uuid = runs.run_uuid AND tag.key = 'tag'
    JOIN params AS number ON number.run_uuid = runs.run_uuid AND number.key = 'number'
    JOIN metrics ON metrics.run_uuid = runs.run_uuid AND metrics.key = 'score'
    WHERE runs.status = 'FINISHED'
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "tracked", tmp_path)


def test_each_run_has_its_own_mlflow_run(project: Path) -> None:
    plain = {"KEDRO_LOGGING_CONFIG": str(PROJECTS / "plain_logging.yml")}
    with kedro_flask_server(project, **plain) as server, ThreadPoolExecutor(CLIENTS) as clients:
        # MLflow makes its database with the first run, which it does not do twice at a time.
        server.run(params={"tag": "first", "number": -1})
        sent = range(RUNS)
        answers = [
            *clients.map(lambda n: server.run(params={"tag": f"tag-{n}", "number": n}), sent)
        ]
    assert {answer["status"] for answer in answers} == {"success"}
    with sqlite3.connect(project / "mlflow.db") as store:
        logged = store.execute(_LOGGED).fetchall()
        [total] = store.execute("SELECT count(*) FROM runs").fetchone()
    store.close()
    expected = {(f"tag-{n}", str(n), 2.0 * n) for n in sent} | {("first", "-1", -2.0)}
    assert set(logged) == expected
    assert (len(logged), total) == (RUNS + 1, RUNS + 1)
    for number in sent:
        own = json.loads((project / "data" / f"tag-{number}.json").read_text())
        assert own == {"tag": f"tag-{number}", "number": number}
    assert json.loads((project / "data" / "latest.json").read_text())["tag"]
    events = json.loads((project / ".viz" / "kedro_pipeline_events.json").read_text())
    assert "after_pipeline_run" in {event["event"] for event in events}


def test_threads_warn_of_plugins_that_keep_state(project: Path) -> None:
    with kedro_flask_server(project, "--executor", "threads") as server:
        server.wait_for_line("The hooks of kedro-mlflow keep the state of a run")
