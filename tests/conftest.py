"""What every test may use, and what every test is held to."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


def require(program: str) -> str:
    """Return a program's path; where it is missing, skip the test, or in CI fail it."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a process behind.

    What wider scopes started before it, such as servers that tests share, is theirs.
    """
    for name in ("ours", "kedros"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    threads, processes = set(threading.enumerate()), set(psutil.Process().children())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert set(threading.enumerate()) <= threads
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - processes, timeout=10)
    assert alive == []


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what tests share."""
    return tmp_path_factory.mktemp("shared")
