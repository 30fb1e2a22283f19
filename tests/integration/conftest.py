"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


@pytest.fixture
def trainings(tmp_path: Path) -> Path:
    """Return a copy of the project whose runs use each other's data."""
    return copy_project(PROJECTS / "trainings", tmp_path)


@pytest.fixture
def serve_trainings(trainings: Path) -> Iterator[Callable[..., RunningServer]]:
    """Return what starts a server on that project, with settings as variables."""
    with ExitStack() as stack:

        def serve(**settings: str) -> RunningServer:
            env = {f"KEDRO_SERVER_{name.upper()}": value for name, value in settings.items()}
            return stack.enter_context(kedro_flask_server(trainings, **env))

        yield serve


@pytest.fixture(scope="session")
def kedros(probe: Path) -> Iterator[RunningServer]:
    """Return Kedro's own server on the same project."""
    with kedro_own_server(probe) as server:
        yield server
