"""The threads that execute requests."""

from __future__ import annotations

from typing import Protocol

from waitress.task import ThreadedTaskDispatcher

_THREADS_AT_START = 8


class Task(Protocol):
    """A connection with a request."""

    def is_taken_care_of(self) -> bool:
        """Return whether no thread is to execute it now."""

    def service(self) -> None:
        """Execute the request."""


class Dispatcher(ThreadedTaskDispatcher):
    """Starts threads as they are needed: there may be many, for requests that wait for runs."""

    def __init__(self, limit: int) -> None:
        """Start a few threads.

        Args:
            limit: How many there may be.
        """
        super().__init__()
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
