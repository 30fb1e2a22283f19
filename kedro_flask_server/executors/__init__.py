"""Executors of runs. One test suite covers all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from kedro_flask_server.model.data_access import FoundAccess
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.retry import ChainPast, NextRun
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, StopReason
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import DatasetVersions, Loaded, Preload, ServedSettings
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest


class ServedWorkers(Protocol):
    """The workers of one generation of a served pipeline; each executes one call at a time."""

    def start(self) -> None:
        """Begin to load; it returns at once.

        Raises:
            ServerSettingsError: If the system refuses another thread or process.
        """

    def wait_until_loaded(self) -> Loaded:
        """Wait until all workers can execute calls.

        Returns:
            What they have loaded.

        Raises:
            NothingToLoadError: If a dataset is not there.
            LoadFailedError: If they cannot load, or `close` was called.
        """

    def execute(
        self,
        run_id: str,
        request: RunRequest,
        report: RunReport,
        data: RunData,
        *,
        stop: StopRequest,
        look: Callable[[], float],
    ) -> RunOutcome:
        """Execute a call in this thread's time, as soon as a worker is free.

        Args:
            run_id: The id of the call.
            request: What to run.
            report: Records what happens.
            data: Answers what the call asks about its data.
            stop: Stops the call, which ends a worker that does not stop.
            look: Called again and again, to ask `stop` where that is due; returns after how many
                seconds at the latest it is to be called again.
        """

    def fault(self) -> str | None:
        """Return why no call can be executed now; None if calls can."""

    def close(self) -> None:
        """End the workers, which execute no call any more."""


class Executor(Protocol):
    """Executes runs, as many at a time as it has slots.

    Executors differ in isolation and in how they stop runs, never in what a client sees.
    """

    def start(self) -> None:
        """Start, so that each claimed run finds a slot.

        Raises:
            ServerSettingsError: If the executor cannot start.
        """

    def submit(
        self, run_id: str, request: RunRequest, report: RunReport, data: RunData
    ) -> Future[RunOutcome]:
        """Execute a run.

        Args:
            run_id: The run's id.
            request: What to run.
            report: Records the run's events and log.
            data: Answers what the run asks about its data.

        Returns:
            The future outcome of the run; ``queued`` if another one is in the way of its data.

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

    def data_access(self, request: RunRequest) -> FoundAccess | None:
        """Return what a run would read and write, without running anything.

        Args:
            request: What to run.

        Returns:
            What is found; None where that fails, as the run would.
        """

    def describe_data(self, requests: Sequence[RunRequest]) -> list[dict[str, Any] | ErrorDetail]:
        """Return what data the nodes of requests take and return, without running anything.

        Args:
            requests: What would run.

        Returns:
            For each, what `project.exchange.interface` says, or why that cannot be told.
        """

    def dataset_versions(self, names: Sequence[str]) -> DatasetVersions | ErrorDetail:
        """Return what could be loaded for datasets now, or why that cannot be told.

        Args:
            names: The datasets.
        """

    def served_workers(self, preload: Preload, settings: ServedSettings) -> ServedWorkers:
        """Return the workers of a new generation of a served pipeline, not started.

        Args:
            preload: What they load.
            settings: The settings of the pipeline.
        """

    def plan_next_run(self, past: ChainPast) -> NextRun | ErrorDetail:
        """Return the next run of a chain of retries, without running anything.

        Args:
            past: What the chain has done.

        Returns:
            The next run, or why it cannot be told.
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
