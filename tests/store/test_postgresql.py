"""PostgreSQL that stops, vanishes, fails over or stands behind a pooler."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.model.run import RunFilter, RunOutcome, RunStatus
from kedro_flask_server.store import ClaimedRun, Database, PendingEvents, RunStore, locate
from tests.conftest import require
from tests.postgresql import (
    PostgreSQL,
    make_schema,
    running_pgbouncer,
    running_postgresql,
    running_standby,
)
from tests.proxies import counting_proxy
from tests.servers import eventually
from tests.store import open_when_ready
from tests.store.conftest import HERE, IDS, LIMIT_S, new_run


@contextmanager
def opened(url: str) -> Iterator[RunStore]:
    store = RunStore(Database(locate(url, Path())), project="here", env="local")
    try:
        open_when_ready(store)
        yield store
    finally:
        store.close()


def add(store: RunStore, *, may_start: bool = False) -> str | ClaimedRun:
    added = store.new_runs.add(new_run(workers=2, may_start=may_start), IDS.next)
    return added.claimed or added.run.run_id


def every_kind_of_work(store: RunStore, claim: ClaimedRun) -> list[Callable[[], object]]:
    """Return what a server has its store do, each with statements of its own."""
    run_id, told = claim.run.run_id, PendingEvents(server_id=HERE.server_id, events=[])
    outcome = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)
    return [
        lambda: add(store),
        lambda: store.queue.claim(HERE.server_id),
        lambda: store.queue.claim(HERE.server_id),
        lambda: store.events.add({run_id: told}),
        lambda: store.finish(claim.run, outcome, told),
        lambda: store.get(run_id),
        lambda: store.page(RunFilter(), limit=10, cursor=None),
        store.queue.has_any,
        lambda: store.request_cancel(run_id),
        lambda: store.servers.renew(HERE.server_id, 60),
        lambda: store.servers.reap(lambda *_: False),
        lambda: store.purge(keep_runs=1, keep_days=1, key_hours=1),
    ]


def fails_in_time(work: Callable[[], object]) -> None:
    started_at = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        work()
    assert time.monotonic() - started_at < LIMIT_S


def ends_in_time(work: Callable[[], object]) -> None:
    started_at = time.monotonic()
    with suppress(StoreUnavailableError):
        work()
    assert time.monotonic() - started_at < LIMIT_S


@pytest.mark.once
@pytest.mark.parametrize("is_warm", [True, False], ids=["connected", "not connected"])
def test_all_work_ends_in_time_while_server_is_stopped(
    postgresql_server: PostgreSQL, is_warm: bool
) -> None:
    with opened(postgresql_server.new_database()) as store:
        store.servers.register(HERE, 60)
        claim = add(store, may_start=True)
        assert isinstance(claim, ClaimedRun)
        works = every_kind_of_work(store, claim)
        with ThreadPoolExecutor(len(works)) as threads:
            if is_warm:  # a connection for each
                list(threads.map(lambda _: store.queue.has_any(), works))
            else:
                store.close()
            postgresql_server.pause()
            try:
                list(threads.map(fails_in_time, works))
            finally:
                postgresql_server.resume()
        eventually(lambda: can_write(store), LIMIT_S)


@pytest.mark.once
def test_all_work_goes_on_where_open_connections_hang(postgresql_server: PostgreSQL) -> None:
    with opened(postgresql_server.new_database()) as store:
        store.servers.register(HERE, 60)
        claim = add(store, may_start=True)
        assert isinstance(claim, ClaimedRun)
        works = every_kind_of_work(store, claim)
        with ThreadPoolExecutor(len(works)) as threads:
            list(threads.map(lambda _: store.queue.has_any(), works))
            postgresql_server.pause_connections()
            try:
                list(threads.map(ends_in_time, works))
                assert can_write(store)
            finally:
                postgresql_server.resume()


def test_end_is_stored_on_a_connection_that_was_rolled_back(postgresql_server: PostgreSQL) -> None:
    outcome = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)
    told = PendingEvents(server_id=HERE.server_id, events=[])
    database = Database(locate(postgresql_server.new_database(), Path()))
    store = RunStore(database, project="here", env="local")
    open_when_ready(store)
    store.servers.register(HERE, 60)
    for _ in range(2):  # the first prepares what the second needs
        claim = add(store, may_start=True)
        assert isinstance(claim, ClaimedRun)
        assert store.finish(claim.run, outcome, told)
        # As often as psycopg would need to prepare a statement by itself.
        for _ in range(6):
            store.get(claim.run.run_id)
        with suppress(StoreUnavailableError), database.writing() as connection:
            connection.execute(sqlalchemy.text("SELECT 1 / 0"))
    store.close()


@contextmanager
def silent_listener() -> Iterator[int]:
    """Listen, accept and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


@contextmanager
def unreachable() -> Iterator[int]:
    """Return a port that does not even answer that it is there: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        yield address[1]


@pytest.mark.parametrize("kind", [silent_listener, unreachable])
@pytest.mark.parametrize("options", ["", "?sslmode=require"])
def test_server_that_does_not_answer_is_told_in_time(
    kind: Callable[[], ExitStack], options: str
) -> None:
    with kind() as port:
        database = Database(locate(f"postgresql://u@127.0.0.1:{port}/db{options}", Path()))
        fails_in_time(database.open)
        database.close()


def can_write(store: RunStore) -> bool:
    try:
        add(store)
    except StoreUnavailableError:
        return False
    return True


def seconds_until_written(store: RunStore) -> float:
    """Return after how many seconds runs can be taken in, as clients do that ask again."""
    began_at = time.monotonic()
    eventually(lambda: can_write(store), 30)
    return time.monotonic() - began_at


@contextmanager
def pair() -> Iterator[tuple[PostgreSQL, PostgreSQL, str]]:
    """Return a primary, its standby, and the name of a database of theirs."""
    require("pg_basebackup")
    with running_postgresql() as primary:
        name = primary.new_database().rpartition("/")[2]
        with running_standby(primary) as standby:
            yield primary, standby, name


def stored_at(server: PostgreSQL, name: str) -> list[tuple[object, ...]]:
    """Return the runs of a server that may not have all of the other's yet."""
    try:
        return server.query("SELECT run_id FROM runs", name)
    except psycopg.errors.UndefinedTable:
        return []


@pytest.mark.once
@pytest.mark.parametrize("what", ["read-only", "killed", "stopped"])
def test_writes_go_on_at_the_promoted_standby(what: str) -> None:
    with pair() as (primary, standby, name):
        # The standby first: it can be read, and is left out.
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
        with opened(f"postgresql://tests@{hosts}/{name}") as store:
            store.servers.register(HERE, 60)
            works = [store.queue.has_any] * 8
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda work: work(), works))
            first = add(store)
            eventually(lambda: stored_at(standby, name) == [(first,)])
            if what == "read-only":
                primary.make_read_only()
            elif what == "killed":
                primary.stop()
            else:
                primary.pause()
            standby.promote()
            assert seconds_until_written(store) < LIMIT_S
            found = standby.query("SELECT count(*) FROM runs", name)
            assert found == [(2,)]


@pytest.mark.once
def test_reads_follow_a_name_that_moves() -> None:
    with (
        pair() as (primary, standby, name),
        counting_proxy(primary.port) as proxy,
        opened(f"postgresql://tests@127.0.0.1:{proxy.port}/{name}") as store,
    ):
        store.servers.register(HERE, 60)
        run_id = add(store)
        eventually(lambda: stored_at(standby, name) == [(run_id,)])
        primary.make_read_only()
        standby.promote()
        proxy.move_to(standby.port)
        standby.query("UPDATE runs SET status = 'cancelled'", name)

        def is_read_from_the_other() -> bool:
            run = store.get(str(run_id))
            return run is not None and run.status is RunStatus.CANCELLED

        eventually(is_read_from_the_other, LIMIT_S)
        assert can_write(store)


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("connect_timeout=3", "sslmode .*sslcert .*sslkey .*target_session_attrs .*primary"),
        ("target_session_attrs=standby", "read-write, primary, any"),
        ("sslkey=/no/such/file", "sslkey .* cannot be read"),
    ],
)
def test_option_that_is_not_taken_is_refused_with_those_that_are(option: str, allowed: str) -> None:
    with pytest.raises(ServerSettingsError, match=allowed):
        locate(f"postgresql://u@a:1,b:2/db?{option}", Path())


@pytest.mark.parametrize("hosts", ["a:x,b", "a,,b", "a:1:2,b"])
def test_hosts_that_are_none_are_refused(hosts: str) -> None:
    with pytest.raises(ServerSettingsError, match="database_url"):
        locate(f"postgresql://u:secret@{hosts}/db", Path())


@pytest.mark.once
def test_client_shows_its_certificate(postgresql_server: PostgreSQL) -> None:
    certificate, key = postgresql_server.client_certificate("tests")
    url = postgresql_server.new_database()
    options = f"?sslmode=require&sslcert={certificate}&sslkey={key}"
    with opened(url + options) as store, store._database.reading() as connection:
        shown = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(sqlalchemy.text(shown)).scalar() == "/CN=tests"


@pytest.mark.once
def test_pgbouncer_may_give_each_transaction_another_connection(
    postgresql_server: PostgreSQL,
) -> None:
    require("pgbouncer")
    name = postgresql_server.new_database().rpartition("/")[2]
    with (
        running_pgbouncer(postgresql_server) as port,
        opened(f"postgresql://tests@127.0.0.1:{port}/{name}") as store,
        ThreadPoolExecutor(8) as threads,
    ):
        store.servers.register(HERE, 60)
        outcome = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)
        told = PendingEvents(server_id=HERE.server_id, events=[])

        def run(_: int) -> None:
            add(store)
            claim = store.queue.claim(HERE.server_id)
            assert claim is not None
            store.events.add({claim.run.run_id: told})
            assert store.finish(claim.run, outcome, told)
            assert store.get(claim.run.run_id) is not None

        list(threads.map(run, range(80)))
        assert postgresql_server.query("SELECT status, count(*) FROM runs GROUP BY 1", name) == [
            ("success", 80)
        ]
        # Other programs get the same connections: nothing of ours is left there.
        with psycopg.connect(f"postgresql://tests@127.0.0.1:{port}/{name}") as other:
            assert other.execute("SHOW statement_timeout").fetchall() == [("0",)]
        fails_in_time(lambda: sleep_in(store))


def sleep_in(store: RunStore) -> None:
    with store._database.writing() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_sleep(20)"))


SLOW_INDEX = """
CREATE FUNCTION be_slow() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN IF current_query() LIKE '%ix_runs_submitter%' THEN PERFORM pg_sleep(6); END IF; END$$;
CREATE EVENT TRIGGER be_slow ON ddl_command_start EXECUTE FUNCTION be_slow()
"""


@pytest.fixture
def slow_to_migrate(postgresql_server: PostgreSQL) -> str:
    """Return the URL of an empty database in which one index takes longer than any statement."""
    url = postgresql_server.new_database()
    postgresql_server.query(SLOW_INDEX, url.rpartition("/")[2])
    return url


def open_until_it_is(database: Database) -> tuple[list[str], float]:
    """Open a database, again where it is not available; return why, and the longest attempt."""
    reasons, slowest_s = [], 0.0
    ends_at = time.monotonic() + 1200
    while time.monotonic() < ends_at:
        began_at = time.monotonic()
        try:
            database.open()
        except StoreUnavailableError as error:
            reasons.append(error.reason)
        else:
            return reasons, max(slowest_s, time.monotonic() - began_at)
        slowest_s = max(slowest_s, time.monotonic() - began_at)
    raise AssertionError(reasons[-1])


@pytest.mark.once
def test_long_migration_is_told_and_comes_to_its_end(slow_to_migrate: str) -> None:
    databases = [Database(locate(slow_to_migrate, Path())) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(open_until_it_is, databases))
    assert all(slowest_s < LIMIT_S for _, slowest_s in found)
    told = " ".join(reason for reasons, _ in found for reason in reasons)
    assert "its schema is being brought up to date (" in told
    assert "another server is bringing its schema up to date" in told
    for database in databases:
        database.close()


@pytest.mark.once
def test_migration_is_given_up_when_server_stops(
    slow_to_migrate: str, postgresql_server: PostgreSQL
) -> None:
    database = Database(locate(slow_to_migrate, Path()))
    fails_in_time(database.open)
    began_at = time.monotonic()
    database.close()
    assert time.monotonic() - began_at < 1
    tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'runs'"
    name = slow_to_migrate.rpartition("/")[2]
    eventually(lambda: postgresql_server.query(tables, name) == [(0,)])


@pytest.mark.once
def test_migration_that_has_to_wait_for_a_lock_lets_others_go_on(
    postgresql_server: PostgreSQL,
) -> None:
    url = postgresql_server.new_database()
    make_schema(url, "0003")
    database = Database(locate(url, Path()))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE runs IN ROW EXCLUSIVE MODE")  # as one that writes
        fails_in_time(database.open)
        fails_in_time(database.open)
    open_when_ready(database)
    database.close()


MILLION_RUNS = """
INSERT INTO runs (run_id, project, env, status, request, started_at, finished_at, duration_ms)
  SELECT to_char(to_timestamp(1767225600 + n), 'YYYY-MM-DD"T"HH24.MI.SS') || '.000Z', 'here',
    'local', 'success', '{"params": {"tag": "' || md5(n::text) || '"}}', 0, 1, 1.0
  FROM generate_series(1, 1000000) AS n;
INSERT INTO run_pipelines SELECT run_id, '__default__' FROM runs;
INSERT INTO events SELECT run_id, n, 0, 'run.queued', '{}' FROM runs, generate_series(1, 3) AS n
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_migration_of_a_million_runs_comes_to_its_end(
    postgresql_server: PostgreSQL,
) -> None:
    url = postgresql_server.new_database()
    make_schema(url, "0001")
    postgresql_server.query(MILLION_RUNS, url.rpartition("/")[2])
    database = Database(locate(url, Path()))
    began_at = time.monotonic()
    reasons, slowest_s = open_until_it_is(database)
    took_s = time.monotonic() - began_at
    database.close()
    assert slowest_s < LIMIT_S
    assert all("being brought up to date" in reason for reason in reasons)
    print(f"a million runs: {took_s:.1f} s")  # noqa: T201
