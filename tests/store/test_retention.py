"""What has just ended is kept, whatever the clocks say, and nothing goes all at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy

from kedro_flask_server.model.run import RunFilter
from kedro_flask_server.model.run_id import run_id_at, time_of
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.store.retention import Retention
from kedro_flask_server.store.rows import to_ms
from kedro_flask_server.store.schema import runs
from tests.store import open_when_ready
from tests.store.conftest import (
    HERE,
    SUCCESS,
    add,
    claim,
    finish,
)

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
YEARS = timedelta(days=3 * 365)


class Clocks:
    """The database's clock, which can be set, and one that cannot."""

    def __init__(self) -> None:
        self.now = NOW
        self.seconds = 1_000.0

    def pass_(self, period: timedelta) -> None:
        self.now += period
        self.seconds += period.total_seconds()


class Kept:
    """A store, and retention with clocks of the test's own."""

    def __init__(self, database: Database, store: RunStore) -> None:
        self.clocks = Clocks()
        self._database, self._store = database, store
        self._ids = 0
        self.restart()

    def restart(self) -> None:
        self._retention = Retention(
            self._database,
            project="probe",
            env="local",
            now_ms=lambda _: to_ms(self.clocks.now),
            monotonic=lambda: self.clocks.seconds,
        )

    def end(self, moment: datetime | None = None) -> str:
        """Have a run end at a time, by default now."""
        moment = moment or self.clocks.now
        self._ids += 1
        run_id = run_id_at(moment + timedelta(milliseconds=self._ids % 1000))
        add(self._store, run_id=lambda: run_id)
        assert claim(self._store) == run_id
        assert finish(self._store, run_id, SUCCESS)
        with self._database.writing() as connection:
            of_run = sqlalchemy.update(runs).where(runs.c.run_id == run_id)
            connection.execute(of_run.values(finished_at=to_ms(time_of(run_id))))
        return run_id

    def minute(self, *, keep_runs: int = 1_000, keep_days: float = 90) -> None:
        """Let a minute pass, and do what is due."""
        self.clocks.pass_(timedelta(minutes=1))
        limits = {"keep_runs": keep_runs, "keep_days": keep_days, "key_hours": 24}
        while self._retention.purge(**limits):
            pass

    @property
    def run_ids(self) -> set[str]:
        page = self._store.page(RunFilter(), limit=200, cursor=None)
        return {run.run_id for run in page.runs}


@pytest.fixture
def kept(database_url: str) -> Iterator[Kept]:
    database = Database(locate(database_url, Path("/nowhere")))
    store = RunStore(database, project="probe", env="local")
    open_when_ready(store)
    store.servers.register(HERE, lease_s=60)
    yield Kept(database, store)
    store.close()


def test_runs_go_by_when_they_ended(kept: Kept) -> None:
    days = [kept.end(NOW - timedelta(days=number)) for number in (95, 92, 50, 10)]
    for _ in range(5):
        kept.minute(keep_days=91)
    assert kept.run_ids == set(days[2:])
    kept.minute(keep_runs=1)
    assert kept.run_ids == {days[3]}


def test_new_run_is_kept_where_the_ids_before_are_ahead_of_the_clock(kept: Kept) -> None:
    ahead = [kept.end(NOW + YEARS) for _ in range(5)]
    kept.clocks.pass_(timedelta(seconds=20))
    new = kept.end()
    for number in range(30):
        kept.minute(keep_runs=3)
        if number == 10:
            kept.restart()
    assert kept.run_ids == {new, *sorted(ahead)[-2:]}
    newer = [kept.end() for _ in range(3)]
    for _ in range(10):
        kept.minute(keep_runs=3)
    assert kept.run_ids == set(newer)


def test_clock_that_is_set_back_and_right_again_deletes_nothing(kept: Kept) -> None:
    before = [kept.end() for _ in range(3)]
    kept.minute()
    kept.clocks.now -= YEARS
    during = [kept.end() for _ in range(3)]
    kept.minute()
    kept.minute()
    kept.clocks.now += YEARS
    after = kept.end()
    for _ in range(20):
        kept.minute(keep_runs=7)
    assert kept.run_ids == {*before, *during, after}
    for _ in range(3):
        kept.minute(keep_runs=4)
    assert kept.run_ids == {*during, after}


def test_clock_that_is_wrong_for_a_while_does_not_empty_the_store(kept: Kept) -> None:
    old = [kept.end(NOW - timedelta(hours=hours)) for hours in range(30, 2, -1)]
    kept.minute()
    kept.clocks.now += YEARS
    last = kept.end()
    for _ in range(3):
        kept.minute()
    assert kept.run_ids >= {*old[3:], last}
    kept.restart()
    for _ in range(3):
        kept.minute()
    assert kept.run_ids >= {*old[6:], last}
    kept.clocks.now -= YEARS
    for _ in range(10):
        kept.minute()
    assert kept.run_ids >= {*old[6:], last}


def test_what_has_just_ended_is_kept_whatever_the_limits(kept: Kept) -> None:
    ended = {kept.end() for _ in range(3)}
    for _ in range(4):
        kept.minute(keep_runs=0, keep_days=0)
    assert kept.run_ids == ended
    for _ in range(2):
        kept.minute(keep_runs=0, keep_days=0)
    assert kept.run_ids == set()


def test_large_runs_are_deleted_few_at_a_time(kept: Kept) -> None:
    for _ in range(5):
        kept.end(NOW - timedelta(days=100))
    with kept._database.writing() as connection:
        connection.execute(sqlalchemy.update(runs).values(request=f'{{"x": "{"y" * 3_000_000}"}}'))
    limits = {"keep_runs": 0, "keep_days": 90, "key_hours": 24}
    steps = [kept._retention.purge(**limits) for _ in range(6)]
    assert steps == [True] * 5 + [False]
