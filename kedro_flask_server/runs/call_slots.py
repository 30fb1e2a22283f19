"""Whose turn it is among the calls of a served pipeline: first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kedro_flask_server.errors import QuotaError, ServerBusyError
from kedro_flask_server.model.run import Submitter


class _Call:
    def __init__(self, who: str) -> None:
        self.who = who
        self.may_start = threading.Event()


class CallSlots:
    """A slot for each worker, and a bounded queue. Thread-safe."""

    def __init__(self, pipeline: str, *, slots: int, max_waiting: int) -> None:
        """Begin with free slots.

        Args:
            pipeline: The pipeline, for messages.
            slots: How many calls execute at a time.
            max_waiting: How many more may wait.
        """
        self._pipeline = pipeline
        self._free = slots
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._executing: set[_Call] = set()
        self._waiting: deque[_Call] = deque()

    @property
    def executing(self) -> int:
        """How many calls execute."""
        return len(self._executing)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @contextmanager
    def slot(self, submitter: Submitter, look: Callable[[], float | None]) -> Iterator[bool]:
        """Take a slot, as soon as it is this call's turn.

        Args:
            submitter: The caller, whose quotas count for the calls of this pipeline and server.
            look: Called while it waits: returns after how many seconds to call it again; None ends
                the wait.

        Yields:
            Whether it has a slot.

        Raises:
            QuotaError: If the caller has reached a quota.
            ServerBusyError: If too many wait.
        """
        call = self._enter(submitter)
        try:
            while not call.may_start.is_set():
                seconds = look()
                if seconds is None:
                    break
                call.may_start.wait(seconds)
            yield call.may_start.is_set()
        finally:
            self._leave(call)

    def _enter(self, submitter: Submitter) -> _Call:
        call = _Call(submitter.name)
        with self._lock:
            self._refuse_beyond_quota(submitter)
            if self._free > 0:
                self._start(call)
            elif len(self._waiting) >= self._max_waiting:
                raise ServerBusyError(
                    f"calls of '{self._pipeline}'",
                    limit=self._max_waiting,
                    setting="served_pipelines, max_waiting",
                )
            else:
                self._waiting.append(call)
        return call

    def _refuse_beyond_quota(self, submitter: Submitter) -> None:
        if submitter.max_active is submitter.max_queued is None:
            return
        queued = sum(each.who == submitter.name for each in self._waiting)
        active = queued + sum(each.who == submitter.name for each in self._executing)
        if submitter.max_active is not None and active >= submitter.max_active:
            raise QuotaError(submitter.name, submitter.max_active, "active")
        waits = self._free <= 0
        if waits and submitter.max_queued is not None and queued >= submitter.max_queued:
            raise QuotaError(submitter.name, submitter.max_queued, "queued")

    def _start(self, call: _Call) -> None:
        self._free -= 1
        self._executing.add(call)
        call.may_start.set()

    def _leave(self, call: _Call) -> None:
        with self._lock:
            if call not in self._executing:
                self._waiting.remove(call)
                return
            self._executing.remove(call)
            self._free += 1
            if self._waiting:
                self._start(self._waiting.popleft())
