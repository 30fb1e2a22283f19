"""The long form: 10,000 runs from 16 clients, none wrong, missing or doubled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.test_isolation import check_tagged_runs, send_tagged_runs, start
from tests.servers import PROJECTS, copy_project

RUNS = int(os.environ.get("SOAK_RUNS", "10000"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_runs_keep_their_own_parameters_to_the_last(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    with start(project) as server:
        check_tagged_runs(project, send_tagged_runs(server, RUNS))
