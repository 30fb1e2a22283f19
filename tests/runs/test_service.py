"""The run service: limits, ends, and the end of the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from kedro_flask_server.errors import ServerBusyError, ServerStoppingError
from kedro_flask_server.runs.executors.threads import ThreadExecutor
from kedro_flask_server.runs.model import RunOutcome, RunRequest
from kedro_flask_server.runs.service import RunService


class ControlledProject:
    """Executes runs that end when the test says so."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.started = threading.Semaphore(0)
        self.fault: BaseException | None = None
        self.executors: list[ThreadExecutor] = []

    def execute(self, run_id: str, request: RunRequest) -> RunOutcome:
        self.started.release()
        assert self.may_end.wait(30)
        if self.fault:
            raise self.fault
        return RunOutcome(run_id=run_id, duration_ms=1.0)


@pytest.fixture
def project() -> Iterator[ControlledProject]:
    controlled = ControlledProject()
    yield controlled
    controlled.may_end.set()
    for executor in controlled.executors:
        executor.close()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def make_service(project: ControlledProject, workers: int, max_waiting: int) -> RunService:
    executor = ThreadExecutor(project, workers=workers)  # type: ignore[arg-type]
    project.executors.append(executor)
    return RunService(executor, workers=workers, max_waiting=max_waiting)


Submit = Callable[[], "Future[RunOutcome]"]


@pytest.fixture
def submit_to(clients: ThreadPoolExecutor) -> Callable[[RunService], Future[RunOutcome]]:
    return lambda service: clients.submit(service.run, RunRequest())


def fill(service: RunService, project: ControlledProject, submit_to, workers: int, waiting: int):
    """Take every slot, then every waiting place, and return the runs' outcomes to come."""
    executing = [submit_to(service) for _ in range(workers)]
    for _ in executing:
        assert project.started.acquire(timeout=10)
    queued = []
    for number in range(waiting):
        queued.append(submit_to(service))
        while len(service._active) < workers + number + 1:
            pass
    return executing, queued


def test_run_is_refused_when_every_waiting_place_is_taken(project, submit_to) -> None:
    service = make_service(project, workers=2, max_waiting=3)
    executing, queued = fill(service, project, submit_to, 2, 3)
    with pytest.raises(ServerBusyError) as caught:
        service.run(RunRequest())
    assert caught.value.retry_after_s > 0
    project.may_end.set()
    outcomes = [each.result(10) for each in executing + queued]
    assert [each.status for each in outcomes] == ["success"] * 5
    assert service.run(RunRequest()).status == "success"


def test_no_waiting_place_at_all_still_runs(project, submit_to) -> None:
    service = make_service(project, workers=1, max_waiting=0)
    fill(service, project, submit_to, 1, 0)
    with pytest.raises(ServerBusyError):
        service.run(RunRequest())


def test_drain_lets_executing_runs_end_and_refuses_the_others(project, submit_to, clients) -> None:
    service = make_service(project, workers=1, max_waiting=2)
    executing, queued = fill(service, project, submit_to, 1, 2)
    drained = clients.submit(service.drain, 30)
    for each in queued:
        with pytest.raises(ServerStoppingError):
            each.result(10)
    with pytest.raises(ServerStoppingError):
        service.run(RunRequest())
    project.may_end.set()
    assert drained.result(10) is True
    assert executing[0].result(10).status == "success"


def test_drain_gives_up_what_does_not_end_in_time(project, submit_to) -> None:
    service = make_service(project, workers=1, max_waiting=0)
    executing, _ = fill(service, project, submit_to, 1, 0)
    assert service.drain(0.01) is False
    outcome = executing[0].result(10)
    assert outcome.status == "failure"
    assert outcome.error is not None
    assert outcome.error.type == "ServerStopped"


def test_drain_of_an_idle_service_is_immediate(project) -> None:
    assert make_service(project, workers=1, max_waiting=0).drain(0) is True


def test_fault_of_the_server_itself_reaches_who_waits(project, submit_to) -> None:
    project.fault = RuntimeError("a fault")
    project.may_end.set()
    service = make_service(project, workers=1, max_waiting=0)
    with pytest.raises(RuntimeError, match="a fault"):
        submit_to(service).result(10)
    project.fault = None
    assert service.run(RunRequest()).status == "success"
