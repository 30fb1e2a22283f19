"""The slots of runs: how many execute, whose turn it is, none started twice, none lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import KeyReusedError, StoreUnavailableError
from kedro_flask_server.executors.threads import ThreadExecutor
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import Run, RunFilter, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.runs.factory import create_run_service
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.store import AddedRun, ClaimedRun, Database, RunStore, locate
from tests.servers import eventually


class CountingProject:
    """Executes runs that end when the test says so, and counts how many do at once."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.started: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self._lock = threading.Lock()

    def data_access(self, request: RunRequest) -> None:
        """What its runs read and write cannot be told."""

    def execute(
        self,
        run_id: str,
        request: RunRequest,
        stop: StopRequest,
        report: RunReport,
        data: RunData,
    ) -> RunOutcome:
        names = ["all", *(request.pipeline_names or [])]
        with self._lock:
            self.started.append(run_id)
            for name in names:
                self.at_once[name] += 1
                self.most_at_once[name] = max(self.most_at_once[name], self.at_once[name])
        assert self.may_end.wait(30)
        with self._lock:
            self.at_once.subtract(names)
        return RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)


@pytest.fixture
def project() -> CountingProject:
    return CountingProject()


@pytest.fixture
def make_service(tmp_path: Path, project: CountingProject) -> Iterator[Callable[..., RunService]]:
    made: list[RunService] = []

    def make(store_class: type[RunStore] = RunStore, **settings) -> RunService:
        database = Database(locate(None, tmp_path / "state"))
        config = ServerConfig(project_path=Path(), **({"workers": 1} | settings))
        service = create_run_service(
            store_class(database, project="probe", env="local"),
            ThreadExecutor(project, workers=config.workers),  # type: ignore[arg-type]
            config,
        )
        made.append(service)
        return service

    yield make
    project.may_end.set()
    for service in made:
        service.drain(10)


def all_runs(service: RunService) -> list[Run]:
    runs, cursor = [], None
    while True:
        page = service.page(RunFilter(), limit=200, cursor=cursor)
        runs += page.runs
        if page.next is None:
            return runs
        cursor = page.next


def all_have_ended(service: RunService) -> bool:
    return all(run.status.is_final for run in all_runs(service))


def test_no_more_execute_than_there_are_workers_and_each_once(make_service, project) -> None:
    service = make_service(workers=3, max_queued=1000)
    project.may_end.set()
    with ThreadPoolExecutor(8) as clients:
        runs = [*clients.map(lambda _: service.submit(RunRequest()), range(8 * 50))]
    eventually(lambda: len(project.started) == len(runs))
    eventually(lambda: all_have_ended(service))
    assert {run.status for run in all_runs(service)} == {RunStatus.SUCCESS}
    assert Counter(project.started) == Counter(run.run_id for run in runs)
    assert project.most_at_once["all"] <= 3


def test_all_places_are_taken_at_once(make_service, project) -> None:
    service = make_service(workers=3)
    runs = [service.submit(RunRequest()) for _ in range(5)]
    assert [run.status for run in runs] == [RunStatus.RUNNING] * 3 + [RunStatus.QUEUED] * 2
    eventually(lambda: project.at_once["all"] == 3)


def test_queued_run_starts_when_a_place_is_free(make_service, project) -> None:
    service = make_service()
    runs = [service.submit(RunRequest()) for _ in range(11)]
    eventually(lambda: project.started)
    freed_at = time.monotonic()
    project.may_end.set()
    assert service.wait(runs[-1].run_id, 20).status is RunStatus.SUCCESS
    assert time.monotonic() - freed_at < 2.5  # ten times the pause between two looks is five


def test_queued_runs_come_in_their_order_and_none_overtakes_them(make_service, project) -> None:
    service = make_service()
    runs = [service.submit(RunRequest()) for _ in range(20)]
    project.may_end.set()
    runs += [service.submit(RunRequest()) for _ in range(20)]
    eventually(lambda: all_have_ended(service))
    assert project.started == [run.run_id for run in runs]


def test_run_with_a_limit_of_its_own_waits_its_turn_while_others_pass(
    make_service, project
) -> None:
    service = make_service(workers=3, concurrency={"train": 1})
    train, other = RunRequest(pipeline_names=["train"]), RunRequest(pipeline_names=["other"])
    for request in (train, train, train, other, other):
        service.submit(request)
    eventually(lambda: project.at_once == {"all": 3, "train": 1, "other": 2})
    project.may_end.set()
    eventually(lambda: all_have_ended(service))
    assert project.most_at_once == {"all": 3, "train": 1, "other": 2}


def test_slot_of_a_run_that_is_refused_is_free_again(make_service, project) -> None:
    service = make_service()
    project.may_end.set()
    service.run(RunRequest(), key="k")
    for _ in range(3):
        with pytest.raises(KeyReusedError):
            service.submit(RunRequest(tags=["x"]), key="k")
    assert service.submit(RunRequest()).status is RunStatus.RUNNING


class Wrapped:
    """A part of a store, some of whose methods are others."""

    def __init__(self, part: object) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


class StoreThatForgetsToAnswer(RunStore):
    """Stores a new run, a claim or an end, and has the answer lost."""

    forgets = ""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        forget = self._forget

        class NewRuns(Wrapped):
            def add(self, *args) -> AddedRun:
                added: AddedRun = self.part.add(*args)
                forget("add")
                return added

        class Queue(Wrapped):
            def claim(self, *args) -> ClaimedRun | None:
                claimed: ClaimedRun | None = self.part.claim(*args)
                if claimed is not None:
                    forget("claim")
                return claimed

        self.new_runs = NewRuns(self.new_runs)  # type: ignore[assignment]
        self.queue = Queue(self.queue)  # type: ignore[assignment]

    def finish(self, *args) -> Run | None:
        ended = super().finish(*args)
        self._forget("finish")
        return ended

    def _forget(self, what: str) -> None:
        if self.forgets == what:
            self.forgets = ""
            raise StoreUnavailableError("the answer was lost")


@pytest.mark.once
@pytest.mark.parametrize("forgets", ["add", "claim", "finish"])
def test_run_whose_taking_up_has_no_answer_is_executed_all_the_same_and_once(
    make_service, project, forgets: str
) -> None:
    service = make_service(StoreThatForgetsToAnswer)
    service.start()
    if forgets != "add":
        service.submit(RunRequest())
        service.submit(RunRequest())
    service._store.forgets = forgets
    if forgets == "add":
        with pytest.raises(StoreUnavailableError):
            service.submit(RunRequest())
    project.may_end.set()
    eventually(lambda: all_have_ended(service))
    assert {run.status for run in all_runs(service)} == {RunStatus.SUCCESS}
    assert set(Counter(project.started).values()) == {1}
    assert service.run(RunRequest(), timeout_s=5).status is RunStatus.SUCCESS  # the slot is free


class StoreThatAnswersLate(RunStore):
    """Answers a claim when another thread has put the run back, or after three seconds."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.has_put_back = has_put_back = threading.Event()

        class Queue(Wrapped):
            def claim(self, *args) -> ClaimedRun | None:
                claimed: ClaimedRun | None = self.part.claim(*args)
                if claimed is not None and threading.current_thread().name.startswith("kedro-run"):
                    has_put_back.wait(3)
                return claimed

            def requeue(self, *args) -> None:
                self.part.requeue(*args)
                has_put_back.set()

        self.queue = Queue(self.queue)  # type: ignore[assignment]


def test_run_that_is_being_taken_up_is_not_put_back(make_service, project) -> None:
    service = make_service(StoreThatAnswersLate)
    for _ in range(2):
        service.submit(RunRequest())
    project.may_end.set()
    eventually(lambda: len(project.started) > 1)
    eventually(lambda: all_have_ended(service))
    with contextlib.suppress(AssertionError):
        eventually(lambda: len(project.started) > 2, timeout_s=1)
    assert set(Counter(project.started).values()) == {1}
    assert not service._store.has_put_back.is_set()


class StoreWithARunThatCannotBeRead(RunStore):
    """Cannot read the next run, once, where a run's end makes room for it."""

    failures = finished = 0

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        store = self

        class Queue(Wrapped):
            def claim(self, *args) -> ClaimedRun | None:
                is_of_end = threading.current_thread().name.startswith("kedro-run")
                if is_of_end and not store.failures:
                    store.failures += 1
                    raise ValueError("this is no run")
                found: ClaimedRun | None = self.part.claim(*args)
                return found

        self.queue = Queue(self.queue)  # type: ignore[assignment]

    def finish(self, *args) -> Run | None:
        self.finished += 1
        return super().finish(*args)


def test_run_ends_whatever_is_wrong_with_the_next(make_service, project) -> None:
    service = make_service(StoreWithARunThatCannotBeRead)
    first, second = (service.submit(RunRequest()) for _ in range(2))
    project.may_end.set()
    assert service.wait(first.run_id, 10).status is RunStatus.SUCCESS
    assert service._store.failures == 1
    assert service.wait(second.run_id, 10).status is RunStatus.SUCCESS
    assert service._store.finished == 2  # neither end had to be stored again
