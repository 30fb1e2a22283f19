"""The threads that execute requests."""

from __future__ import annotations

from typing import Protocol

from waitress.task import ThreadedTaskDispatcher

_THREADS_AT_START = 8


class Task(Protocol):
    """A connection with a request to execute."""

    def is_taken_care_of(self) -> bool:
        """Return whether the request needs no thread now."""

    def service(self) -> None:
        """Execute the request."""


class RequestThreads(ThreadedTaskDispatcher):
    """Starts threads on demand: requests that wait for runs may need many."""

    def __init__(self, limit: int) -> None:
        """Start a few threads.

        Args:
            limit: The maximum number of threads.
        """
        super().__init__()
        self._limit = limit
        self.set_thread_count(min(limit, _THREADS_AT_START))

    def add_task(self, task: Task) -> None:
        """Queue a request for a thread."""
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
