"""The long forms: many runs from 16 clients, none wrong, missing or doubled."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.integration.test_isolation import check_tagged_runs, send_tagged_runs, start
from tests.integration.test_kills import run_with_kills
from tests.integration.test_many import run_many
from tests.servers import PROJECTS, copy_project

RUNS = int(os.environ.get("SOAK_RUNS", "10000"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_runs_keep_their_own_parameters_to_the_last(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    with start(project) as server:
        check_tagged_runs(project, send_tagged_runs(server, RUNS))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_runs_are_neither_wrong_nor_missing_nor_doubled(tmp_path: Path) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    memory_mb = run_many(tmp_path, RUNS, seed)
    # Flat: what the second half adds is less than a twentieth.
    assert memory_mb[-1] < 1.05 * memory_mb[len(memory_mb) // 2], memory_mb


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_servers_lose_no_run_and_tell_no_lie(tmp_path: Path, database_url: str) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    run_with_kills(tmp_path, database_url, runs=2_000, kills=100, seed=seed)
