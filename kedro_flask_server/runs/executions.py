"""The runs in hand at this server, and their slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kedro_flask_server.model.run import Run, RunOutcome
from kedro_flask_server.runs.lease import ServerLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A run that executes here; times are monotonic, in seconds."""

    run: Run
    server_id: str
    started_at: float
    ends_at: float | None
    timeout_s: float | None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.run_id

    @property
    def elapsed_ms(self) -> float:
        """How long it has executed, in milliseconds."""
        return round((time.monotonic() - self.started_at) * 1000, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecordedEnd:
    """The end of a run that could not be stored yet.

    Attributes:
        execution: The run.
        outcome: Its outcome.
        since: When it ended, by the monotonic clock, in seconds.
    """

    execution: Execution
    outcome: RunOutcome
    since: float


class Executions:
    """The runs that execute here, those whose end is not stored yet, and the slots. Thread-safe."""

    def __init__(
        self, slots: int, lease: ServerLease, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with free slots.

        Args:
            slots: How many runs may execute at a time.
            lease: Has to know whether runs execute.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._slots = slots
        self._lease = lease
        self._clock = clock
        self._changed = threading.Condition()
        self._reserved = 0
        self._executing: dict[str, Execution] = {}
        self._unrecorded: dict[str, UnrecordedEnd] = {}
        self.is_stopping = False
        """Whether runs start no more here."""

    def may_start(self) -> bool:
        """Return whether runs may start here, given a free slot."""
        return not self.is_stopping and self._lease.may_start()

    def has_free_slot(self) -> bool:
        """Return whether a run may start here now."""
        return len(self._executing) + self._reserved < self._slots and self.may_start()

    def reserve(self) -> bool:
        """Reserve a slot if a run may start now; return whether it is reserved."""
        with self._changed:
            is_free = self.has_free_slot()
            self._reserved += is_free
        return is_free

    def release(self) -> None:
        """Free a reserved slot."""
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def add(self, execution: Execution) -> None:
        """Add a run that will execute in a reserved slot."""
        with self._changed:
            self._executing[execution.run_id] = execution
            self._lease.set_executing(True)

    def remove(self, run_id: str) -> None:
        """Free the slot of a run."""
        with self._changed:
            self._executing.pop(run_id, None)
            self._lease.set_executing(bool(self._executing))
            self._changed.notify_all()

    def keep_unrecorded(self, execution: Execution, outcome: RunOutcome) -> None:
        """Keep the end of a run that could not be stored."""
        end = UnrecordedEnd(execution=execution, outcome=outcome, since=self._clock())
        with self._changed:
            self._unrecorded.setdefault(execution.run_id, end)

    def drop_unrecorded(self, run_id: str) -> None:
        """Drop the end of a run once it is stored."""
        with self._changed:
            self._unrecorded.pop(run_id, None)

    def executing(self) -> list[Execution]:
        """Return the runs that execute here."""
        with self._changed:
            return list(self._executing.values())

    def unrecorded(self) -> list[UnrecordedEnd]:
        """Return the ends that could not be stored yet."""
        with self._changed:
            return list(self._unrecorded.values())

    @property
    def executing_ids(self) -> set[str]:
        """The ids of the runs that execute here."""
        with self._changed:
            return set(self._executing)

    @property
    def in_hand(self) -> set[str]:
        """The ids of the runs that execute here, or whose end is not stored yet."""
        with self._changed:
            return {*self._executing, *self._unrecorded}

    def stop_starting(self) -> None:
        """Start no more runs."""
        self.is_stopping = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no run is in hand, and no slot reserved.

        Args:
            timeout_s: How many seconds to wait at most.

        Returns:
            Whether that happened in time.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._executing or self._reserved or self._unrecorded), timeout_s
            )
