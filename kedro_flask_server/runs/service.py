"""The interface to runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import (
    RunEndedError,
    ServerBusyError,
    ServerStoppingError,
    StoreUnavailableError,
    UnknownPipelineError,
    UnknownRunError,
)
from kedro_flask_server.model.labels import checked
from kedro_flask_server.model.queue_state import QueueState
from kedro_flask_server.model.retry import RetryOptions, RetryPlan
from kedro_flask_server.model.run import (
    ANONYMOUS,
    ErrorDetail,
    Run,
    RunFilter,
    RunRequest,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.runs.admission import Admission
from kedro_flask_server.runs.client_waits import ClientWaits, is_never, monotonic_end
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.history import RunHistory
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.retries import Retries
from kedro_flask_server.runs.served_pipeline import Call
from kedro_flask_server.runs.served_pipelines import ServedPipelines
from kedro_flask_server.runs.snapshot_cache import SnapshotCache
from kedro_flask_server.runs.waiters import Waiter, Waiters
from kedro_flask_server.store import RunStore

# In openapi.json.
_MAX_DESCRIBED = 200


class RunService(RunHistory):
    """Admits runs, has them executed in turn, and returns their state.

    Store and threads start with the first call that needs them. Methods that need the store raise
    `StoreUnavailableError` while it cannot be reached.
    """

    def __init__(
        self,
        store: RunStore,
        config: ServerConfig,
        *,
        lease: ServerLease,
        lifecycle: Lifecycle,
        admission: Admission,
        dispatcher: Dispatcher,
        waiting: ClientWaits,
        waiters: Waiters,
        event_waiters: Waiters,
        snapshots: SnapshotCache,
        retries: Retries,
        data: DataKeeper,
        served: ServedPipelines,
        pipelines: Callable[[], Sequence[str] | None],
    ) -> None:
        """Prepare; use `create_run_service`.

        Args:
            store: Stores the runs.
            config: The settings of the server.
            lease: Registers this server.
            lifecycle: The lifecycle of the executor and threads.
            admission: Stores new runs.
            dispatcher: Starts and stops runs.
            waiting: Limits waiting clients.
            waiters: The requests that wait for the end of runs.
            event_waiters: The requests that wait for events of runs.
            snapshots: Describes the project.
            retries: Plans retries.
            data: Keeps the data of runs.
            served: The pipelines that are served.
            pipelines: Returns the names of the project's pipelines; None while they are not known.
        """
        super().__init__(
            store,
            lifecycle=lifecycle,
            waiting=waiting,
            waiters=waiters,
            event_waiters=event_waiters,
        )
        self._config = config
        self._lease = lease
        self._admission = admission
        self._dispatcher = dispatcher
        self._snapshots = snapshots
        self._retries = retries
        self.data = data
        """Keeps the data of runs."""
        self.served = served
        """The pipelines that are served."""
        self._pipelines = pipelines

    def start(self) -> None:
        """Open the store and begin to execute queued runs, as `Lifecycle.start` does.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
        """
        self._lifecycle.start()

    def drain(self, timeout_s: float) -> bool:
        """Admit no more runs and let executing ones end.

        Queued runs stay queued, for the next start or another server; runs without a key that
        clients wait for here are cancelled. Runs that still execute after the timeout are recorded
        as failures, ``ServerStopped``: the process must end then.

        Args:
            timeout_s: How many seconds to wait for executing runs.

        Returns:
            Whether every run that had started here came to its own end.
        """
        return self._lifecycle.drain(timeout_s)

    def begin_to_stop(self) -> None:
        """Make `faults` report that the server is stopping; it still admits runs."""
        self._lifecycle.begin_to_stop()

    def faults(self) -> dict[str, str]:
        """Return why no runs can be admitted: fault by component; empty if they can."""
        return self._lifecycle.faults()

    def dead_threads(self) -> list[str]:
        """Return the names of required threads that have ended."""
        return self._lifecycle.dead_threads()

    def submit(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        key_stands_for: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        wait_s: float = 0,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> Run:
        """Admit a run, without the need to wait for its end.

        Args:
            request: What to run.
            key: An idempotency key: the same key and request again return the same run.
            key_stands_for: What was sent with the key, if that is not the request.
            priority: Its priority, from -100 to 100; by default that of its pipelines.
            labels: Its labels, as `model.labels.checked` returns them.
            wait_s: How many seconds to wait for its end, if a waiting slot is free.
            submitter: The caller who submits it; keys are unique per submitter.
            is_gone: Returns whether the client is gone, which frees its waiting slot.

        Returns:
            The run, stored, as last seen.

        Raises:
            QuotaError: If the submitter has reached a quota.
            ServerBusyError: If the queue is full.
            DatasetConflictError: If another run uses its datasets (``dataset_conflicts: refuse``).
            ServerStoppingError: If the server is stopping.
            KeyReusedError: If the key was used before, with another request.
            KeyInUseError: If a request with the key is being admitted now.
        """
        return self._submit(
            Submission(
                request=request,
                submitter=submitter,
                key=key,
                key_stands_for=key_stands_for,
                priority=priority,
                labels=labels or {},
            ),
            wait_s,
            is_gone,
        )

    def call(
        self,
        request: RunRequest,
        *,
        folder: str,
        labels: Mapping[str, str] | None = None,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> Call:
        """Have a served pipeline answer a call, in its own workers.

        Args:
            request: What to run: one pipeline, without saving.
            folder: The folder for what it returns.
            labels: Its labels.
            submitter: The caller.
            is_gone: Returns whether the client is gone, which stops the call.

        Returns:
            The call, ended.

        Raises:
            NotServedError: If its pipeline is not served.
            PipelineNotReadyError: If that is paused, or nothing is loaded.
            ServerBusyError: If too many calls wait.
            QuotaError: If the caller has reached a quota.
            ServerStoppingError: If the server is stopping.
        """
        self.start()
        if self._lifecycle.is_stopping:
            raise ServerStoppingError
        [name] = request.pipelines
        submission = Submission(request=request, submitter=submitter, labels=labels or {})
        return self.served.named(name).call(submission, folder=folder, is_gone=is_gone)

    def reload(
        self, pipeline: str, versions: Mapping[str, str], *, by: Submitter = ANONYMOUS
    ) -> dict[str, Any]:
        """Have a served pipeline load what is newest, or versions, on all servers.

        Args:
            pipeline: The pipeline.
            versions: The datasets, each with its version.
            by: The caller who asks for it.

        Returns:
            What is served, as JSON data.

        Raises:
            NotServedError: If it is not served.
            LoadFailedError: If that cannot be loaded; what was loaded before stays.
            NothingToLoadError: If there is nothing to load.
        """
        self._lifecycle.server_id()
        served = self.served.named(pipeline)
        served.reload(versions, by)
        return served.describe()

    def describe_data(self, request: RunRequest) -> dict[str, Any] | ErrorDetail:
        """Return what data the nodes of a request take and return, without running anything.

        Args:
            request: What to run; its pipelines, and what selects of their nodes.

        Returns:
            What `project.exchange.interface.describe_interface` says, or why that cannot be told.

        Raises:
            UnknownPipelineError: If the project has no such pipeline.
        """
        served = self.served.described(request)
        if served is not None:
            return served
        self._lifecycle.server_id()
        self.refuse_unknown(request)
        found = self.data.describe(request)
        if isinstance(found, ErrorDetail):  # by now they may be known
            self.refuse_unknown(request)
        return found

    def refuse_unknown(self, request: RunRequest) -> None:
        """Refuse a run of a pipeline that the project does not have.

        Raises:
            UnknownPipelineError: If it is one; while the pipelines are not known, it is not.
        """
        known = self._pipelines()
        for name in request.pipelines:
            if known is not None and name not in known:
                raise UnknownPipelineError(name, known)

    def pipeline_names(self) -> list[str]:
        """Return the names of the project's pipelines, sorted, as far as they are known."""
        return sorted(self._pipelines() or ())

    def described_pipelines(
        self, among: Collection[str] | None
    ) -> list[dict[str, Any] | ErrorDetail]:
        """Return what data pipelines take and return, each by itself.

        Args:
            among: The only pipelines to describe; None for all.
        """
        known = [name for name in self._pipelines() or () if among is None or name in among]
        requests = [RunRequest(pipeline_names=[name]) for name in sorted(known)]
        return self.data.describe_all(requests[:_MAX_DESCRIBED])

    def plan_retry(self, run_id: str, options: RetryOptions) -> RetryPlan:
        """Return what a retry of a run would run, and what stands in its way.

        Args:
            run_id: The run.
            options: How to retry it.

        Raises:
            UnknownRunError: If there is no such run.
        """
        self._lifecycle.server_id()
        return self._retries.plan(run_id, options)

    def retry(
        self,
        run_id: str,
        options: RetryOptions,
        *,
        key: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        wait_s: float = 0,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> tuple[Run, Mapping[str, Any] | None]:
        """Admit a run of what has not finished in another one.

        Args:
            run_id: The run to retry.
            options: How to retry it.
            key: As for `submit`: the same key, run and options return the same retry.
            priority: As for `submit`.
            labels: As for `submit`, beside those of the run.
            wait_s: As for `submit`.
            submitter: As for `submit`.
            is_gone: As for `submit`.

        Returns:
            The retry, and its plan (`RetryPlan.dump`).

        Raises:
            UnknownRunError: If there is no such run.
            RetryRefusedError: If something stands in the way that is not forced.
            LabelError: If the run and its retry have too many labels together.
        """
        self._lifecycle.server_id()
        sent = json.dumps([run_id, options.start, options.params, sorted(options.force)])
        submission = Submission(
            request=RunRequest(),
            submitter=submitter,
            key=key,
            key_stands_for=sent,
            priority=priority,
        )
        found = self._store.new_runs.sent_before(submission, self._config.idempotency_hours)
        if found is None:
            plan, place = self._retries.checked(run_id, options)
            assert plan.request is not None  # noqa: S101  it is checked
            inherited = self.get(run_id).labels
            submission = replace(
                submission,
                request=plan.request,
                labels=checked({**inherited, **(labels or {})}),
                retry_of=place,
            )
            found = self._submit(submission, wait_s, is_gone)
        return found, self.record(found.run_id).plan

    def _submit(self, submission: Submission, wait_s: float, is_gone: Callable[[], bool]) -> Run:
        with self._waiters.waiter() as waiter:
            run = self._admit(submission, waiter, is_held=False)
            if wait_s <= 0:
                return run
            with self._waiting.submitter_slot() as is_free:
                if not is_free:
                    return run
                ends_at = monotonic_end(wait_s)
                try:
                    seen = self._waiting.wait_for_admitted(run, waiter, ends_at, is_gone)
                except StoreUnavailableError:  # it is admitted nevertheless
                    return run
        return replace(seen, is_replay=run.is_replay)

    def run(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        key_stands_for: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> Run:
        """Admit a run, and wait for its end.

        Without a key, only this client knows the run: if the server stops before it starts, it is
        cancelled.

        Args:
            request: What to run.
            key: As for `submit`.
            key_stands_for: As for `submit`.
            priority: As for `submit`.
            labels: As for `submit`.
            timeout_s: How many seconds to wait at most; None for no limit.
            submitter: As for `submit`.
            is_gone: As for `submit`; the run goes on.

        Returns:
            The run as it was last seen. It may not have ended: the time is over, the client gone,
            its end cannot be stored, or another server executes it and this one stops.

        Raises:
            QuotaError: As for `submit`.
            ServerBusyError: If all waiting slots are taken, or the queue is full.
            DatasetConflictError: As for `submit`.
            ServerStoppingError: If the server stops before the run has started.
            KeyReusedError: As for `submit`.
            KeyInUseError: As for `submit`.
        """
        ends_at = monotonic_end(timeout_s)
        submission = Submission(
            request=request,
            submitter=submitter,
            key=key,
            key_stands_for=key_stands_for,
            priority=priority,
            labels=labels or {},
        )
        with self._waiting.submitter_slot() as is_free, self._waiters.waiter() as waiter:
            if not is_free:
                limit = self._config.workers + self._config.max_waiting
                raise ServerBusyError("runs", limit=limit, setting="max_waiting")
            run = self._admit(submission, waiter, is_held=key is None)
            is_replay = run.is_replay
            try:
                run = self._wait_as_submitter(run, waiter, ends_at, is_gone, is_held=key is None)
                if key is None and not run.status.is_final and not is_gone():
                    self._store.queue.release_hold(run.run_id)
            except StoreUnavailableError as error:  # it is admitted nevertheless
                self._lease.record_failure(error)
        return replace(run, is_replay=is_replay)

    def _admit(self, submission: Submission, waiter: Waiter, *, is_held: bool) -> Run:
        if self._lifecycle.is_stopping:
            raise ServerStoppingError
        server_id = self._lifecycle.server_id()
        try:
            return self._admission.admit(
                submission, server_id=server_id, waiter=waiter, is_held=is_held
            )
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
            raise

    def _wait_as_submitter(
        self,
        run: Run,
        waiter: Waiter,
        ends_at: float,
        is_gone: Callable[[], bool],
        *,
        is_held: bool,
    ) -> Run:
        """Wait for a submitted run; refuse it if this server stops before it has started."""
        while True:
            run = self._waiting.wait_for_admitted(run, waiter, ends_at, is_gone)
            if not (self._lifecycle.is_stopping and run.status is RunStatus.QUEUED):
                return run
            if not is_held or self._store.cancel_unclaimed(run.run_id):
                raise ServerStoppingError

    def cancel(self, run_id: str, *, by: Submitter = ANONYMOUS) -> Run:
        """Cancel a run; one that executes in a thread stops between two nodes.

        Args:
            run_id: The run.
            by: The caller who cancels it.

        Returns:
            The run as it is now.

        Raises:
            UnknownRunError: If there is no such run.
            RunEndedError: If it has ended otherwise.
        """
        self._lifecycle.server_id()
        run = self._store.request_cancel(run_id, by)
        if run is None:
            raise UnknownRunError(run_id)
        if run.status.is_final and run.status is not RunStatus.CANCELLED:
            raise RunEndedError(run_id, run.status)
        self._dispatcher.cancel(run_id)
        if run.status.is_final:
            self._waiters.wake(run_id)
            self._event_waiters.wake(run_id)
            self._dispatcher.wake()  # others may have waited for it
        return run

    def cancel_all(self, wanted: RunFilter, *, by: Submitter = ANONYMOUS) -> list[str]:
        """Cancel all active runs that match a filter, as `cancel` does.

        Args:
            wanted: Which runs: their states, pipeline and submitter, and `within`.
            by: The caller who cancels them.

        Returns:
            Their ids, the oldest first.
        """
        self._lifecycle.server_id()
        cancelled = self._store.queue_control.cancel(wanted, by)
        self._wake_for(cancelled)
        return cancelled

    def queue(self) -> QueueState:
        """Return the state of the queue."""
        self._lifecycle.server_id()
        return self._store.queue_control.state()

    def paused(self) -> frozenset[str]:
        """Return the paused pipelines; ``""`` stands for all."""
        self._lifecycle.server_id()
        return self._store.queue_control.paused()

    def pause(self, pipeline: str | None, *, by: Submitter = ANONYMOUS) -> QueueState:
        """Pause the queue: runs are admitted, and do not start.

        Args:
            pipeline: The pipeline whose runs are paused; None for all.
            by: The caller who pauses it.

        Returns:
            The queue as it is now.

        Raises:
            UnknownPipelineError: If the project has no such pipeline.
        """
        self._lifecycle.server_id()
        known = self._pipelines()
        if known is not None and pipeline is not None and pipeline not in known:
            raise UnknownPipelineError(pipeline, known)
        state = self._store.queue_control.pause(pipeline, by)
        self.served.forget_paused()
        return state

    def resume(self, pipeline: str | None, *, by: Submitter = ANONYMOUS) -> QueueState:
        """Resume what `pause` has paused, with the same arguments."""
        self._lifecycle.server_id()
        state = self._store.queue_control.resume(pipeline, by)
        self.served.forget_paused()
        self._dispatcher.wake()
        return state

    def _wake_for(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._dispatcher.cancel(run_id)
            self._waiters.wake(run_id)
            self._event_waiters.wake(run_id)
        self._dispatcher.wake()

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project, as for `Executor`; cached while its sources do not change.

        Raises:
            ServerStoppingError: If the server is stopping.
        """
        if self._lifecycle.is_stopping:
            raise ServerStoppingError
        self.start()
        return self._snapshots.get(params)
