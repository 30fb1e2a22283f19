"""Requests to stop a run early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunStatus, StopReason


class RunInterrupted(BaseException):
    """Raised in the code of a run that must stop at once.

    It is not an `Exception`, so that code which catches all errors does not catch it.
    """


class StopRequest:
    """Whether a run must stop, and why. Thread-safe."""

    def __init__(self) -> None:
        """Begin without a request."""
        self._lock = threading.Lock()
        self._reason: StopReason | None = None
        self._message = ""

    @property
    def reason(self) -> StopReason | None:
        """Why the run must stop; None if it need not."""
        return self._reason

    def ask(self, reason: StopReason, message: str) -> bool:
        """Ask the run to stop; the first request counts.

        Args:
            reason: Why.
            message: The same for a person.

        Returns:
            Whether this is the first request.
        """
        with self._lock:
            if self._reason is not None:
                return False
            self._message = message
            self._reason = reason
            return True

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Within, allow `RunInterrupted` to be raised; this class never raises it."""
        yield

    def outcome(self, duration_ms: float) -> RunOutcome:
        """Return the outcome of a run that was stopped.

        Args:
            duration_ms: How long it executed, in milliseconds.

        Raises:
            ValueError: If the run was not asked to stop.
        """
        if self._reason is None:
            raise ValueError("the run was not asked to stop")
        is_cancelled = self._reason is StopReason.CANCEL
        return RunOutcome(
            status=RunStatus.CANCELLED if is_cancelled else RunStatus.FAILURE,
            duration_ms=duration_ms,
            error=ErrorDetail(type=self._reason.value, message=self._message),
        )
