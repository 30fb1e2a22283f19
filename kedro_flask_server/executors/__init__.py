"""Where runs execute. One suite of tests holds for all of them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, Snapshot, StopReason


class Executor(Protocol):
    """Executes runs, as many at a time as it has slots.

    Executors differ in isolation and force, never in what a client sees.
    """

    def start(self) -> None:
        """Get ready, so that a run which is taken up has a slot.

        Raises:
            ServerSettingsError: If that cannot be.
        """

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Have a run executed.

        Args:
            run_id: The run's id.
            request: What to run.
            report: Takes down what happens in it.

        Returns:
            The run's outcome, to come.

        Raises:
            RuntimeError: If the executor is closed, or the process is about to end.
        """

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Have a run stop; the first reason counts.

        Args:
            run_id: The run's id; one that does not execute here is left alone.
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
        """Have the runs that execute end unless this is called again in time.

        The server calls it, too, for its own process (`ServerLease`); this is for others.

        Args:
            seconds: After how long; None for never.
        """

    def dead_threads(self) -> list[str]:
        """Return the names of its threads that have ended, though it needs them to execute runs."""

    def faults(self) -> dict[str, str]:
        """Return why runs cannot be executed: what is at fault, and how; empty where they can."""

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines; None where they are not known now."""

    def stop_accepting(self) -> None:
        """Take no more runs; those that execute go on to their end."""

    def shutdown(self) -> None:
        """End what was started, the runs that execute included where that can be done."""
