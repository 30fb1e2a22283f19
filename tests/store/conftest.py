"""What the tests of the store share: stores, databases, and what is done with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.queue import QueueLimits
from kedro_flask_server.model.run import Run, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.run_id import RunIds, time_of
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.store import Database, NewRun, PendingEvents, RunStore, locate
from kedro_flask_server.store.schema import runs
from tests.store import open_when_ready

LIMIT_S = 5

HERE = ServerProcess.this()
SUCCESS = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.5)
IDS = RunIds()

# The row of a server.
SERVER = {
    "server_id": "a",
    "machine": "here",
    "pid": 1,
    "pid_started_at": 0.0,
    "lease_ends_at": 0,
}


@pytest.fixture
def open_store(database_url: str) -> Iterator[Callable[..., RunStore]]:
    stores = []

    def open_one(project: str = "probe", env: str = "local") -> RunStore:
        database = Database(locate(database_url, Path("/nowhere")))
        store = RunStore(database, project=project, env=env)
        open_when_ready(store)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., RunStore]) -> RunStore:
    store = open_store()
    store.servers.register(HERE, lease_s=60)
    return store


def new_run(**options: Any) -> NewRun:
    """Return a run of this server's that is to be stored."""
    sent = ({each.name for each in fields(Submission)} - {"priority"}) & options.keys()
    submitted = {"request": RunRequest()} | {name: options.pop(name) for name in sent}
    given = {"server_id": HERE.server_id, "is_held": False, "workers": 1, "max_queued": 1000}
    return NewRun(submission=Submission(**submitted), **(given | options))


def add(
    store: RunStore,
    request: RunRequest | None = None,
    *,
    run_id: Callable[[], str] = IDS.next,
    **options: Any,
) -> Run:
    return store.new_runs.add(new_run(request=request or RunRequest(), **options), run_id).run


def claim(store: RunStore, server: ServerProcess = HERE, **concurrency: int) -> str | None:
    if concurrency:
        store.queue_control.set_limits(QueueLimits(concurrency=concurrency))
    claim = store.queue.claim(server.server_id)
    return None if claim is None else claim.run.run_id


def finish(store: RunStore, run_id: str, outcome: RunOutcome, at: ServerProcess = HERE) -> bool:
    run = store.get(run_id) or unknown_run(run_id)
    return store.finish(run, outcome, PendingEvents(server_id=at.server_id, events=[])) is not None


def unknown_run(run_id: str) -> Run:
    return Run(
        run_id=run_id,
        project="probe",
        env="local",
        status=RunStatus.RUNNING,
        request=RunRequest(),
        created_at=time_of(run_id),
    )


def end(store: RunStore, outcome: RunOutcome = SUCCESS) -> str:
    """Add a run, take it up and end it."""
    run = add(store)
    while (claimed := claim(store)) != run.run_id:
        assert claimed is not None
    assert finish(store, run.run_id, outcome)
    return run.run_id


def get(store: RunStore, run_id: str) -> Run:
    run = store.get(run_id)
    assert run is not None
    return run


def other_server(**changes) -> ServerProcess:
    return replace(ServerProcess.this(), **changes)


@contextmanager
def opened(url: str, **options: float) -> Iterator[Database]:
    made = Database(locate(url, Path("/nowhere")), **options)
    try:
        made.open()
        yield made
    finally:
        made.close()


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
