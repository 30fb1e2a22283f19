"""Admits new runs: within limits, once for each idempotency key, at once where a slot is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from kedro_flask_server.config.settings import (
    REFUSE,
    ServerConfig,
    conflict_rule,
    priority_of,
    timeout_of,
)
from kedro_flask_server.errors import DatasetConflictError, KeyInUseError, UnknownRunError
from kedro_flask_server.model.retry_rule import rule_for
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.runs.access_planner import AccessPlanner
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.waiters import Waiter
from kedro_flask_server.store import AddedRun, NewRun, RunStore


class Admission:
    """Stores a new run and, where a slot is free, starts it; its decision is stored once."""

    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        planner: AccessPlanner,
        config: ServerConfig,
        *,
        ids: RunIds,
    ) -> None:
        """Prepare.

        Args:
            store: Stores the runs.
            dispatcher: Reserves slots, and starts runs.
            planner: Knows what runs read and write.
            config: ``workers``, ``max_queued``, ``idempotency_hours``, ``priorities``,
                ``queue_timeout_s`` and ``dataset_conflicts``.
            ids: Issues the ids of runs.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._planner = planner
        self._config = config
        self._refuses_conflicts = conflict_rule(config) == REFUSE
        self._ids = ids
        self._lock = threading.Lock()
        self._keys_in_use: set[tuple[str, str]] = set()

    def admit(
        self,
        submission: Submission,
        *,
        server_id: str,
        waiter: Waiter,
        is_held: bool,
    ) -> Run:
        """Store a run as queued or running, or find an earlier one with the same key.

        Args:
            submission: The run.
            server_id: This server.
            waiter: Attached to the run before that can end.
            is_held: Whether no other server may claim it.

        Returns:
            The run, stored.

        Raises:
            QuotaError: If the submitter has reached a quota.
            ServerBusyError: If the queue is full.
            DatasetConflictError: If another run is in the way of one that does not wait.
            KeyReusedError: If the key was used before, with another request.
            KeyInUseError: If a request with the key is being admitted now.
            RetryRefusedError: If it is a retry, and another run of its chain has not ended.
            StoreUnavailableError: If the store cannot be reached.
        """

        def next_id() -> str:
            run_id = self._ids.next()
            waiter.attach(run_id)
            return run_id

        request, key = submission.request, submission.key
        new = self._new_run(submission, server_id)
        with self._in_use(submission), self._dispatcher.slot() as may_start:
            # A process that is about to execute the run finds the rest in less time.
            must_be_whole = self._refuses_conflicts or not may_start
            locks = self._planner.plan(request, must_be_whole=must_be_whole)
            new = replace(new, is_held=is_held, may_start=may_start, locks=locks)
            added = self._add(new, next_id)
            if added.claimed is not None:
                has_started = self._dispatcher.execute(added.claimed, server_id)
                return added.run if has_started else self._get(added.run.run_id)
        run = added.run
        if run.status is RunStatus.QUEUED:
            self._dispatcher.wake()
        if key is None or run.status.is_final:
            return run
        waiter.attach(run.run_id)  # an earlier run may end at this moment
        return replace(self._get(run.run_id), is_replay=run.is_replay)

    def _new_run(self, submission: Submission, server_id: str) -> NewRun:
        config, pipelines = self._config, submission.request.pipelines
        priority = submission.priority
        return NewRun(
            submission=submission,
            server_id=server_id,
            is_held=False,
            key_hours=config.idempotency_hours,
            workers=config.workers,
            max_queued=config.max_queued,
            priority=priority_of(config, pipelines) if priority is None else priority,
            refuses_conflicts=self._refuses_conflicts,
            queue_timeout_s=timeout_of(config.queue_timeout_s, pipelines),
            retry_rule=rule_for(config.retries, pipelines),
        )

    def _add(self, new: NewRun, next_id: Callable[[], str]) -> AddedRun:
        try:
            return self._store.new_runs.add(new, next_id)
        except DatasetConflictError:
            # What is remembered of such runs may be out of date: their catalog may have changed.
            locks = self._planner.plan(new.request, anew=True)
            if locks == new.locks:
                raise
            return self._store.new_runs.add(replace(new, locks=locks), next_id)

    def _get(self, run_id: str) -> Run:
        run = self._store.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    @contextmanager
    def _in_use(self, submission: Submission) -> Iterator[None]:
        """Refuse a key whose first request is not stored yet."""
        key, name = submission.key, submission.submitter.name
        if key is None:
            yield
            return
        whose = (name, key)
        with self._lock:
            is_first = whose not in self._keys_in_use
            self._keys_in_use.add(whose)
        try:
            if not is_first and not self._store.has_key(key, name):
                raise KeyInUseError
            yield
        finally:
            if is_first:
                self._keys_in_use.discard(whose)
