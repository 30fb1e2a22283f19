"""The pool gives workers to runs, one to each, and says why where there are none.

The test is the template: the handles are real, and no process is behind them.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kedro_flask_server.errors import NOT_LOADED
from kedro_flask_server.model.run import StopReason
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.workers.handles import TemplateHandle, WorkerHandle
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool
from kedro_flask_server.workers.protocol import Channel
from tests.servers import eventually
from tests.workers.fakes import SETTINGS

LONG_S = 10.0

# Above every process id that there can be.
NO_PID = 2**22 + 1


class NoProcess:
    """What stands for a template's process, which lives as long as the test."""

    pid = NO_PID

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        return 0


class PlayedTemplate:
    """The other end of a template, and of the workers that it is told to start."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.handle = TemplateHandle(Channel(ours), NoProcess(), "no origin")  # type: ignore[arg-type]
        self._channel = Channel(theirs)
        theirs.settimeout(LONG_S)
        self._messages: list[Any] = []
        self._workers: list[Channel] = []
        self._descriptors: list[int] = []

    def get_ready(self, *, is_loaded: bool = True, start_method: str = "fork") -> None:
        told = {"is_loaded": is_loaded, "pipelines": ["train"] if is_loaded else None}
        self._channel.send("ready", {**told, "start_method": start_method})

    def told(self) -> tuple[str, dict[str, Any]]:
        """Return the next message that it gets."""
        while not self._messages:
            self._messages += self._channel.receive()
        message: tuple[str, dict[str, Any]] = self._messages.pop(0)
        return message

    def start_worker(self) -> Channel:
        """Start the next worker that it is told to start, and return the worker's channel."""
        kind, _ = self.told()
        assert kind == "start"
        [channel, *others] = self._channel.descriptors[:3]
        del self._channel.descriptors[:3]
        self._descriptors += others
        worker = Channel.of(channel)
        self._workers.append(worker)
        return worker

    def start_ready_worker(self) -> Channel:
        worker = self.start_worker()
        worker.send("ready", {"pid": NO_PID})
        return worker

    def close(self) -> None:
        for channel in (self._channel, *self._workers):
            channel.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


@pytest.fixture
def template() -> Iterator[PlayedTemplate]:
    made = PlayedTemplate()
    yield made
    made.close()


@pytest.fixture
def pool(template: PlayedTemplate) -> Iterator[WorkerPool]:
    made = WorkerPool(SETTINGS, size=1, secrets=set(), template=template.handle)
    made.start()
    yield made
    made.close()


@pytest.fixture
def clients(pool: WorkerPool) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads
        pool.close()  # which ends all waits


def acquired(pool: WorkerPool) -> WorkerHandle:
    worker = pool.acquire(StopRequest())
    assert worker is not None
    return worker


def test_run_gets_a_worker_when_one_is_ready(pool, template, clients) -> None:
    waiting = clients.submit(acquired, pool)
    worker = template.start_worker()
    assert not waiting.done()
    worker.send("ready", {"pid": NO_PID})
    handle = waiting.result(LONG_S)
    assert (handle.pid, handle.template) == (NO_PID, template.handle)
    pool.discard(handle)


def test_worker_is_given_to_one_run_at_a_time(pool, template, clients) -> None:
    template.start_ready_worker()
    first = acquired(pool)
    waiting = clients.submit(acquired, pool)
    pool.return_worker(first)
    assert waiting.result(LONG_S) is first
    pool.discard(first)


def test_worker_that_is_discarded_is_replaced_by_another(pool, template) -> None:
    template.start_ready_worker()
    first = acquired(pool)
    pool.discard(first)
    assert first.channel.fileno() == -1
    template.start_ready_worker()
    second = acquired(pool)
    assert second.number == first.number + 1
    pool.discard(second)


def test_no_more_workers_are_started_than_are_wanted(pool, template) -> None:
    template.start_ready_worker()
    first = acquired(pool)
    pool.resize(1)
    template.start_ready_worker()
    second = acquired(pool)
    pool.stop(first, 1.0)
    assert template.told() == ("stop", {"number": first.number, "grace_s": 1.0})
    for each in (first, second):
        pool.discard(each)


def test_run_that_is_stopped_waits_for_no_worker(pool, clients) -> None:
    stop = StopRequest()
    waiting = clients.submit(pool.acquire, stop)
    stop.ask(StopReason.CANCEL, "no")
    pool.wake()
    assert waiting.result(LONG_S) is None


def test_server_that_stops_ends_the_wait_for_a_worker(pool, clients) -> None:
    waiting = clients.submit(pool.acquire, StopRequest())
    pool.close()
    with pytest.raises(NoWorkerError, match="stops"):
        waiting.result(LONG_S)


class WatchedStopRequest(StopRequest):
    """Tells when somebody looks whether to stop, as those do that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_looked_at = threading.Event()

    @property
    def reason(self) -> StopReason | None:
        self.is_looked_at.set()
        return super().reason


def test_run_waits_for_no_more_workers_when_three_have_failed(pool, template, clients) -> None:
    stop = WatchedStopRequest()
    waiting = clients.submit(pool.acquire, stop)
    assert stop.is_looked_at.wait(LONG_S)
    for _ in range(3):
        assert not waiting.done()
        template.start_worker().send("ended", {"code": 3})
    with pytest.raises(NoWorkerError, match=r"ended: exit code 3\."):
        waiting.result(LONG_S)
    fault = pool.faults()["workers"]
    assert "exit code 3" in fault
    assert "The next is started in" in fault


def test_stop_of_a_worker_whose_template_is_gone_is_none(pool, template) -> None:
    template.start_ready_worker()
    worker = acquired(pool)
    worker.template = PlayedTemplate().handle
    worker.template.control.close()
    pool.stop(worker, 1.0)
    pool.discard(worker)


def test_worker_of_a_template_that_was_replaced_is_not_kept(pool, template) -> None:
    template.start_ready_worker()
    worker = acquired(pool)
    other = PlayedTemplate()
    worker.template = other.handle
    assert not pool.is_current(worker)
    pool.return_worker(worker)
    assert worker.channel.fileno() == -1
    other.handle.control.close()
    other.close()


def test_pool_says_what_it_lacks_until_its_workers_can_run_the_project(pool, template) -> None:
    assert pool.faults() == {"workers": "The worker processes are being started."}
    assert pool.pipelines is None
    template.get_ready(is_loaded=False)
    eventually(lambda: pool.faults() == {"pipelines": NOT_LOADED})
    template.get_ready()
    eventually(lambda: pool.faults() == {})
    assert pool.pipelines == ["train"]


def test_pool_whose_thread_has_ended_says_so(pool) -> None:
    assert pool.is_alive()
    pool.close()
    assert not pool.is_alive()
    assert "start it again" in pool.faults()["workers"]


def test_lease_goes_to_the_template_when_it_is_ready(pool, template) -> None:
    template.start_worker()
    pool.renew_lease(60)
    template.get_ready()
    kind, body = template.told()
    assert kind == "lease"
    assert 0 < body["seconds"] <= 60
    pool.renew_lease(None)
    assert template.told() == ("lease", {"seconds": None})


def test_template_reads_what_a_run_had_to_read(pool, template) -> None:
    template.start_worker()
    template.get_ready()
    eventually(lambda: pool.faults() == {})
    pool.record_findings(is_loaded=True, read_with=["lr"])
    assert template.told() == ("read", {"params": ["lr"]})


def test_what_runs_find_is_nothing_to_a_template_that_is_not_ready(pool, template) -> None:
    template.start_worker()
    pool.record_findings(is_loaded=True, read_with=["lr"])
    pool.renew_lease(60)
    template.get_ready()
    assert template.told()[0] == "lease"  # and no "read" before it


def test_worker_that_could_not_load_what_it_serves_gets_no_call(pool, template, clients) -> None:
    prepared = {"pid": NO_PID, "preparation": {"missing": None, "error": None}}
    first = clients.submit(pool.wait_until_ready)
    template.start_worker().send("ready", prepared)
    [served] = first.result(LONG_S)
    assert acquired(pool) is served
    pool.discard(served)
    waiting = clients.submit(acquired, pool)
    unprepared = {"pid": NO_PID, "preparation": {"missing": "model", "error": None}}
    template.start_worker().send("ready", unprepared)
    template.start_worker().send("ready", prepared)  # after a pause
    handle = waiting.result(LONG_S)
    assert handle.preparation == prepared["preparation"]
    assert pool.why_down() is None
    pool.discard(handle)


def test_generation_is_ready_with_all_of_its_workers_or_one_that_could_not_load(
    pool, template, clients
) -> None:
    waiting = clients.submit(pool.wait_until_ready)
    error = {"type": "DatasetError", "message": "no pickle"}
    template.start_worker().send(
        "ready", {"pid": NO_PID, "preparation": {"missing": None, "error": error}}
    )
    [worker] = waiting.result(LONG_S)
    assert worker.preparation is not None
    assert worker.preparation["error"] == error


def test_pool_that_is_closed_has_nothing_open() -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    for _ in range(3):
        template = PlayedTemplate()
        pool = WorkerPool(SETTINGS, size=1, secrets=set(), template=template.handle)
        pool.start()
        template.start_worker()
        pool.close()
        template.close()
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
