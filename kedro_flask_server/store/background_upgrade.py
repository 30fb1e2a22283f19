"""Migrates a schema in the background, while requests are asked to try again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kedro_flask_server.errors import StoreUnavailableError


class BackgroundUpgrade:
    """A migration in a thread of its own, for which the server's start waits only for a time.

    A large store takes longer than a start may: a liveness probe would restart the server, and the
    migration with it, for ever.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Prepare; callers of `wait` get the exceptions of `work`."""
        self._work = work
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._error: BaseException | None = None

    def wait(self, timeout_s: float) -> None:
        """Start unless running, and wait for the end; a failed migration is started again.

        Args:
            timeout_s: How many seconds to wait at most.

        Raises:
            StoreUnavailableError: If it is still running.
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
        """Wait for the end of a running migration."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _do(self) -> None:
        try:
            self._work()
        except Exception as error:  # `wait` raises it
            self._error = error
        else:
            self._error = None
