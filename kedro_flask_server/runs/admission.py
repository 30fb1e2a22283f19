"""Admits new runs: within limits, once for each idempotency key, at once where a slot is free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import KeyInUseError, UnknownRunError
from kedro_flask_server.model.run import Run, RunRequest, RunStatus, Submitter
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.waiters import Waiter
from kedro_flask_server.store import NewRun, RunStore


class Admission:
    """Stores a new run and, where a slot is free, starts it; its decision is stored once."""

    def __init__(self, store: RunStore, dispatcher: Dispatcher, config: ServerConfig) -> None:
        """Prepare.

        Args:
            store: Stores the runs.
            dispatcher: Reserves slots, and starts runs.
            config: ``workers``, ``max_queued`` and ``idempotency_hours``.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._config = config
        self._ids = RunIds()
        self._lock = threading.Lock()
        self._keys_in_use: set[tuple[str, str]] = set()

    def admit(
        self,
        request: RunRequest,
        *,
        key: str | None,
        submitter: Submitter,
        server_id: str,
        waiter: Waiter,
        is_held: bool,
    ) -> Run:
        """Store a run as queued or running, or find an earlier one with the same key.

        Args:
            request: What to run.
            key: An idempotency key.
            submitter: The caller who submits it.
            server_id: This server.
            waiter: Attached to the run before that can end.
            is_held: Whether no other server may claim it.

        Returns:
            The run, stored.

        Raises:
            QuotaError: If the submitter has reached a quota.
            ServerBusyError: If the queue is full.
            KeyReusedError: If the key was used before, with another request.
            KeyInUseError: If a request with the key is being admitted now.
            StoreUnavailableError: If the store cannot be reached.
        """

        def next_id() -> str:
            run_id = self._ids.next()
            waiter.attach(run_id)
            return run_id

        with self._in_use(key, submitter), self._dispatcher.slot(request) as may_start:
            new = NewRun(
                request=request,
                submitter=submitter,
                server_id=server_id,
                is_held=is_held,
                key=key,
                key_hours=self._config.idempotency_hours,
                workers=self._config.workers,
                max_queued=self._config.max_queued,
                may_start=may_start,
            )
            added = self._store.new_runs.add(new, next_id)
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

    def _get(self, run_id: str) -> Run:
        run = self._store.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    @contextmanager
    def _in_use(self, key: str | None, submitter: Submitter) -> Iterator[None]:
        """Refuse a key whose first request is not stored yet."""
        if key is None:
            yield
            return
        whose = (submitter.name, key)
        with self._lock:
            is_first = whose not in self._keys_in_use
            self._keys_in_use.add(whose)
        try:
            if not is_first and not self._store.has_key(key, submitter.name):
                raise KeyInUseError
            yield
        finally:
            if is_first:
                self._keys_in_use.discard(whose)
