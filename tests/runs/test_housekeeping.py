"""What a server does from time to time, and that no failure keeps it from the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.housekeeping import Housekeeper
from kedro_flask_server.runs.waiters import Waiters
from tests.clocks import Clock
from tests.runs.fakes import HERE, FakeLease, an_execution

LONG_S = 10.0
AWAY = StoreUnavailableError("no route to host")


class Record:
    """Takes down which of its methods are called, one of which may fail, once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, Exception] = {}
        self._changed = threading.Condition()

    def note(self, name: str) -> None:
        with self._changed:
            self.calls.append(name)
            self._changed.notify_all()
        fault = self.faults.pop(name, None)
        if fault is not None:
            raise fault

    def wait_for(self, name: str, times: int) -> None:
        """Wait until it was called as many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls.count(name) >= times, LONG_S)


class FakeStore(Record):
    """Has runs that other servers have changed, and old runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: set[str] = set()
        self.cancelled: list[str] = []
        self.asked_for: set[str] = set()
        self.has_more = False
        self.limits: dict[str, float] = {}
        self.overdue: list[str] = []
        self.queue_control = self

    def end_overdue(self) -> list[str]:
        self.note("end_overdue")
        overdue, self.overdue = self.overdue, []
        return overdue

    def ended_among(self, run_ids: set[str]) -> list[str]:
        self.asked_for = set(run_ids)
        return sorted(self.ended & run_ids)

    def cancel_requests(self, server_id: str) -> list[str]:
        assert server_id == HERE
        self.note("cancel_requests")
        return self.cancelled

    def tidy(self) -> None:
        self.note("tidy")

    def purge(self, **limits: float) -> bool:
        self.limits = limits
        self.note("purge")
        has_more, self.has_more = self.has_more, False
        return has_more


class FakeDispatcher(Record):
    """Stops runs."""

    def stop_overdue(self) -> None:
        self.note("stop_overdue")

    def cancel(self, run_id: str) -> None:
        self.note(f"cancel {run_id}")

    def wake(self) -> None:
        self.note("wake")


class FakeCompletion(Record):
    """Stores ends again."""

    def retry(self) -> None:
        self.note("retry")


class NotedLease(FakeLease, Record):
    """A lease whose calls are taken down."""

    def __init__(self) -> None:
        FakeLease.__init__(self)
        Record.__init__(self)

    def renew_if_due(self) -> None:
        self.note("renew_if_due")

    def reap_dead_servers(self) -> None:
        self.note("reap_dead_servers")


class Task(Record):
    """The periodic work of another part."""

    purged_before: datetime | None = None

    def flush(self) -> None:
        self.note("flush")

    def purge(self, before: datetime) -> None:
        self.purged_before = before


@dataclass
class Parts:
    """A housekeeper with the parts around it."""

    store: FakeStore = field(default_factory=FakeStore)
    lease: NotedLease = field(default_factory=NotedLease)
    dispatcher: FakeDispatcher = field(default_factory=FakeDispatcher)
    completion: FakeCompletion = field(default_factory=FakeCompletion)
    waiters: Waiters = field(default_factory=Waiters)
    task: Task = field(default_factory=Task)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.executions = Executions(1, self.lease)
        self.housekeeper = Housekeeper(
            self.store,
            ServerConfig(project_path=Path(), keep_runs=5, keep_days=7, idempotency_hours=2),
            lease=self.lease,
            dispatcher=self.dispatcher,
            executions=self.executions,
            completion=self.completion,
            waiters=self.waiters,
            tasks=[self.task],
            clock=self.clock,
        )

    def rounds(self, number: int) -> None:
        """Wait until the tasks were flushed as many times more; what is before them was done."""
        self.task.wait_for("flush", self.task.calls.count("flush") + number)


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.housekeeper.stop()


@pytest.fixture
def started(parts: Parts) -> Parts:
    parts.housekeeper.start()
    return parts


def test_each_round_does_all_that_is_urgent(started: Parts) -> None:
    for times in (1, 2):
        started.dispatcher.wait_for("stop_overdue", times)
        started.completion.wait_for("retry", times)
        started.lease.wait_for("renew_if_due", times)
        started.task.wait_for("flush", times)
    assert started.housekeeper.is_alive()


def test_dead_servers_are_reaped_and_the_store_tidied_each_second(started: Parts) -> None:
    started.store.wait_for("tidy", 1)
    started.rounds(2)
    assert started.store.calls.count("tidy") == 1
    assert started.lease.calls.count("reap_dead_servers") == 1
    started.clock.advance(1)
    started.store.wait_for("tidy", 2)
    assert started.lease.calls.count("reap_dead_servers") == 2


def test_old_runs_are_deleted_each_minute_by_the_settings(started: Parts) -> None:
    started.store.wait_for("purge", 1)
    started.clock.advance(59)
    started.store.wait_for("tidy", 2)
    started.rounds(1)
    assert started.store.calls.count("purge") == 1
    started.clock.advance(1)
    started.store.wait_for("purge", 2)
    assert started.store.limits == {"keep_runs": 5, "keep_days": 7, "key_hours": 2}
    assert started.task.purged_before is not None
    age = datetime.now(timezone.utc) - started.task.purged_before
    assert timedelta(days=7) <= age < timedelta(days=7, minutes=1)


def test_old_runs_are_deleted_in_each_round_while_there_are_more(parts: Parts) -> None:
    parts.store.has_more = True
    parts.housekeeper.start()
    parts.store.wait_for("purge", 2)
    parts.rounds(2)
    assert parts.store.calls.count("purge") == 2


def test_runs_that_cannot_be_deleted_are_no_fault_of_the_store(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.store.faults["purge"] = AWAY
    parts.housekeeper.start()
    parts.store.wait_for("purge", 1)
    parts.rounds(1)
    assert "Old runs could not be deleted" in caplog.text
    assert parts.lease.failures == []


@pytest.mark.parametrize("fault", [AWAY, ServerSettingsError("it is newer")])
def test_store_that_cannot_be_used_is_recorded_and_tried_again(
    parts: Parts, fault: Exception
) -> None:
    parts.lease.faults["renew_if_due"] = fault
    parts.housekeeper.start()
    parts.rounds(1)
    assert parts.lease.failures == [getattr(fault, "reason", str(fault))]
    assert parts.housekeeper.is_alive()


def test_fault_of_its_own_does_not_end_it(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.completion.faults["retry"] = ZeroDivisionError()
    parts.housekeeper.start()
    parts.rounds(1)
    assert "could not be kept in order" in caplog.text
    assert "renew_if_due" in parts.lease.calls


def test_run_that_is_cancelled_elsewhere_is_stopped_here(parts: Parts) -> None:
    parts.executions.add(an_execution("r1"))
    parts.store.cancelled = ["r1"]
    parts.housekeeper.start()
    parts.rounds(1)
    assert "cancel r1" in parts.dispatcher.calls


def test_store_is_not_asked_who_is_cancelled_where_nothing_executes(started: Parts) -> None:
    started.rounds(1)
    assert "cancel_requests" not in started.store.calls


def test_those_who_wait_for_runs_that_ended_elsewhere_are_woken(parts: Parts) -> None:
    parts.executions.add(an_execution("here"))
    parts.store.ended = {"there", "here"}
    with (
        parts.waiters.waiter("there") as there,
        parts.waiters.waiter("here") as here,
        parts.waiters.waiter("queued") as queued,
    ):
        parts.housekeeper.start()
        parts.rounds(1)
        assert there.wait(LONG_S) is True
        assert (here.wait(0), queued.wait(0)) == (False, False)
    assert parts.store.asked_for >= {"there", "queued"}


@pytest.mark.parametrize("faults", [{}, {"flush": AWAY}])
def test_stop_stores_what_has_come_up_meanwhile(parts: Parts, faults: dict[str, Exception]) -> None:
    parts.task.faults = faults
    parts.housekeeper.stop()
    assert parts.task.calls == ["flush"]


def test_stop_ends_its_thread(started: Parts) -> None:
    assert started.housekeeper.is_alive()
    started.housekeeper.stop()
    assert not started.housekeeper.is_alive()
