"""What a server's start changes in the queue that it shares, and says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.runs.queue_start import QueueStart
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.store.schema import queues, servers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    made = RunStore(Database(locate(None, tmp_path)), project="p", env="e")
    made.open()
    yield made
    made.close()


def start_of(store: RunStore, **settings: object) -> QueueStart:
    return QueueStart(store, ServerConfig(project_path=Path(), **settings))  # type: ignore[arg-type]


def limits_in(store: RunStore) -> dict[str, int]:
    return dict(store.queue_control.state().limits.concurrency)


def test_last_server_to_start_sets_the_limits_and_one_that_comes_back_does_not(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = start_of(store, concurrency={"a": 1}), start_of(store, concurrency={"a": 2})
    first.apply()
    assert limits_in(store) == {"a": 1}
    second.apply()
    assert "concurrency of 'a' from 1 to 2" in caplog.text
    first.apply()
    assert limits_in(store) == {"a": 2}
    with store._database.writing() as connection:  # as in a store that was replaced
        connection.execute(queues.delete())
    first.apply()
    assert limits_in(store) == {"a": 1}


def test_start_says_what_is_paused(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    start_of(store).apply()
    assert not caplog.records
    store.queue_control.pause("train")
    start_of(store).apply()
    store.queue_control.pause(None)
    start_of(store).apply()
    assert [record.getMessage() for record in caplog.records] == [
        "Queued runs are paused: train",
        "Queued runs are paused: all pipelines",
    ]


def test_start_warns_of_servers_that_ignore_locks(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store.servers.register(ServerProcess.this(), lease_s=60)
    start_of(store).apply()
    with store._database.writing() as connection:
        connection.execute(update(servers).values(newest_revision=None))
    start_of(store, dataset_conflicts="allow").apply()
    assert not caplog.records
    start_of(store, dataset_conflicts="wait").apply()
    assert "A server of an older version uses this store" in caplog.text
