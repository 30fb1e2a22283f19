"""A server whose store is PostgreSQL: how often it asks for an answer, and a fail-over under it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.postgresql import PostgreSQL
from tests.proxies import counting_proxy
from tests.servers import PROJECTS, copy_project, kedro_flask_server

pytestmark = pytest.mark.once

RUNS = 40

# Two for the run: to take it in, and to store its end. Threads that work from time to time ask,
# too, as does whoever finds that a connection has not been seen to work for a second.
ROUND_TRIPS = 2
OFTEN_ENOUGH = RUNS // 3

# What a server without work asks in a second: has anything been queued, who is dead, and so on.
IDLE_PER_S = 8


def test_run_takes_two_round_trips(postgresql_server: PostgreSQL, tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    with counting_proxy(postgresql_server.port) as proxy:
        url = postgresql_server.new_database()
        url = url.replace(str(postgresql_server.port), str(proxy.port))
        settings = {"KEDRO_SERVER_DATABASE_URL": url}
        with kedro_flask_server(project, "--executor", "threads", **settings) as server:
            counts = []
            for number in range(RUNS + 10):
                before = proxy.round_trips
                server.run(pipeline_names=["one"], params={"tag": f"tag-{number}"})
                counts.append(proxy.round_trips - before)
            counts = sorted(counts[10:])
            assert counts[0] == ROUND_TRIPS
            assert counts[OFTEN_ENOUGH] <= ROUND_TRIPS, counts
            before, seconds = proxy.round_trips, 4
            time.sleep(seconds)
            assert proxy.round_trips - before <= IDLE_PER_S * (seconds + 1)
