"""The run service: limits, waits, ends, and the end of the server."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import (
    KeyReusedError,
    RunEndedError,
    ServerBusyError,
    ServerStoppingError,
    StoreUnavailableError,
    UnknownRunError,
)
from kedro_flask_server.executors.threads import ThreadExecutor
from kedro_flask_server.logs import LogWriter
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import (
    WHOLE,
    ErrorDetail,
    Progress,
    Run,
    RunFilter,
    RunOutcome,
    RunRequest,
    RunStatus,
)
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.runs.factory import create_run_service
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.store import (
    ClaimedRun,
    Database,
    NewRun,
    PendingEvents,
    RunStore,
    locate,
)
from kedro_flask_server.store.schema import runs, servers
from tests.servers import eventually


class ControlledProject:
    """Executes runs of two nodes; the first ends when the test says so."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.started = threading.Semaphore(0)
        self.fault: BaseException | None = None
        self.reports: dict[str, RunReport] = {}

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
        self.reports[run_id] = report
        self.started.release()
        while not self.may_end.wait(0.01):
            if stop.reason is not None:
                return stop.outcome(duration_ms=1.0)
        if self.fault:
            raise self.fault
        return RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.0)


@pytest.fixture
def project() -> ControlledProject:
    return ControlledProject()


@pytest.fixture
def clients(project: ControlledProject) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool
        project.may_end.set()


@pytest.fixture
def make_service(
    database_url: str, project: ControlledProject
) -> Iterator[Callable[..., RunService]]:
    made: list[RunService] = []

    def make(env: str = "local", *, writes_logs: bool = False, **settings) -> RunService:
        database = Database(locate(database_url, Path("/nowhere")))
        config = ServerConfig(project_path=Path(), **({"workers": 1} | settings))
        service = create_run_service(
            RunStore(database, project="probe", env=env),
            ThreadExecutor(
                project,  # type: ignore[arg-type]
                workers=config.workers,
                log_writer=LogWriter() if writes_logs else None,
            ),
            config,
        )
        made.append(service)
        service.start()
        return service

    yield make
    project.may_end.set()
    for service in made:
        service.drain(10)


def executing(service: RunService, project: ControlledProject) -> Run:
    """Submit a run, and wait until it executes."""
    run = service.submit(RunRequest())
    assert project.started.acquire(timeout=10)
    return run


def status_of(service: RunService, run: Run) -> RunStatus:
    return service.get(run.run_id).status


def queued(service: RunService) -> list[Run]:
    wanted = RunFilter(statuses=(RunStatus.QUEUED,))
    return service.page(wanted, limit=100).runs


def test_run_is_stored_before_it_is_answered_and_ended_before_who_waits_knows(
    make_service, project, clients
) -> None:
    service = make_service()
    waiting = clients.submit(service.run, RunRequest(tags=["x"]))
    assert project.started.acquire(timeout=10)
    [run] = service.page(RunFilter(), limit=10, include=WHOLE).runs
    assert (run.status, run.request.tags) == (RunStatus.RUNNING, ["x"])
    project.may_end.set()
    ended = waiting.result(10)
    assert ended.status is RunStatus.SUCCESS
    assert service.get(run.run_id) == ended


def test_waiting_requests_beyond_the_places_are_refused_and_leave_no_run(
    make_service, project, clients
) -> None:
    service = make_service(workers=1, max_waiting=2)
    waiting = [clients.submit(service.run, RunRequest()) for _ in range(3)]
    eventually(lambda: len(service.page(RunFilter(), limit=10).runs) == 3)
    with pytest.raises(ServerBusyError, match="max_waiting") as caught:
        service.run(RunRequest())
    assert caught.value.retry_after_s > 0
    accepted = service.submit(RunRequest())
    assert service.wait(accepted.run_id, 0.05).status is RunStatus.QUEUED
    assert len(service.page(RunFilter(), limit=10).runs) == 4
    project.may_end.set()
    assert {each.result(10).status for each in waiting} == {RunStatus.SUCCESS}
    assert service.run(RunRequest()).status is RunStatus.SUCCESS


def test_runs_beyond_max_queued_are_refused(make_service, project) -> None:
    service = make_service(max_queued=2)
    executing(service, project)
    for position in (1, 2):
        assert service.submit(RunRequest()).position == position
    with pytest.raises(ServerBusyError, match="max_queued"):
        service.submit(RunRequest())


def test_wait_ends_when_its_time_is_over(make_service, project) -> None:
    service = make_service()
    run = executing(service, project)
    assert service.wait(run.run_id, 0.05).status is RunStatus.RUNNING
    assert service.run(RunRequest(), timeout_s=0.05).status is RunStatus.QUEUED
    with pytest.raises(UnknownRunError):
        service.wait("2020-01-01T00.00.00.000Z", 1)


def test_key_gives_the_same_run_and_its_answer(make_service, project, clients) -> None:
    service = make_service()
    first = clients.submit(service.run, RunRequest(), key="k")
    assert project.started.acquire(timeout=10)
    second = clients.submit(service.run, RunRequest(), key="k")
    submitted = service.submit(RunRequest(), key="k")
    with pytest.raises(KeyReusedError):
        service.submit(RunRequest(tags=["x"]), key="k")
    project.may_end.set()
    assert first.result(10) == second.result(10) == service.run(RunRequest(), key="k")
    assert submitted.run_id == first.result().run_id


def test_cancel_of_a_queued_run_ends_it_and_tells_who_waits(make_service, project, clients) -> None:
    service = make_service()
    executing(service, project)
    waiting = clients.submit(service.run, RunRequest())
    eventually(lambda: queued(service))
    [run] = queued(service)
    assert service.cancel(run.run_id).status is RunStatus.CANCELLED
    told = waiting.result(10)
    assert (told.status, told.error and told.error.type) == (RunStatus.CANCELLED, "RunCancelled")
    assert service.cancel(run.run_id).status is RunStatus.CANCELLED


def test_cancel_of_an_executing_run_takes_effect_where_it_can(make_service, project) -> None:
    service = make_service()
    run = executing(service, project)
    assert service.cancel(run.run_id).cancel_requested_at is not None
    ended = service.wait(run.run_id, 10)
    assert (ended.status, ended.error and ended.error.type) == (
        RunStatus.CANCELLED,
        "RunCancelled",
    )
    with pytest.raises(UnknownRunError):
        service.cancel("2020-01-01T00.00.00.000Z")
    project.may_end.set()
    done = service.run(RunRequest())
    with pytest.raises(RunEndedError):
        service.cancel(done.run_id)


@pytest.mark.parametrize("limit", [0.1, {"train": 0.1, "x": 60.0}])
def test_run_that_takes_too_long_fails(make_service, project, limit) -> None:
    service = make_service(run_timeout_s=limit)
    ended = service.run(RunRequest(pipeline_names=["x", "train"]))
    assert ended.status is RunStatus.FAILURE
    assert ended.error is not None
    assert ended.error.type == "RunTimeout"
    assert "0.1 s" in ended.error.message


def test_fault_of_the_server_itself_is_a_failure(make_service, project) -> None:
    project.fault = RuntimeError("a fault")
    project.may_end.set()
    service = make_service()
    ended = service.run(RunRequest())
    assert ended.error is not None
    assert (ended.status, ended.error.type) == (RunStatus.FAILURE, "RuntimeError")
    project.fault = None
    assert service.run(RunRequest()).status is RunStatus.SUCCESS


def test_drain_lets_executing_runs_end_and_refuses_the_others(
    make_service, project, clients
) -> None:
    service = make_service()
    running = clients.submit(service.run, RunRequest())
    assert project.started.acquire(timeout=10)
    held = clients.submit(service.run, RunRequest())
    keyed = clients.submit(service.run, RunRequest(), key="k")
    watched = service.submit(RunRequest())
    watching = clients.submit(service.wait, watched.run_id, 60)
    eventually(lambda: len(queued(service)) == 3)

    drained = clients.submit(service.drain, 30)
    for each in (held, keyed):
        with pytest.raises(ServerStoppingError):
            each.result(10)
    assert watching.result(10).status is RunStatus.QUEUED
    with pytest.raises(ServerStoppingError):
        service.submit(RunRequest())
    assert "draining" in service.faults()
    project.may_end.set()
    assert drained.result(10) is True
    assert running.result(10).status is RunStatus.SUCCESS

    # What nobody waits for any more is cancelled; the rest waits for the next start.
    other = make_service()
    active = RunFilter(statuses=(RunStatus.QUEUED, RunStatus.RUNNING))
    eventually(lambda: not other.page(active, limit=10).runs)
    ended = Counter(run.status for run in other.page(RunFilter(), limit=10).runs)
    assert ended == {RunStatus.SUCCESS: 3, RunStatus.CANCELLED: 1}


def test_drain_records_what_does_not_end_in_time(make_service, project, clients) -> None:
    service = make_service()
    waiting = clients.submit(service.run, RunRequest())
    assert project.started.acquire(timeout=10)
    assert service.drain(0.01) is False
    ended = waiting.result(10)
    assert ended.error is not None
    assert (ended.status, ended.error.type) == (RunStatus.FAILURE, "ServerStopped")
    project.may_end.set()
    time.sleep(0.1)  # the time in which the late outcome could do harm
    assert make_service().get(ended.run_id).status is RunStatus.FAILURE


def test_drain_of_a_service_that_never_started_is_immediate(project, tmp_path: Path) -> None:
    store = RunStore(Database(locate(None, tmp_path / "state")), project="p", env="e")
    executor = ThreadExecutor(project, workers=1)
    service = create_run_service(store, executor, ServerConfig(project_path=Path()))
    assert service.drain(0) is True
    assert not (tmp_path / "state").exists()
    with pytest.raises(ServerStoppingError):
        service.run(RunRequest())


def test_two_servers_share_a_queue_and_their_limits(make_service, project, clients) -> None:
    servers = [make_service(workers=2, concurrency={"train": 1}) for _ in range(2)]
    train = RunRequest(pipeline_names=["train"])
    runs = [servers[0].submit(train) for _ in range(3)]
    waiting = [clients.submit(servers[1].wait, run.run_id, 60) for run in runs]
    others = [servers[0].submit(RunRequest()) for _ in range(3)]
    for _ in range(4):  # one of train, and all the others: one of them on the second server
        assert project.started.acquire(timeout=10)
    assert not project.started.acquire(timeout=0.7)
    assert [status_of(servers[1], run) for run in runs] == [
        RunStatus.RUNNING,
        RunStatus.QUEUED,
        RunStatus.QUEUED,
    ]
    # Cancelled at the one, while the other executes it.
    for run in others:
        for server in servers:
            server.cancel(run.run_id)
    eventually(lambda: {status_of(servers[0], run) for run in others} == {RunStatus.CANCELLED})
    project.may_end.set()
    assert {each.result(10).status for each in waiting} == {RunStatus.SUCCESS}


def test_plain_run_executes_where_its_client_waits(make_service, project, clients) -> None:
    first, second = make_service(), make_service()
    executing(first, project)
    held = clients.submit(first.run, RunRequest())
    eventually(lambda: queued(second) or project.started.acquire(blocking=False))
    assert not project.started.acquire(timeout=0.7)
    assert len(queued(second)) == 1
    project.may_end.set()
    assert held.result(10).status is RunStatus.SUCCESS


def test_wait_that_became_too_long_lets_others_take_up_the_run(make_service, project) -> None:
    first, second = make_service(), make_service()
    executing(first, project)
    left = first.run(RunRequest(), timeout_s=0.05)
    assert left.status is RunStatus.QUEUED
    assert project.started.acquire(timeout=10)
    assert status_of(second, left) is RunStatus.RUNNING


def test_start_finds_what_a_dead_server_left(make_service, database_url, project) -> None:
    store = RunStore(Database(locate(database_url, Path())), project="probe", env="local")
    store.open()
    dead = replace(ServerProcess.this(), pid=2**22 + 1)
    store.servers.register(dead, lease_s=60)
    ids = RunIds()

    def add(*, is_held: bool) -> Run:
        new = NewRun(
            submission=Submission(request=RunRequest()),
            server_id=dead.server_id,
            is_held=is_held,
            workers=1,
            max_queued=10,
        )
        return store.new_runs.add(new, ids.next).run

    running = add(is_held=False)
    assert store.queue.claim(dead.server_id) is not None
    queued_run, held = add(is_held=False), add(is_held=True)
    store.close()

    project.may_end.set()
    service = make_service()
    assert status_of(service, running) is RunStatus.LOST
    assert status_of(service, held) is RunStatus.CANCELLED
    assert service.wait(queued_run.run_id, 10).status is RunStatus.SUCCESS


@pytest.mark.parametrize("is_run_kept", [True, False])
def test_server_that_its_store_has_forgotten_goes_on(
    make_service, project, clients, database_url: str, is_run_kept: bool
) -> None:
    service = make_service(lease_s=3)
    waiting = clients.submit(service.run, RunRequest())
    assert project.started.acquire(timeout=10)
    left = RunStore(Database(locate(database_url, Path())), project="probe", env="local")
    left.open()
    with left._database.writing() as connection:
        # As a database is that was restored: without the server; with a run that has ended since.
        connection.execute(sqlalchemy.delete(servers))
        if not is_run_kept:
            connection.execute(sqlalchemy.delete(runs))
    eventually(lambda: known_servers(left), timeout_s=20)
    project.may_end.set()
    ended = waiting.result(20)
    assert ended.status is RunStatus.SUCCESS
    found = left.get(ended.run_id)
    assert found == (ended if is_run_kept else None)
    assert service.submit(RunRequest(), wait_s=20).status is RunStatus.SUCCESS
    left.close()


def known_servers(store: RunStore) -> list[str]:
    with store._database.reading() as connection:
        return list(connection.execute(sqlalchemy.select(servers.c.server_id)).scalars())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "name", ["kedro-dispatcher", "kedro-recorder", "kedro-housekeeper", "kedro-log-writer"]
)
def test_thread_that_ends_before_the_server_is_told(
    make_service, project, database_url: str, name: str
) -> None:
    service = make_service(writes_logs=True)
    assert service.dead_threads() == []
    project.may_end.set()
    end_thread(name)
    while not service.dead_threads():
        service.submit(RunRequest())  # which wakes them
        logging.getLogger("probe").warning("so does this")
        time.sleep(0.05)
    assert service.dead_threads() == [name]
    assert name in service.faults()["threads"]
    service.drain(10)
    assert service.dead_threads() == []


def end_thread(name: str) -> None:
    """Have a thread end as by an error that nothing handles."""
    [thread] = [each for each in threading.enumerate() if each.name == name]
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_exception(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)) == 1


class StoreThatForgetsToAnswer(RunStore):
    """Does what it is told, and at times has the answer lost."""

    is_deaf = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        claim = self.queue.claim

        def claim_and_forget(*args) -> ClaimedRun | None:
            claimed = claim(*args)
            if claimed is not None and self.is_deaf:
                self.is_deaf = False
                raise StoreUnavailableError("the answer was lost")
            return claimed

        self.queue.claim = claim_and_forget  # type: ignore[method-assign]

    def finish(self, *args, **kwargs) -> bool:
        is_stored = super().finish(*args, **kwargs)
        if self.is_deaf:
            self.is_deaf = False
            raise StoreUnavailableError("the answer was lost")
        return is_stored


class StoreThatIsFull(RunStore):
    """Stores no ends, for as long as it is full."""

    is_full = False
    refused = 0
    fault: Exception = StoreUnavailableError("the disk is full")

    def finish(self, *args, **kwargs) -> bool:
        if self.is_full:
            self.refused += 1
            raise self.fault
        return super().finish(*args, **kwargs)


@pytest.fixture
def full(tmp_path: Path, project: ControlledProject) -> Iterator[RunService]:
    yield from serve(StoreThatIsFull, tmp_path, project)


@pytest.fixture
def deaf(tmp_path: Path, project: ControlledProject) -> Iterator[RunService]:
    yield from serve(StoreThatForgetsToAnswer, tmp_path, project)


def serve(
    store_class: type[RunStore], tmp_path: Path, project: ControlledProject
) -> Iterator[RunService]:
    database = Database(locate(None, tmp_path / "state"))
    store = store_class(database, project="probe", env="local")
    service = create_run_service(
        store,
        ThreadExecutor(project, workers=1),  # type: ignore[arg-type]
        ServerConfig(project_path=Path(), workers=1),
    )
    service.start()
    yield service
    project.may_end.set()
    service.drain(10)


@pytest.mark.once
def test_run_is_not_left_running_when_the_stores_answer_is_lost(deaf, project) -> None:
    project.may_end.set()
    deaf._store.is_deaf = True  # when it is taken up
    run = deaf.submit(RunRequest())
    assert deaf.wait(run.run_id, 20).status is RunStatus.SUCCESS
    assert project.started.acquire(timeout=1)
    assert not project.started.acquire(timeout=0.1)


def test_end_that_cannot_be_stored_at_once_is_stored_when_it_can(deaf, project, clients) -> None:
    waiting: Future[Run] = clients.submit(deaf.run, RunRequest())
    assert project.started.acquire(timeout=10)
    deaf._store.is_deaf = True  # when it has ended
    project.may_end.set()
    assert waiting.result(10).status is RunStatus.SUCCESS


@pytest.mark.parametrize("fault", [StoreUnavailableError("the disk is full"), ValueError("a bug")])
@pytest.mark.once
def test_who_waits_is_told_of_the_run_when_its_end_cannot_be_stored(
    full, project, clients, fault
) -> None:
    full._store.is_full, full._store.fault = True, fault
    waiting = clients.submit(full.run, RunRequest())
    assert project.started.acquire(timeout=10)
    watching = clients.submit(full.wait, full.page(RunFilter(), limit=1).runs[0].run_id, 60)
    ended_at = time.monotonic()
    project.may_end.set()
    told = waiting.result(10)
    assert time.monotonic() - ended_at < 5
    assert told.status is watching.result(10).status is RunStatus.RUNNING
    second = full.submit(RunRequest())  # the slot is free again
    assert project.started.acquire(timeout=10)
    full._store.is_full = False
    assert full.wait(told.run_id, 10).status is RunStatus.SUCCESS
    assert full.wait(second.run_id, 10).status is RunStatus.SUCCESS


@pytest.mark.parametrize(("is_full", "status"), [(False, "success"), (True, "lost")])
def test_drain_stores_the_ends_that_it_can_and_leaves_the_rest_to_be_found(
    full, project, tmp_path: Path, is_full: bool, status: str
) -> None:
    full._store.is_full = True
    run = full.submit(RunRequest())
    project.may_end.set()
    eventually(lambda: full._store.refused)
    if not is_full:
        threading.Timer(0.3, setattr, (full._store, "is_full", False)).start()
    assert full.drain(0.2 if is_full else 5) is not is_full
    database = Database(locate(None, tmp_path / "state"))
    store = RunStore(database, project="probe", env="local")
    assert store.servers.reap(lambda *_: True) == ([run.run_id] if is_full else [])
    found = store.get(run.run_id)
    assert found is not None
    assert found.status == status
    database.close()


def test_errors_of_runs_are_kept_whole(make_service, project) -> None:
    error = ErrorDetail(type="E", message="\ud800\0", node="n", traceback="t" * 16_000)
    project.may_end.set()
    project.execute = lambda *_: RunOutcome(  # type: ignore[method-assign]
        status=RunStatus.FAILURE, duration_ms=1.0, error=error
    )
    assert make_service().run(RunRequest()).error == error


def types(service: RunService, run_id: str) -> list[str]:
    return [event.type for event in service.events(run_id).events]


def test_events_are_seen_within_a_second_at_every_server(make_service, project) -> None:
    here, elsewhere = make_service(), make_service()
    run_id = executing(here, project).run_id
    after = here.events(run_id).next
    assert after == 2
    project.reports[run_id].expect(3)
    took_s = []
    for number in range(1, 4):
        began = time.monotonic()
        project.reports[run_id].emit(EventType.NODE_FINISHED, {"node": "n"})
        [seen_elsewhere] = elsewhere.events(run_id, after=after, wait_s=5).events
        [seen] = here.events(run_id, after=after, wait_s=5).events
        took_s.append(time.monotonic() - began)
        assert seen == seen_elsewhere
        assert seen.data == {"node": "n", "done": number, "total": 3}
        assert here.get(run_id).progress == Progress(done=number, total=3)
        after = seen.id
    assert min(took_s) < 1.5  # whatever else this machine does
    assert here.events(run_id, after=after, wait_s=0.01).events == []
    project.may_end.set()
    last = here.events(run_id, after=after, wait_s=5)
    assert ([event.type for event in last.events], last.next) == (["run.finished"], None)


def test_events_that_cannot_be_stored_now_are_stored_later_in_their_order(
    make_service, project
) -> None:
    service = make_service()
    run_id = executing(service, project).run_id
    store = service._store
    healthy = store.events.add
    fails = threading.Semaphore(0)

    def fail(told: object) -> None:
        fails.release()
        raise StoreUnavailableError("away")

    store.events.add = fail
    report = project.reports[run_id]
    for number in range(3):
        report.emit(EventType.NODE_STARTED, {"number": number})
        assert fails.acquire(timeout=5)
    assert types(service, run_id) == ["run.queued", "run.started"]
    store.events.add = healthy
    eventually(lambda: len(types(service, run_id)) == 5)
    store.events.add = fail
    report.emit(EventType.NODE_STARTED, {"number": 3})
    assert fails.acquire(timeout=5)
    project.may_end.set()
    service.wait(run_id, 10)
    found = service.events(run_id).events
    assert [event.data["number"] for event in found if event.type == "node.started"] == [0, 1, 2, 3]
    assert [event.id for event in found] == list(range(1, 8))
    assert found[-1].type == "run.finished"


def test_what_a_run_tells_after_its_end_is_not_stored(make_service, project) -> None:
    service = make_service()
    run_id = executing(service, project).run_id
    project.may_end.set()
    service.wait(run_id, 10)
    project.reports[run_id].emit(EventType.NODE_STARTED, {"node": "late"})
    service.drain(10)
    assert types(make_service(), run_id) == ["run.queued", "run.started", "run.finished"]


def test_no_run_makes_more_commits_than_one_in_a_fifth_of_a_second(make_service, project) -> None:
    service = make_service()
    run_id = executing(service, project).run_id
    store = service._store
    healthy, batches = store.events.add, []

    def add(told: dict[str, PendingEvents]) -> None:
        batches.append(len(told[run_id].events))
        healthy(told)

    store.events.add = add
    began = time.monotonic()
    for number in range(2000):
        project.reports[run_id].emit(EventType.NODE_STARTED, {"number": number})
    project.may_end.set()
    service.wait(run_id, 10)
    assert len(batches) <= 1 + (time.monotonic() - began) / 0.2
    found = service.events(run_id, after=2, limit=3000).events
    assert [event.data["number"] for event in found[:-1]] == list(range(2000))


def test_who_waits_for_events_of_a_stopped_server_is_told(make_service, project, clients) -> None:
    service = make_service()
    run = service.submit(RunRequest())
    assert project.started.acquire(timeout=10)
    waiting = clients.submit(service.events, run.run_id, after=2, wait_s=30)
    service.drain(0)
    with contextlib.suppress(ServerStoppingError):  # the end may have been first
        assert waiting.result(5).events[-1].type == "run.finished"


def test_unknown_run_has_no_events(make_service) -> None:
    with pytest.raises(UnknownRunError):
        make_service().events("2020-01-01T00.00.00.000Z")


def test_what_is_told_while_the_end_is_being_stored_makes_no_gap(make_service, project) -> None:
    service = make_service()
    run_id = executing(service, project).run_id
    report, finish = project.reports[run_id], service._store.finish

    numbers = itertools.count(3)

    def finish_slowly(*args: Any) -> bool:  # called again where a busy database did not store it
        for number in itertools.islice(numbers, 3):  # longer than the recorder waits in between
            report.emit(EventType.NODE_STARTED, {"number": number})
            time.sleep(0.2)
        return finish(*args)

    service._store.finish = finish_slowly
    for number in range(3):
        report.emit(EventType.NODE_STARTED, {"number": number})
    project.may_end.set()
    service.wait(run_id, 10)
    found = service.events(run_id).events
    assert [event.id for event in found] == list(range(1, len(found) + 1))
    assert [event.data["number"] for event in found[2:-1]] == list(range(len(found) - 3))
    assert found[-1].type == "run.finished"


def test_run_that_is_cut_off_ends_with_its_last_numbers(make_service, project) -> None:
    service = make_service()
    run_id = executing(service, project).run_id
    project.reports[run_id].expect(3)
    project.reports[run_id].emit(EventType.NODE_FINISHED, {})
    assert service.drain(0) is False
    other = make_service()
    assert other.get(run_id).progress == Progress(done=1, total=3)
    last = other.events(run_id).events[-1].data
    assert (last["error"]["type"], last["done"], last["total"]) == ("ServerStopped", 1, 3)
