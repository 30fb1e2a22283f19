"""The start and the end of a server's parts, and what it says of them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.waiters import Waiters
from tests.runs.fakes import HERE, SUCCESS, FakeLease, FakeStore, an_execution

AWAY = StoreUnavailableError("no route to host")


class Part:
    """A part that is started, stopped, and may have died."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.is_at_work = True

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")

    def is_alive(self) -> bool:
        return self.is_at_work


class FakeDispatcher(Part):
    """Gives runs up that still execute."""

    cut_off: tuple[str, ...] = ()

    def give_up(self) -> list[str]:
        self.log.append("give up")
        return [*self.cut_off]


class FakeExecutor:
    """Has the faults that the test says."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.own_faults: dict[str, str] = {}
        self.dead: list[str] = []

    def shutdown(self) -> None:
        self.log.append("shut executor down")

    def faults(self) -> dict[str, str]:
        return self.own_faults

    def dead_threads(self) -> list[str]:
        return self.dead

    def pipelines(self) -> list[str]:
        return ["train"]


class FakeServed(Part):
    """Has no calls."""

    def wait_until_idle(self, timeout_s: float) -> None:
        self.log.append("served idle")

    def close(self) -> None:
        self.log.append("close served")

    def dead_threads(self) -> list[str]:
        return [] if self.is_at_work else ["kedro-served-x"]


class RegisteredLease(FakeLease):
    """A lease that is taken and given back."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log
        self.error: Exception | None = None

    def register(self) -> None:
        self.log.append("register")
        if self.error is not None:
            raise self.error

    def unregister(self) -> None:
        self.log.append("unregister")


class FakeCompletion:
    """Stores the ends that were kept."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def retry(self) -> None:
        self.log.append("store ends")


@dataclass
class Parts:
    """A lifecycle with the parts that it starts and stops."""

    log: list[str] = field(default_factory=list)
    concurrency: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FakeStore()
        self.lease = RegisteredLease(self.log)
        self.executions = Executions(2, self.lease)
        self.executor = FakeExecutor(self.log)
        self.dispatcher = FakeDispatcher("dispatcher", self.log)
        self.recorder = Part("recorder", self.log)
        self.housekeeper = Part("housekeeper", self.log)
        self.served = FakeServed("served", self.log)
        self.waiters, self.event_waiters = Waiters(), Waiters()
        self.lifecycle = Lifecycle(
            self.store,
            self.executor,
            ServerConfig(project_path=Path(), concurrency=self.concurrency),
            lease=self.lease,
            executions=self.executions,
            completion=FakeCompletion(self.log),
            dispatcher=self.dispatcher,
            recorder=self.recorder,
            housekeeper=self.housekeeper,
            waiters=self.waiters,
            event_waiters=self.event_waiters,
            served=self.served,
        )


@pytest.fixture
def parts() -> Parts:
    return Parts()


STARTED = [
    "register",
    "start dispatcher",
    "start recorder",
    "start housekeeper",
    "start served",
]


def test_parts_start_once(parts: Parts) -> None:
    for _ in range(2):
        parts.lifecycle.start()
    assert parts.log == STARTED
    parts.lifecycle.drain(0)


def test_parts_start_though_the_store_is_away_and_the_faults_say_so(parts: Parts) -> None:
    parts.lease.error, parts.lease.server_id = AWAY, None
    parts.lifecycle.start()
    assert parts.log == STARTED
    assert parts.lifecycle.faults() == {"store": AWAY.reason}
    with pytest.raises(StoreUnavailableError, match=AWAY.reason):
        parts.lifecycle.server_id()
    parts.lifecycle.drain(0)


def test_nothing_starts_where_the_store_cannot_be_used_at_all(parts: Parts) -> None:
    parts.lease.error = ServerSettingsError("it is newer than this program")
    with pytest.raises(ServerSettingsError):
        parts.lifecycle.start()
    assert parts.lifecycle.faults() == {"store": "it is newer than this program"}
    assert "start dispatcher" not in parts.log


def test_first_who_asks_for_the_servers_id_starts_it(parts: Parts) -> None:
    assert parts.lifecycle.server_id() == HERE
    assert parts.log == STARTED
    parts.lifecycle.drain(0)


def test_healthy_server_has_no_faults_but_the_executors(parts: Parts) -> None:
    assert parts.lifecycle.faults() == {}
    parts.executor.own_faults = {"workers": "they die"}
    assert parts.lifecycle.faults() == {"workers": "they die"}
    parts.lifecycle.drain(0)


def test_pipeline_that_the_project_does_not_have_is_a_fault_of_the_settings() -> None:
    parts = Parts(concurrency={"trian": 1})
    parts.executor.own_faults = {"workers": "they die"}
    faults = parts.lifecycle.faults()
    assert [*faults] == ["settings", "workers"]
    assert "'trian'" in faults["settings"]
    parts.lifecycle.drain(0)


@pytest.mark.parametrize("name", ["dispatcher", "recorder", "housekeeper"])
def test_thread_that_has_ended_is_a_fault_until_the_server_stops(parts: Parts, name: str) -> None:
    assert parts.lifecycle.dead_threads() == []
    getattr(parts, name).is_at_work = False
    assert parts.lifecycle.dead_threads() == []  # it has not been started
    parts.lifecycle.start()
    parts.executor.dead = ["kedro-workers"]
    assert parts.lifecycle.dead_threads() == [f"kedro-{name}", "kedro-workers"]
    assert f"kedro-{name}, kedro-workers" in parts.lifecycle.faults()["threads"]
    parts.lifecycle.drain(0)
    assert parts.lifecycle.dead_threads() == []


def test_server_that_is_about_to_stop_says_so_and_still_works(parts: Parts) -> None:
    parts.lifecycle.start()
    parts.lifecycle.begin_to_stop()
    assert [*parts.lifecycle.faults()] == ["draining"]
    assert parts.lifecycle.server_id() == HERE
    assert not parts.lifecycle.is_stopping
    parts.lifecycle.drain(0)


def test_drain_ends_the_parts_in_their_order(parts: Parts) -> None:
    parts.lifecycle.start()
    parts.log.clear()
    assert parts.lifecycle.drain(0) is True
    assert parts.log == [
        "stop served",
        "stop dispatcher",
        "served idle",
        "close served",
        "shut executor down",
        "give up",
        "stop housekeeper",
        "stop recorder",
        "store ends",
        "unregister",
    ]
    assert parts.store.is_closed
    parts.log.clear()
    assert parts.lifecycle.drain(0) is True
    assert parts.log == []


def test_drain_of_what_never_started_ends_nothing_and_lets_nothing_start(parts: Parts) -> None:
    assert parts.lifecycle.drain(0) is True
    parts.lifecycle.start()
    assert (parts.log, parts.lifecycle.is_stopped) == ([], True)


def test_drain_wakes_all_who_wait(parts: Parts) -> None:
    parts.lifecycle.start()
    with parts.waiters.waiter("r1") as run, parts.event_waiters.waiter("r1") as events:
        parts.lifecycle.drain(0)
        assert run.wait(0) is events.wait(0) is True


def test_server_that_leaves_runs_behind_stays_registered_until_it_is_found_dead(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.lifecycle.start()
    parts.executions.add(an_execution("r1"))
    parts.dispatcher.cut_off = ("r1",)
    assert parts.lifecycle.drain(0) is False
    assert "unregister" not in parts.log
    assert "Run r1 is cut off" in caplog.text


def test_server_whose_ends_cannot_be_stored_stays_registered(parts: Parts) -> None:
    parts.lifecycle.start()
    parts.executions.keep_unrecorded(an_execution("r1"), SUCCESS)
    assert parts.lifecycle.drain(0) is False
    assert "unregister" not in parts.log
