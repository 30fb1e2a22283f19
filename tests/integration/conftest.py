"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    kedro_flask_server,
    kedro_own_server,
)


@pytest.fixture(scope="session")
def probe(session_folder: Path) -> Path:
    """Return a copy of the probe project, shared: runs need paths of their own."""
    return copy_project(PROJECTS / "probe", session_folder)


@pytest.fixture(scope="session")
def ours(probe: Path) -> Iterator[RunningServer]:
    """Return our server on the probe project."""
    with kedro_flask_server(probe) as server:
        yield server


@pytest.fixture(scope="session")
def kedros(probe: Path) -> Iterator[RunningServer]:
    """Return Kedro's own server on the same project."""
    with kedro_own_server(probe) as server:
        yield server
