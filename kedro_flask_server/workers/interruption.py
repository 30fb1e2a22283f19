"""Interrupts a run in a worker process on SIGTERM, by an exception in its main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kedro_flask_server.model.run import StopReason
from kedro_flask_server.model.stop import RunInterrupted, StopRequest


class Interruption(StopRequest):
    """A stop request that arrives as SIGTERM.

    While the project's code runs, it raises `RunInterrupted` there, so that cleanup code runs
    (``finally``, context managers, Kedro's ``on_pipeline_error``).
    """

    def __init__(self) -> None:
        """Install the signal handler. Must be called in the main thread."""
        super().__init__()
        self._is_enforced = False
        self._holds = 0
        self._main_thread = threading.get_ident()
        signal.signal(signal.SIGTERM, self._on_signal)

    @classmethod
    def is_left_to_parents(cls) -> None:
        """Restore the default action of SIGTERM in processes forked from this one."""
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        is_first = self.ask(StopReason.CANCEL, "The run was asked to stop (SIGTERM).")
        if is_first and self._is_enforced and not self._holds:
            raise RunInterrupted

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Within, raise `RunInterrupted` in the main thread when the run is asked to stop."""
        self._is_enforced = True
        try:
            yield
        finally:
            self._is_enforced = False

    def hold(self) -> bool:
        """In the main thread, defer the exception until `release`, which must follow.

        Returns:
            Whether this is the main thread, and the run was not asked to stop before.
        """
        if threading.get_ident() != self._main_thread:
            return False
        was_asked = self.reason is not None  # read first: a signal may arrive in between
        self._holds += 1
        return not was_asked

    def release(self, *, raises: bool) -> None:
        """End what `hold` began.

        Args:
            raises: The result of `hold`: whether to raise a deferred exception.
        """
        if threading.get_ident() == self._main_thread:
            self._holds -= 1
            if raises and self.reason is not None and self._is_enforced and not self._holds:
                raise RunInterrupted
