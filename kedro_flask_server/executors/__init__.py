"""Executors of runs. One test suite covers all of them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, StopReason
from kedro_flask_server.model.snapshot import Snapshot


class Executor(Protocol):
    """Executes runs, as many at a time as it has slots.

    Executors differ in isolation and in how they stop runs, never in what a client sees.
    """

    def start(self) -> None:
        """Start, so that each claimed run finds a slot.

        Raises:
            ServerSettingsError: If the executor cannot start.
        """

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Execute a run.

        Args:
            run_id: The run's id.
            request: What to run.
            report: Records the run's events and log.

        Returns:
            The future outcome of the run.

        Raises:
            RuntimeError: If the executor is closed, or the process is exiting.
        """

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Stop a run; the first reason counts.

        Args:
            run_id: The run's id; ignored if it does not execute here.
            reason: Why.
            message: The same for a person.
        """

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        """Describe the project, without running anything.

        Args:
            params: Runtime parameters in the format of ``kedro run --params``.

        Returns:
            The snapshot, or why there is none.
        """

    def renew_lease(self, seconds: float | None) -> None:
        """End the executing runs unless the lease is renewed in time.

        This is for other processes; the server limits its own (`ServerLease`).

        Args:
            seconds: How long the lease lasts; None for ever.
        """

    def dead_threads(self) -> list[str]:
        """Return the names of required threads that have ended."""

    def faults(self) -> dict[str, str]:
        """Return why runs cannot be executed: fault by component; empty if they can."""

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines; None while they are not known."""

    def stop_accepting(self) -> None:
        """Refuse further runs; executing runs continue to their end."""

    def shutdown(self) -> None:
        """End what was started, including executing runs where possible."""
