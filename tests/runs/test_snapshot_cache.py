"""Snapshots of the project, made once for as long as they are true."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.runs.snapshot_cache import SnapshotCache

LONG_S = 10.0


class FakeExecutor:
    """Describes a project as the test says, and counts how often."""

    def __init__(self) -> None:
        self.state: str | None = "first"
        self.error: ErrorDetail | None = None
        self.asked: list[str | None] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        self.asked.append(params)
        self.is_asked.set()
        assert self.may_answer.wait(LONG_S)
        return self.error or Snapshot(content={}, fingerprint=self.state, sources=("nodes.py",))

    def fingerprint(self, sources: Iterable[str]) -> str | None:
        assert [*sources] == ["nodes.py"]
        return self.state


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def snapshots(executor: FakeExecutor) -> SnapshotCache:
    return SnapshotCache(executor, executor.fingerprint)  # type: ignore[arg-type]


def test_snapshot_is_made_once_for_each_parameters(snapshots, executor) -> None:
    first = snapshots.get(None)
    assert snapshots.get(None) is first
    assert snapshots.get("a=1") is not first
    assert executor.asked == [None, "a=1"]


def test_snapshot_is_made_anew_when_the_project_has_changed(snapshots, executor) -> None:
    first = snapshots.get(None)
    executor.state = "second"
    second = snapshots.get(None)
    assert second is not first
    assert snapshots.get(None) is second


def test_snapshot_that_may_change_unseen_is_not_kept(snapshots, executor) -> None:
    executor.state = None
    assert snapshots.get(None) is not snapshots.get(None)


def test_failure_is_not_kept(snapshots, executor) -> None:
    executor.error = ErrorDetail(type="ValueError", message="no")
    assert snapshots.get(None) is executor.error
    executor.error = None
    assert isinstance(snapshots.get(None), Snapshot)


def test_no_more_snapshots_are_kept_than_a_few(snapshots, executor) -> None:
    for number in range(17):
        snapshots.get(str(number))
    executor.asked.clear()
    snapshots.get("16")
    snapshots.get("0")
    assert executor.asked == ["0"]


def test_those_that_ask_at_once_share_one_snapshot(snapshots, executor) -> None:
    executor.may_answer.clear()
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(snapshots.get, None) for _ in range(4)]
        assert executor.is_asked.wait(LONG_S)
        executor.may_answer.set()
        assert len({id(each.result(LONG_S)) for each in found}) == 1
    assert executor.asked == [None]
