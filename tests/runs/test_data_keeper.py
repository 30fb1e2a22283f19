"""Data is kept within limits, for some time, and no longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import DataGoneError, StorageFullError, UnknownOutputError
from kedro_flask_server.model.data_exchange import DataRequest, GivenData, Output, file_name
from kedro_flask_server.model.run import ANONYMOUS, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.run_files import RunFiles
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.store import Database, NewRun, RunStore, locate
from kedro_flask_server.store.events import PendingEvents
from tests.clocks import Clock
from tests.store.conftest import HERE


class Describing:
    """An executor that describes, and counts how often."""

    def __init__(self) -> None:
        self.asked = 0

    def describe_data(self, requests: list[RunRequest]) -> list[dict[str, Any]]:
        """Return a description for each."""
        self.asked += 1
        return [{"name": str(each.pipelines)} for each in requests]


@pytest.fixture
def store(database_url: str) -> Iterator[RunStore]:
    """Return an empty store that knows this server."""
    store = RunStore(Database(locate(database_url, Path("unused"))), project="p", env="e")
    store.open()
    store.servers.register(HERE, 60)
    yield store
    store.close()


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> RunFiles:
    """Return files of this machine, and others by fsspec."""
    return RunFiles(str(tmp_path / "data") if request.param == "local" else f"memory:/{tmp_path}")


def keeper_of(
    store: RunStore,
    files: RunFiles,
    tmp_path: Path,
    *,
    executor: Describing | None = None,
    state: list[str] | None = None,
    **settings: Any,
) -> DataKeeper:
    """Return what keeps the data of a store; the first of `state` is the configuration's."""
    config = replace(ServerConfig(project_path=tmp_path), **{"min_free_disk_bytes": 0, **settings})
    states = state or ["same"]
    return DataKeeper(
        store,
        files,
        cast(Any, executor or Describing()),
        config,
        state_dir=tmp_path,
        fingerprint=lambda sources: states[0],
        clock=Clock(),
    )


def add_run(store: RunStore, files: RunFiles, run_id: str) -> RunRequest:
    """Store a run that executes here, and was given a dataset."""
    folder = files.new_folder()
    with files.writing(folder, file_name("rows")) as file:
        file.write(b"[1]")
    given = GivenData(media_type="application/json", size_bytes=3, sha256="0" * 64)
    request = RunRequest(data=DataRequest(inputs={"rows": given}, folder=folder).dump())
    new = NewRun(
        submission=Submission(request=request),
        server_id=HERE.server_id,
        is_held=False,
        workers=1,
        max_queued=9,
        may_start=True,
    )
    store.new_runs.add(new, lambda: run_id)
    return request


def end_run(store: RunStore, files: RunFiles, run_id: str) -> None:
    """Store the end of a run that has returned something."""
    with files.writing(run_id, file_name("sums")) as file:
        file.write(b'{"a":1}')
    output = Output(
        media_type="application/json",
        size_bytes=7,
        sha256="1" * 64,
        file=file_name("sums"),
        value={"a": 1},
    )
    told = PendingEvents(server_id=HERE.server_id, events=[], outputs={"sums": output})
    run = store.get(run_id)
    assert run is not None
    outcome = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1)
    assert store.finish(run, outcome, told) is not None


RUN = "2026-01-01T00.00.00.000Z"


def test_data_is_kept_with_its_run_and_deleted_when_asked(
    store: RunStore, files: RunFiles, tmp_path: Path
) -> None:
    keeper = keeper_of(store, files, tmp_path)
    request = add_run(store, files, RUN)
    end_run(store, files, RUN)
    assert request.exchange is not None
    assert request.exchange.folder in {name for name, _ in files.folders()}
    with keeper.open(RUN, "sums", keeper.outputs(RUN)) as file:
        assert file.read() == b'{"a":1}'
    assert store.data.stored_bytes() == 10
    with pytest.raises(UnknownOutputError, match="sums"):
        keeper.open(RUN, "nope", keeper.outputs(RUN))
    keeper.delete(RUN, ANONYMOUS)
    assert not [*files.folders()]
    assert store.data.stored_bytes() == 0
    assert keeper.values(RUN) == {}
    with pytest.raises(DataGoneError):
        keeper.open(RUN, "sums", keeper.outputs(RUN))


def test_data_is_deleted_after_its_time_and_small_objects_stay(
    store: RunStore, files: RunFiles, tmp_path: Path
) -> None:
    add_run(store, files, RUN)
    end_run(store, files, RUN)
    keeper_of(store, files, tmp_path, keep_outputs_hours=1.0).purge(cast(Any, None))
    assert store.data.stored_bytes() == 10
    keeper = keeper_of(store, files, tmp_path, keep_outputs_hours=-1.0)  # whatever has ended
    keeper.purge(cast(Any, None))
    assert store.data.stored_bytes() == 0
    assert keeper.values(RUN) == {"sums": {"a": 1}}


def test_data_of_a_run_that_goes_on_stays_and_what_is_left_over_goes(
    store: RunStore, tmp_path: Path
) -> None:
    files = RunFiles(str(tmp_path / "data"))
    request = add_run(store, files, RUN)
    assert request.exchange is not None
    left_over = ["0" * 32, "2020-01-01T00.00.00.000Z"]
    for name in left_over:
        with files.writing(name, "x") as file:
            file.write(b"x")
    with files.writing(RUN, "x") as file:  # of the run that executes
        file.write(b"x")
    for name, _ in files.folders():
        os.utime(tmp_path / "data" / name, (1, 1))
    with files.writing("1" * 32, "x") as file:  # that is being written
        file.write(b"x")
    keeper_of(store, files, tmp_path, keep_outputs_hours=0.0).purge(cast(Any, None))
    assert {name for name, _ in files.folders()} == {request.exchange.folder, RUN, "1" * 32}


def test_request_that_fails_keeps_what_its_run_was_given(
    store: RunStore, files: RunFiles, tmp_path: Path
) -> None:
    keeper = keeper_of(store, files, tmp_path)
    request = add_run(store, files, RUN)
    assert request.exchange is not None
    given = str(request.exchange.folder)
    with files.writing("0" * 32, "x") as file:
        file.write(b"x")
    keeper.discard(given)
    keeper.discard("0" * 32)
    assert {name for name, _ in files.folders()} == {given}


def test_space_is_reserved(store: RunStore, tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path / "data"))
    keeper = keeper_of(store, files, tmp_path, max_stored_data_bytes=2_000_000)
    with keeper.reserved(1_500_000):
        with (
            pytest.raises(StorageFullError, match="max_stored_data_bytes"),
            keeper.reserved(600_000),
        ):
            pass
        with keeper.reserved(400_000):
            pass
    full = keeper_of(store, files, tmp_path, min_free_disk_bytes=10**18)
    with pytest.raises(StorageFullError, match="min_free_disk_bytes"):
        full.refuse_without_space(1)


def test_descriptions_are_remembered_until_the_configuration_changes(
    store: RunStore, tmp_path: Path
) -> None:
    executor, state = Describing(), ["one"]
    files = RunFiles(str(tmp_path / "data"))
    keeper = keeper_of(store, files, tmp_path, executor=executor, state=state)
    one, other = RunRequest(), RunRequest(pipeline_names=["a"])
    assert keeper.describe(one) == keeper.describe(one)
    assert executor.asked == 1
    assert len(keeper.describe_all([one, other])) == 2
    keeper.describe(other)
    assert executor.asked == 2
    state[0] = "another"
    keeper.describe(one)
    assert executor.asked == 3


def test_same_data_elsewhere_is_the_same_request() -> None:
    from kedro_flask_server.store.rows import hash_request

    given = GivenData(media_type="a/b", size_bytes=1, sha256="0")
    requests = [
        RunRequest(data=DataRequest(inputs={"a": each}, folder=folder).dump())
        for each, folder in ((given, "x"), (given, "y"), (replace(given, sha256="1"), "x"))
    ]
    one, same, other = map(hash_request, requests)
    assert one == same != other
