"""How the process of a run ends: as that of `kedro run` does."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import PROJECTS, copy_project, environment, kedro_flask_server

_KEDRO_RUN = """
import sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(sys.argv[1])
with KedroSession.create(sys.argv[1]) as session:
    session.run()
"""

_OPENERS: dict[str, Callable[[Path, str], object]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def content(path: Path) -> bytes | str:
    """Return what is in a file, or what is wrong with it."""
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:  # type: ignore[attr-defined]
            found: bytes = file.read()
    except (EOFError, OSError) as error:
        return repr(error)
    return found


def left_in(project: Path) -> dict[str, bytes | str]:
    """Return what is in the files that a run has left."""
    out = project / "out"
    # A database's pages hold times of its own.
    return {
        path.name: path.name if ".sqlite" in path.name else content(path)
        for path in sorted(out.iterdir())
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | str]:
    """Return what `kedro run` leaves."""
    project = unended(tmp_path_factory.mktemp("reference"))
    subprocess.run(
        [sys.executable, "-c", _KEDRO_RUN, str(project)], cwd=project, env=environment(), check=True
    )
    return left_in(project)


def unended(folder: Path) -> Path:
    project = copy_project(PROJECTS / "unended", folder)
    (project / "out").mkdir()
    return project


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.once)])
def test_run_leaves_what_kedro_run_does(
    expected: dict[str, bytes | str], tmp_path: Path, method: str
) -> None:
    # Python 3.12 loses what gzip has still to write, and all that ends after it.
    is_lossy = sys.version_info[:2] == (3, 12)
    project = unended(tmp_path)
    with kedro_flask_server(project, KEDRO_SERVER_WORKER_START_METHOD=method) as server:
        assert server.run()["status"] == "success"
        left = left_in(project)
    assert left_in(project) == left
    assert left["list.gz"] == b"list"
    assert left.keys() >= expected.keys() if is_lossy else left == expected


_HANGING = """
import time

class Hanging:
    def __del__(self):
        time.sleep(1000)

KEPT = []

def leave():
    KEPT.append(Hanging())
    return "left"
"""

_CRASHING = _HANGING.replace("time.sleep(1000)", "__import__('os')._exit(3)")


@pytest.mark.once
@pytest.mark.parametrize(
    ("nodes", "type_"), [(_HANGING, "RunTimeout"), (_CRASHING, "WorkerCrashed")]
)
def test_destructor_is_part_of_the_run(tmp_path: Path, nodes: str, type_: str) -> None:
    project = unended(tmp_path)
    (project / "src" / "unended" / "nodes.py").write_text(nodes)
    (project / "src" / "unended" / "settings.py").write_text("")
    env = {"KEDRO_SERVER_RUN_TIMEOUT_S": "3", "KEDRO_SERVER_CANCEL_GRACE_S": "0.2"}
    with kedro_flask_server(project, **env) as server:
        for _ in range(2):  # the second shows that the first took nothing with it
            answer = server.run()
            assert answer["error"]["type"] == type_  # type: ignore[index]
