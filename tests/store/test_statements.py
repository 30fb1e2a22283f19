"""How many round trips to PostgreSQL what every run needs takes, counted on the way there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kedro_flask_server.model.run import Progress, RunOutcome, RunStatus
from kedro_flask_server.store import ClaimedRun, Database, PendingEvents, RunStore, locate
from tests.postgresql import PostgreSQL
from tests.proxies import CountingProxy, counting_proxy
from tests.store import open_when_ready
from tests.store.conftest import HERE, IDS, new_run

pytestmark = pytest.mark.once


class Counted:
    """A store whose round trips are counted."""

    def __init__(self, url: str, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self.store = RunStore(Database(locate(url, Path())), project="counted", env="local")
        open_when_ready(self.store)
        self.store.servers.register(HERE, lease_s=60)

    def add(self, *, may_start: bool = True, key: str | None = None) -> ClaimedRun | None:
        options = {"key": key, "key_hours": 1, "workers": 2, "max_queued": 9}
        new = new_run(may_start=may_start, **options)
        return self.store.new_runs.add(new, IDS.next).claimed

    def finish(self, claim: ClaimedRun | None) -> None:
        assert claim is not None
        progress = Progress(done=1, total=1)
        told = PendingEvents(
            server_id=HERE.server_id, events=[], last_id=claim.event_id, progress=progress
        )
        outcome = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)
        assert self.store.finish(claim.run, outcome, told)

    def trips_of(self, call: Callable[[], object]) -> int:
        """Return how many round trips a call takes, one to see whether all is well left out."""
        counts = []
        for _ in range(3):
            call()
            before = self._proxy.round_trips
            call()
            counts.append(self._proxy.round_trips - before)
        return min(counts)


@pytest.fixture
def counted(postgresql_server: PostgreSQL) -> Iterator[Counted]:
    with counting_proxy(postgresql_server.port) as proxy:
        url = postgresql_server.new_database()
        made = Counted(url.replace(str(postgresql_server.port), str(proxy.port)), proxy)
        yield made
        made.store.close()


def test_run_is_taken_in_and_ended_in_a_round_trip_each(counted: Counted) -> None:
    assert counted.trips_of(lambda: counted.finish(counted.add())) == 2


def test_run_is_queued_and_taken_up_in_a_round_trip_each(counted: Counted) -> None:
    def queue_and_take_up() -> None:
        assert counted.add(may_start=False) is None
        counted.finish(counted.store.queue.claim(HERE.server_id))

    assert counted.trips_of(queue_and_take_up) == 3


def test_key_takes_one_more(counted: Counted) -> None:
    assert counted.trips_of(lambda: counted.finish(counted.add(key=str(time.time_ns())))) == 3


def test_what_is_looked_for_from_time_to_time_takes_a_round_trip(counted: Counted) -> None:
    assert counted.trips_of(counted.store.queue.has_any) == 1
    assert counted.trips_of(lambda: counted.store.cancel_requests(HERE.server_id)) == 1
    assert counted.trips_of(lambda: counted.store.ended_among(["x"])) == 1
