"""What the import of a project leaves that runs would share."""

# ruff: noqa: SIM115  files that stay open are what this is about

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kedro_flask_server.workers.audit_hook import Audit
from kedro_flask_server.workers.footprint import Footprint


@pytest.fixture(scope="module")
def audit() -> Audit:
    return Audit()


@pytest.fixture
def footprint(audit: Audit) -> Iterator[Footprint]:
    footprint = Footprint(audit)
    yield footprint
    footprint.close()
    assert audit.calls == {}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


STAMP = "2020-01-02_03-04-05"


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: Path("audit.csv").open("a"), "audit.csv"),
        (lambda: os.fdopen(os.open("lock", os.O_CREAT | os.O_RDWR)), "lock"),
        (lambda: sqlite3.connect("runs.db").executescript("create table t (x)"), "runs.db"),
        (tempfile.mkdtemp, "tmp"),
        (lambda: os.close(tempfile.mkstemp()[0]), "tmp"),
        (tempfile.NamedTemporaryFile, "tmp"),
        (tempfile.TemporaryDirectory, "tmp"),
        (tempfile.TemporaryFile, "a temporary file"),
        (lambda: Path(f"scratch/{STAMP}/data").mkdir(parents=True), STAMP),
        (lambda: Path(f"run-{os.getpid()}").mkdir(), "run-"),
        (lambda: Path(f"run-{STAMP}.log").write_text("begun"), f"run-{STAMP}.log"),
        (lambda: multiprocessing.Array("i", 3), "a temporary file"),
    ],
    ids=itertools.count(),
)
def test_what_each_process_has_for_itself_is_found(
    footprint: Footprint, folder: Path, make: Callable[[], Any], shown: str
) -> None:
    made = make()
    [found, *_] = footprint.found(without=set())
    assert shown in found
    del made


def io_of_its_own() -> object:
    loop = asyncio.new_event_loop()
    loop.close()
    return socket.socketpair()


def make_and_end() -> None:
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile():
        Path(name, "file").write_text("text")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Path("data/out").mkdir(parents=True, exist_ok=True),
        lambda: Path("report.txt").write_text("of the last run"),
        lambda: Path("parameters.yml").open(),
        lambda: Path("data_2024").mkdir(),
        lambda: Path(os.devnull).open("w"),
        lambda: sqlite3.connect(":memory:"),
        io_of_its_own,
        make_and_end,
    ],
)
def test_what_processes_share_anyway_is_not_found(
    footprint: Footprint, folder: Path, make: Callable[[], Any]
) -> None:
    (folder / "parameters.yml").touch()
    made = make()
    assert footprint.found(without=set()) == []
    del made


def test_connections_and_processes_are_found(footprint: Footprint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        found = footprint.found(without=set())
        assert "a connection to 127.0.0.1" in found
        assert (f"the process {process.pid}" in found) == (sys.platform == "linux")
        assert footprint.found(without={connection.fileno()})[1:] == []
        connection.close()
        process.communicate()
    assert footprint.found(without=set()) == []


def test_what_a_library_makes_when_it_is_imported_does_not_count(
    footprint: Footprint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = folder / "site-packages"
    library.mkdir()
    (library / "caching_library.py").write_text(
        "import tempfile\nCACHE = tempfile.mkdtemp()\ndef scratch(): return tempfile.mkdtemp()\n"
    )
    monkeypatch.syspath_prepend(str(library))
    import caching_library

    assert footprint.found(without=set()) == []
    made = caching_library.scratch()  # for the project, which calls it
    assert footprint.found(without=set()) == [made]
    with contextlib.suppress(KeyError):
        del sys.modules["caching_library"]
