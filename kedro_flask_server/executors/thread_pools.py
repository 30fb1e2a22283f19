"""Pools whose threads are all there from the start."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from kedro_flask_server.errors import ServerSettingsError


def start_threads(pool: ThreadPoolExecutor, count: int) -> None:
    """Start all threads of a pool now.

    Args:
        pool: The pool.
        count: The pool's maximum number of threads.

    Raises:
        ServerSettingsError: If the system refuses another thread.
    """
    together = threading.Barrier(count)
    try:
        for _ in range(count):
            pool.submit(together.wait)
    except RuntimeError as error:
        together.abort()
        raise ServerSettingsError(
            f"The system gives no more threads ({error}); setting 'workers' asks for {count}."
        ) from error
