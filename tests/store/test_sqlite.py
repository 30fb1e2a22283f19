"""The file of SQLite: locked, full, replaced, read by others, or on the wrong disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import sqlalchemy

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.store import Database, locate
from kedro_flask_server.store.schema import runs, servers
from tests.conftest import fill, small_disk
from tests.servers import eventually
from tests.store.conftest import LIMIT_S, SERVER, fails_in_time, opened, read, write


@pytest.mark.once
def test_locked_file_is_told_in_time_to_all_and_still_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with opened(f"sqlite:///{path}") as made, ThreadPoolExecutor(16) as threads:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def attempt(_: int) -> None:
            with fails_in_time():
                write(made)

        list(threads.map(attempt, range(16)))
        read(made)
        other.close()
        write(made)


@pytest.mark.once
def test_full_disk_is_told_and_over_when_it_is(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "1m") as disk,
        opened(f"sqlite:///{disk}/state/runs.db") as made,
    ):
        ballast = fill(disk)
        with fails_in_time(), made.writing() as connection:
            filler = sqlalchemy.text("CREATE TABLE filler AS SELECT zeroblob(500000)")
            connection.execute(filler)
        read(made)
        ballast.unlink()
        write(made)


@pytest.mark.once
def test_file_that_was_read_only_at_the_start_is_written_when_it_can_be(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        path = disk / "state" / "runs.db"
        with opened(f"sqlite:///{path}"):
            pass

        def remount(how: str) -> None:
            subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

        remount("ro")
        made = Database(locate(f"sqlite:///{path}", Path()))
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailableError):
                    made.open()
            remount("rw")
            made.open()
            write(made)
        finally:
            made.close()


def test_nothing_is_stored_in_a_file_that_was_replaced_until_that_is_opened(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state" / "runs.db"
    with opened(f"sqlite:///{path}") as made:
        write(made)
        generation = made.generation
        path.unlink()
        for attempt in (write, read):
            with pytest.raises(StoreUnavailableError, match="was deleted"):
                attempt(made)
        with pytest.raises(StoreUnavailableError, match="was deleted"), made.writing() as inner:
            inner.execute(sqlalchemy.delete(runs))
        ends_at = time.monotonic() + 30
        while made.generation == generation:
            assert time.monotonic() < ends_at
            with suppress(StoreUnavailableError):
                made.open()
            time.sleep(0.05)
        write(made)
        with made.writing() as connection:
            connection.execute(sqlalchemy.insert(servers).values(SERVER))
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT server_id FROM servers").fetchall() == [("a",)]
        other.close()


def test_what_is_written_while_the_file_is_deleted_is_not_taken_for_stored(tmp_path: Path) -> None:
    path = tmp_path / "state" / "runs.db"

    def write_and_delete(made: Database) -> None:
        with made.writing() as connection:
            connection.execute(sqlalchemy.insert(servers).values(SERVER))
            path.unlink()

    with (
        opened(f"sqlite:///{path}") as made,
        pytest.raises(StoreUnavailableError, match="was deleted"),
    ):
        write_and_delete(made)


def test_log_of_sqlite_does_not_grow_where_it_is_tidied(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    sizes = []
    with opened(f"sqlite:///{path}") as made:
        for number in range(9):
            for _ in range(30):
                with made.writing() as connection:
                    row = {**SERVER, "server_id": f"{number}-{time.monotonic_ns()}"}
                    made.insert(connection, servers, [*row], [tuple(row.values())])
            made.tidy()
            sizes.append(Path(f"{path}-wal").stat().st_size)
    assert 0 < max(sizes[1:]) <= 1.5 * sizes[1]


def test_log_of_sqlite_is_tidied_while_another_has_its_turn_to_write(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/runs.db") as made:
        write(made)
        with made.writing() as connection:
            connection.execute(sqlalchemy.insert(servers).values(SERVER))
            tidying = threading.Thread(target=made.tidy)
            tidying.start()
            tidying.join(0.2)
        tidying.join(LIMIT_S)
        assert not tidying.is_alive()
        with made.reading() as connection:
            assert len(connection.execute(sqlalchemy.select(servers)).all()) == 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_files_are_for_this_user_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "runs.db").touch(0o666)
    before = os.umask(umask)
    try:
        with (
            opened(f"sqlite:///{tmp_path}/deep/state/runs.db") as ours,
            opened(f"sqlite:///{theirs}/runs.db") as others,
        ):
            for made in (ours, others):
                write(made)
            for folder, mode in ((tmp_path / "deep" / "state", 0o700), (theirs, 0o755)):
                assert folder.stat().st_mode & 0o777 == mode
                modes = {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}
                assert {"runs.db", "runs.db-wal", "runs.db-shm"} <= modes.keys()
                assert set(modes.values()) == {0o600}, modes
    finally:
        os.umask(before)


@pytest.mark.parametrize("size", [10, 3_000, 100_000])
def test_what_is_redacted_or_deleted_is_in_no_file(tmp_path: Path, size: int) -> None:
    canary = b"canary".hex()

    def row(number: int) -> dict[str, object]:
        request = f"{canary}{'x' * size}"
        given = {"project": "p", "env": "e", "status": "success", "request": request}
        return {"run_id": f"{number:024d}", **given}

    def holders() -> list[str]:
        return [each.name for each in tmp_path.iterdir() if canary.encode() in each.read_bytes()]

    with opened(f"sqlite:///{tmp_path}/runs.db", empty_log_every_s=0.2) as made:
        for number in range(20):
            with made.writing() as connection:
                connection.execute(sqlalchemy.insert(runs).values(row(number)))
        made.tidy()
        assert holders()
        with made.writing() as connection:
            is_odd = sqlalchemy.func.substr(runs.c.run_id, 24).in_([*"13579"])
            connection.execute(sqlalchemy.delete(runs).where(is_odd))
            connection.execute(sqlalchemy.update(runs).values(request="{}"))
        with made.reading():  # who reads only puts it off
            made.tidy()
        eventually(lambda: made.tidy() or not holders(), timeout_s=60)


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [
        *psutil.disk_partitions(all=True),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    with (
        pytest.raises(ServerSettingsError, match=r"network file system \(nfs4\)"),
        opened(f"sqlite:///{tmp_path}/state/runs.db"),
    ):
        pass


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ServerSettingsError, match="state_dir"),
        opened(f"sqlite:///{tmp_path}/file/runs.db"),
    ):
        pass


def test_folder_of_somebody_elses_gets_no_gitignore(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    with opened(f"sqlite:///{tmp_path / 'runs.db'}"):
        assert not (tmp_path / ".gitignore").exists()
