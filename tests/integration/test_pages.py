"""The commands and programs of the docs, run as they are printed, on the example project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.servers import EXAMPLE, RunningServer, copy_project, environment, kedro_flask_server

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS, RUN_ID = "http://127.0.0.1:8000", "2026-01-01T12.00.00.000Z"

ELSEWHERE = ("kedro server start", "kedro server keys", "python3 -m venv", ". .venv", "pip install")
"""What commands begin with that other tests run, or that make an environment."""


def commands_in(page: Path) -> list[str]:
    """Return the commands of a page's ``console`` blocks; after a prompt, or each that there is."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        whole = re.sub(r" *\\\n *", " ", block)
        lines = [each for each in whole.splitlines() if each.strip()]
        prompted = [each.removeprefix("$ ") for each in lines if each.startswith("$ ")]
        found += prompted or lines
    return found


def in_tests(page: str) -> list[str]:
    kept = [each for each in commands_in(DOCS / page) if not each.startswith(ELSEWHERE)]
    assert kept
    return kept


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = copy_project(EXAMPLE, tmp_path_factory.mktemp("pages"))
    with kedro_flask_server(project) as server:
        server.submitted = server.submit(params={"forest": {"trees": 2}})  # type: ignore[attr-defined]
        assert server.show(server.submitted, wait=100)["status"] == "success"  # type: ignore[attr-defined]
        yield server


@pytest.mark.parametrize(
    "command", [*in_tests("quickstart.md"), *in_tests("events.md"), *in_tests("client.md")]
)
def test_command_of_a_page_works_as_printed(served: RunningServer, command: str) -> None:
    require("curl")
    here = command.replace(ADDRESS, served.url).replace(RUN_ID, served.submitted)  # type: ignore[attr-defined]
    here = re.sub(r"^curl ", "curl --fail-with-body --max-time 100 ", here)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", here],
        cwd=served.cwd,
        env=environment(KEDRO_SERVER_URL=served.url, PATH=path),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, (here, done.stdout, done.stderr)
    assert done.stdout


def test_program_of_the_client_s_page_works_as_printed(served: RunningServer) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (DOCS / "client.md").read_text(), re.DOTALL)
    assert program.count(ADDRESS) == 1
    done = subprocess.run(
        [sys.executable, "-c", program.replace(ADDRESS, served.url)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    run_id, duration_ms = done.stdout.split()
    assert served.show(run_id)["duration_ms"] == float(duration_ms)
