"""Threads that run as long as the server."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundThread:
    """A thread that is created when it starts.

    One that is created before the process forks, as under ``gunicorn --preload``, cannot be started
    afterwards (Python 3.13.0).
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        """Prepare.

        Args:
            work: The function to run; the thread ends when it returns.
            name: The name of the thread.
        """
        self._work = work
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended, if it was started; for some seconds at most."""
        if self._thread is not None:
            self._thread.join(timeout_s)
