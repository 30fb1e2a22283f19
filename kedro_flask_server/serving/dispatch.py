"""The threads that execute requests."""

from __future__ import annotations

import threading
from typing import Protocol

from waitress.task import ThreadedTaskDispatcher

_THREADS_AT_START = 8


class Task(Protocol):
    """A connection with a request."""

    def is_taken_care_of(self) -> bool:
        """Whether no thread is to execute it now."""

    def service(self) -> None:
        """Execute the request."""


class _LastIsFirst:
    """A condition that wakes the thread which has begun to wait last."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: list[threading.Lock] = []

    def wait(self) -> None:
        turn = threading.Lock()
        turn.acquire()
        self._waiting.append(turn)
        self._lock.release()
        turn.acquire()
        self._lock.acquire()

    def notify(self) -> None:
        if self._waiting:
            self._waiting.pop().release()

    def notify_all(self) -> None:
        while self._waiting:
            self.notify()


class Dispatcher(ThreadedTaskDispatcher):
    """Gives a request to the thread that was busy last, of those that are idle.

    There may be many threads, for requests that wait for their run; they are started as they are
    needed. By turns, each request would find one whose memory no processor has at hand, which
    costs more than to answer it.
    """

    def __init__(self, limit: int) -> None:
        """Start a few threads.

        Args:
            limit: How many there may be.
        """
        super().__init__()
        self.queue_cv = _LastIsFirst(self.lock)
        self._limit = limit
        self.set_thread_count(min(limit, _THREADS_AT_START))

    def add_task(self, task: Task) -> None:
        """Have a thread execute a request."""
        if task.is_taken_care_of():
            return
        with self.lock:
            self.queue.append(task)
            idle = len(self.threads) - self.active_count
            if len(self.queue) > idle and len(self.threads) < self._limit:
                number = len(self.threads)
                self.threads.add(number)
                self.active_count += 1
                self.start_new_thread(self.handler_thread, number)
            self.queue_cv.notify()
