"""Parts of a server that do what a test tells them, in place of those that need a database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from kedro_flask_server.model.run import Run, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.runs.executions import Execution
from kedro_flask_server.store import AddedRun, NewRun, PendingEvents

HERE = "here"
SUCCESS = RunOutcome(status=RunStatus.SUCCESS, duration_ms=1.5)


def a_run(run_id: str = "r1", status: RunStatus = RunStatus.RUNNING, **fields: Any) -> Run:
    given = {"project": "probe", "env": "local", "request": RunRequest(), **fields}
    created_at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return Run(run_id=run_id, status=status, created_at=created_at, **given)


def an_execution(run_id: str = "r1", *, ends_at: float | None = None) -> Execution:
    return Execution(
        run=a_run(run_id), server_id=HERE, started_at=0.0, ends_at=ends_at, timeout_s=None
    )


class FakeLease:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.is_valid = True
        self.executes: list[bool] = []
        self.failures: list[str] = []
        self.server_id: str | None = HERE
        self.fault: str | None = None

    def may_start(self) -> bool:
        return self.is_valid

    def set_executing(self, executes: bool) -> None:
        self.executes.append(executes)

    def record_failure(self, error: Any) -> None:
        self.failures.append(error.reason)
        self.fault = error.reason


class FakeEvents:
    """Takes the events of runs, fails with `fault`, or calls `on_add` first."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.on_add: Callable[[], object] = lambda: None
        self.batches: list[dict[str, PendingEvents]] = []
        self.asked = threading.Semaphore(0)

    def add(self, batch: dict[str, PendingEvents]) -> None:
        self.on_add()
        try:
            if self.fault is not None:
                raise self.fault
            self.batches.append(batch)
        finally:
            self.asked.release()

    def ids_of(self, run_id: str) -> list[int]:
        """Return the ids of the events of a run, as they were stored."""
        found = [batch[run_id].events for batch in self.batches if run_id in batch]
        return [event.id for events in found for event in events]


class FakeNewRuns:
    """Stores a new run as the test says."""

    def __init__(self) -> None:
        self.added: list[NewRun] = []
        self.add_one: Callable[[NewRun, str], AddedRun] = lambda new, run_id: AddedRun(
            run=a_run(run_id, RunStatus.QUEUED, request=new.request)
        )

    def add(self, new: NewRun, next_id: Callable[[], str]) -> AddedRun:
        self.added.append(new)
        return self.add_one(new, next_id())


class FakeServers:
    """The servers that a store knows; which are dead, the test says."""

    def __init__(self) -> None:
        self.known: dict[str, ServerProcess] = {}
        self.others: list[tuple[ServerProcess, bool]] = []
        self.in_hand: list[str] = []
        self.lost_runs: list[str] = []
        self.renewals = 0
        self.reaps = 0
        self.dead: list[str] = []
        self.has_lost = False
        self.fault: Exception | None = None

    def _fail(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    def register(self, server: ServerProcess, lease_s: float) -> None:
        self._fail()
        self.known[server.server_id] = server

    def renew(self, server_id: str, lease_s: float) -> bool:
        self._fail()
        self.renewals += 1
        return server_id in self.known

    def has_lost_lease(self, server_id: str, run_ids: Any) -> bool:
        return self.has_lost

    def register_again(self, server: ServerProcess, lease_s: float, in_hand: Any) -> list[str]:
        self.in_hand = [*in_hand]
        self.known[server.server_id] = server
        return self.lost_runs

    def reap(self, is_dead: Callable[[ServerProcess, bool], bool], *, by: str) -> list[str]:
        self._fail()
        self.reaps += 1
        known = [*((each, True) for each in self.known.values()), *self.others]
        self.dead = [server.server_id for server, is_over in known if is_dead(server, is_over)]
        return self.lost_runs

    def unregister(self, server_id: str) -> None:
        del self.known[server_id]


class FakeStore:
    """A store in memory. `fault` is raised where an end is to be stored."""

    def __init__(self) -> None:
        self.is_local = True
        self.generation = 0
        self.fault: Exception | None = None
        self.runs: dict[str, Run] = {}
        self.keys: set[tuple[str, str]] = set()
        self.finished: list[tuple[str, RunOutcome, PendingEvents]] = []
        self.has_other_end = False
        self.attempts = 0
        self.is_closed = False
        self.events = FakeEvents()
        self.new_runs = FakeNewRuns()
        self.servers = FakeServers()

    def open(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def get(self, run_id: str) -> Run | None:
        return self.runs.get(run_id)

    def has_key(self, key: str, submitter: str) -> bool:
        return (submitter, key) in self.keys

    def finish(self, run: Run, outcome: RunOutcome, pending: PendingEvents) -> Run | None:
        self.attempts += 1
        if self.fault is not None:
            raise self.fault
        if self.has_other_end or run.run_id not in self.runs:
            return None
        self.finished.append((run.run_id, outcome, pending))
        self.runs[run.run_id] = a_run(run.run_id, outcome.status)
        return self.runs[run.run_id]
