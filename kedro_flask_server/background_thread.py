"""Threads of the server that work as long as it does."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundThread:
    """A thread that is made when it starts.

    One that is made before the process forks, as it does under ``gunicorn --preload``, cannot be
    started after it (Python 3.13.0).
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        """Prepare.

        Args:
            work: What it does; it ends when that returns.
            name: Its name.
        """
        self._work = work
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, once."""
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether it is at work."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended, if it was started."""
        if self._thread is not None:
            self._thread.join()
