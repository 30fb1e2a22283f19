"""Brings a schema up to date in the background, while requests are told to try again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kedro_flask_server.errors import StoreUnavailableError


class BackgroundUpgrade:
    """Work of a thread of its own, which a server's start does not wait for to the end.

    A large store takes longer than a start may: a probe would have the server started again, and
    the work with it, for ever.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Take the work; it may raise what those who wait get."""
        self._work = work
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._error: BaseException | None = None

    def wait(self, timeout_s: float) -> None:
        """Begin, unless it is under way, and wait for the end; where it has failed, begin again.

        Args:
            timeout_s: For how many seconds at most.

        Raises:
            StoreUnavailableError: If it goes on.
        """
        with self._lock:
            thread = self._thread
            if thread is None:
                thread = self._thread = threading.Thread(
                    target=self._do, name="kedro-upgrade", daemon=True
                )
                self._began_at = time.monotonic()
                thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            took_s = time.monotonic() - self._began_at
            raise StoreUnavailableError(f"its schema is being brought up to date ({took_s:.0f} s)")
        with self._lock:
            error = self._error
            if self._thread is thread:
                self._thread = None
        if error is not None:
            raise error

    def join(self) -> None:
        """Wait for the end of what goes on."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _do(self) -> None:
        try:
            self._work()
        except Exception as error:  # those who wait raise it
            self._error = error
        else:
            self._error = None
