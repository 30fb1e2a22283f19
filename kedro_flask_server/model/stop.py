"""How a run learns that it is to stop before its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunStatus, StopReason


class RunInterrupted(BaseException):
    """Raised where a run's code is at work, when the run is to stop at once.

    It is no `Exception`, so that code which goes on after every error does not go on after it.
    """


class StopRequest:
    """Whether a run is to stop, and why. Any thread may ask and look."""

    def __init__(self) -> None:
        """Begin without a request."""
        self._lock = threading.Lock()
        self._reason: StopReason | None = None
        self._message = ""

    @property
    def reason(self) -> StopReason | None:
        """Why the run is to stop; None where it is not."""
        return self._reason

    def ask(self, reason: StopReason, message: str) -> bool:
        """Ask the run to stop; the first to ask counts.

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
        """Within, `RunInterrupted` may be raised; here, where nothing can raise it, it is not."""
        yield

    def outcome(self, duration_ms: float) -> RunOutcome:
        """Return how the run has ended that was stopped.

        Args:
            duration_ms: How long it executed, in milliseconds.
        """
        if self._reason is None:
            raise ValueError("the run was not asked to stop")
        is_cancelled = self._reason is StopReason.CANCEL
        return RunOutcome(
            status=RunStatus.CANCELLED if is_cancelled else RunStatus.FAILURE,
            duration_ms=duration_ms,
            error=ErrorDetail(type=self._reason.value, message=self._message),
        )
