"""Exponential backoff between failing attempts."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0


class Backoff:
    """Counts consecutive failures, and schedules the next attempt."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no failure.

        Args:
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._clock = clock
        self.failures = 0
        self.last_failure = ""
        self._next_at = 0.0

    @property
    def pause_s(self) -> float:
        """How many seconds are left until the next attempt."""
        return max(0.0, self._next_at - self._clock())

    def fail(self, failure: str) -> bool:
        """Record a failure, and schedule the next attempt.

        Args:
            failure: The failure, in words for a person.

        Returns:
            Whether it counts: failures during a pause belong to the one before.
        """
        self.last_failure = failure
        if self.pause_s:
            return False
        self.failures += 1
        pause_s = min(_LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.failures - 1))
        self._next_at = self._clock() + pause_s
        return True

    def succeed(self) -> None:
        """Reset the count."""
        self.failures = 0
