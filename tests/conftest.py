"""What every test may use, and what every test is held to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

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


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what tests share."""
    return tmp_path_factory.mktemp("shared")
