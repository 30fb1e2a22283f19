"""Opening a database: migrations, refusals, and what cannot be reached."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.store import Database, database, locate
from kedro_flask_server.store.schema import metadata, runs, schema_revisions, servers
from kedro_flask_server.store.schema_versions import NEWEST_REVISION, OLDEST_PROGRAM
from tests.postgresql import PostgreSQL, make_schema
from tests.store.conftest import SERVER, fails_in_time, opened, read, write


def tables_of(connection: sqlalchemy.Connection) -> dict[str, object]:
    """Return what the database says of its tables and indexes, whatever the order of columns."""
    inspector = sqlalchemy.inspect(connection)
    indexes = "SELECT sql FROM sqlite_master WHERE type = 'index'"
    if connection.dialect.name == "postgresql":
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
    tables: dict[str, object] = {
        name: [
            sorted(map(str, inspector.get_columns(name))),
            inspector.get_pk_constraint(name),
            sorted(map(str, inspector.get_unique_constraints(name))),
            sorted(map(str, inspector.get_foreign_keys(name))),
        ]
        for name in inspector.get_table_names()
    }
    return tables | {"indexes": sorted(map(str, connection.scalars(sqlalchemy.text(indexes))))}


def test_migrations_make_the_tables_that_an_empty_database_gets(database_url: str) -> None:
    with opened(database_url) as made, made.writing() as connection:
        tables = tables_of(connection)
        metadata.drop_all(connection)
    make_schema(database_url, "0001")
    with opened(database_url) as made, made.reading() as connection:
        assert tables_of(connection) == tables
    folder = Path(database.__file__).parent / "migrations"
    scripts = ScriptDirectory(str(folder))
    assert scripts.get_current_head() == NEWEST_REVISION
    assert scripts.get_revision(NEWEST_REVISION).module.oldest_program == OLDEST_PROGRAM


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
    make_schema(database_url, "0004")
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
