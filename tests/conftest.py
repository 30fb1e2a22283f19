"""What every test may use, and what every test is held to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import postgresql

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def require(program: str) -> str:
    """Return a program's path; where it is missing, skip the test, or in CI fail it."""
    path = postgresql.program(program)
    if path is None:
        do_without(f"{program} is not installed")
    return str(path)


def do_without(reason: str) -> None:
    """Skip a test for want of something; in CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few megabytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        do_without("a file system can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a file system, and return the file to delete."""
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:  # noqa: PT012
        while True:
            file.write(b"x" * 4096)
            file.flush()
    return ballast


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a process behind.

    What wider scopes started before it, such as servers that tests share, is theirs.
    """
    for name in ("ours", "served", "kedros", "guarded", "postgresql_server"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    if "database_url" in request.fixturenames:
        request.getfixturevalue("database_url")  # may start the PostgreSQL server
    threads, processes = set(threading.enumerate()), set(psutil.Process().children())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert set(threading.enumerate()) <= threads
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - processes, timeout=10)
    assert alive == []


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.PostgreSQL]:
    """Return a PostgreSQL server that tests share; each makes databases of its own."""
    require("initdb")
    with postgresql.running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.once)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database that is empty: SQLite's, then PostgreSQL's."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'runs.db'}"
    server: postgresql.PostgreSQL = request.getfixturevalue("postgresql_server")
    return server.new_database()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what tests share."""
    return tmp_path_factory.mktemp("shared")
