"""Opening a database: migrations, refusals, and what cannot be reached."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.store import Database, database, locate
from kedro_flask_server.store.schema import metadata, runs, schema_revisions, servers
from kedro_flask_server.store.schema_versions import NEWEST_REVISION
from tests.conftest import fill, small_disk
from tests.postgresql import PostgreSQL
from tests.servers import eventually

LIMIT_S = 5

SERVER = {
    "server_id": "a",
    "machine": "here",
    "pid": 1,
    "pid_started_at": 0.0,
    "lease_ends_at": 0,
}


@contextmanager
def opened(url: str, **options: float) -> Iterator[Database]:
    made = Database(locate(url, Path("/nowhere")), **options)
    try:
        made.open()
        yield made
    finally:
        made.close()


def test_migrations_make_the_tables_that_the_program_has(database_url: str) -> None:
    with opened(database_url) as made, made.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    folder = Path(database.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == NEWEST_REVISION


def test_many_may_open_an_empty_database_at_once(database_url: str) -> None:
    start = threading.Barrier(6)

    def open_one(_: int) -> int:
        start.wait()
        with opened(database_url) as made, made.reading() as connection:
            return len(connection.execute(sqlalchemy.select(runs)).all())

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(open_one, range(6))) == [0] * 6


def test_newer_database_is_refused_and_left_as_it_is(database_url: str) -> None:
    with opened(database_url) as made, made.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with (
        pytest.raises(ServerSettingsError, match=r"newer than this program.*'9999'"),
        opened(database_url),
    ):
        pass


@pytest.mark.parametrize(
    ("oldest_program", "is_allowed"), [("0001", True), (NEWEST_REVISION, True), ("9998", False)]
)
def test_newer_database_is_used_where_it_allows_that(
    database_url: str, caplog: pytest.LogCaptureFixture, oldest_program: str, is_allowed: bool
) -> None:
    row = {"revision": "9999", "oldest_program": oldest_program}
    with opened(database_url) as made, made.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sqlalchemy.insert(schema_revisions).values(row))
    if is_allowed:
        with opened(database_url) as made:
            write(made)
            assert "which may still use it: its schema is 9999" in caplog.text
    else:
        with (
            pytest.raises(ServerSettingsError, match="takes one that knows '9998'"),
            opened(database_url),
        ):
            pass


def test_each_step_says_which_programs_may_use_the_store_after_it(database_url: str) -> None:
    folder = Path(database.__file__).parent / "migrations"
    steps = [*ScriptDirectory(str(folder)).walk_revisions()][::-1]
    said = {each.revision: each.module.oldest_program for each in steps if each.revision >= "0005"}
    assert [*said.values()] == sorted(said.values())
    assert all(oldest <= revision for revision, oldest in said.items())
    with opened(database_url) as made, made.reading() as connection:
        rows = connection.execute(sqlalchemy.select(schema_revisions)).all()
    assert {row.revision: row.oldest_program for row in rows} == said


def test_state_folder_ignores_itself_in_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    made = Database(locate(None, tmp_path / "state"))
    made.open()
    made.close()
    status = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain"], capture_output=True, check=True
    )
    assert status.stdout == b""
    assert (tmp_path / "state" / "runs.db").exists()


def test_folder_of_somebody_elses_gets_no_gitignore(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    with opened(f"sqlite:///{tmp_path / 'runs.db'}"):
        assert not (tmp_path / ".gitignore").exists()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@host/db",
        "postgresql+psycopg2://u:secret@host/db",
        "postgresql://u:secret@host/db?sslmode=allow",
        "postgresql://u@host/db?password=secret",
        "postgresql://u:secret@host/db?sslmode=require&sslrootcert=/no/such/file",
        "sqlite://",
        "sqlite:///:memory:",
        "not a url: secret",
        "",
    ],
)
def test_database_that_is_not_served_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ServerSettingsError, match="database_url") as caught:
        locate(url, Path())
    assert "secret" not in str(caught.value)


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


@contextmanager
def fails_in_time() -> Iterator[None]:
    started_at = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        yield
    assert time.monotonic() - started_at < LIMIT_S


def write(made: Database) -> None:
    with made.writing() as connection:
        connection.execute(sqlalchemy.delete(runs))


def read(made: Database) -> None:
    with made.reading() as connection:
        connection.execute(sqlalchemy.select(runs))


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
def test_paused_postgresql_is_told_in_time(postgresql_server: PostgreSQL) -> None:
    with opened(postgresql_server.new_database()) as made:
        write(made)
        postgresql_server.pause()
        try:
            for attempt in (write, read):
                with fails_in_time():
                    attempt(made)
        finally:
            postgresql_server.resume()
        write(made)


def test_postgresql_that_is_not_there_is_told_in_time() -> None:
    with fails_in_time(), opened("postgresql://u:secret@127.0.0.1:1/db"):
        pass


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


def test_transaction_is_stored_whole_or_not_at_all(database_url: str) -> None:
    def fill_in(made: Database, *, fails: bool) -> None:
        with made.writing() as connection:
            connection.execute(sqlalchemy.insert(servers).values(SERVER))
            if fails:
                raise ZeroDivisionError

    with opened(database_url) as made:
        with pytest.raises(ZeroDivisionError):
            fill_in(made, fails=True)
        fill_in(made, fails=False)
        with pytest.raises(sqlalchemy.exc.IntegrityError), made.writing() as connection:
            made.insert(connection, servers, [*SERVER], [tuple(SERVER.values())])
        with made.writing() as connection:
            assert len(connection.execute(sqlalchemy.select(servers)).all()) == 1


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


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.once
def test_connection_to_postgresql_is_encrypted_as_told(
    postgresql_server: PostgreSQL, mode: str
) -> None:
    options = f"?sslmode={mode}"
    if mode.startswith("verify"):
        options += f"&sslrootcert={postgresql_server.certificate}"
    with opened(postgresql_server.new_database() + options) as made, made.reading() as connection:
        how = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(sqlalchemy.text(how)).scalar() is (mode != "disable")


@pytest.mark.once
def test_postgresql_that_cannot_be_verified_is_not_talked_to(
    postgresql_server: PostgreSQL,
) -> None:
    url = postgresql_server.new_database() + "?sslmode=verify-full"
    with pytest.raises(StoreUnavailableError, match="certificate"), opened(url):
        pass
