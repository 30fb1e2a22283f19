"""Tells whether what pages show has changed, for all who look at them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FRESH_FOR_S = 1.0


class StateToken:
    """A text that changes whenever what pages show does.

    It is found out once a second, however many pages are open.
    """

    def __init__(
        self, read: Callable[[], str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            read: Finds it out.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._fresh_until = float("-inf")

    def get(self) -> str:
        """Return it, as of a second ago or less.

        Raises:
            StoreUnavailableError: If the store cannot be reached.
        """
        with self._lock:
            if self._clock() >= self._fresh_until:
                self._token = self._read()
                self._fresh_until = self._clock() + _FRESH_FOR_S
            return self._token
