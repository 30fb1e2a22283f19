"""How many calls a served pipeline has answered, and how long they took."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from typing import Any

from kedro_flask_server.model.run import RunStatus

# Percentiles are those of the newest calls.
_MAX_CALLS = 1_000

REFUSED = "refused"
"""Calls that were not executed: too many waited, a quota was reached, or nothing was loaded."""


class CallStatistics:
    """Counts the calls of one pipeline since the server has started. Thread-safe."""

    def __init__(self) -> None:
        """Begin without a call."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_MAX_CALLS)

    def add(self, status: RunStatus, latency_ms: float) -> None:
        """Add a call that was executed.

        Args:
            status: How it ended.
            latency_ms: How long it waited and executed, in milliseconds.
        """
        with self._lock:
            self._counts[status.value] += 1
            self._latencies_ms.append(latency_ms)

    def add_refused(self) -> None:
        """Add a call that was not executed."""
        with self._lock:
            self._counts[REFUSED] += 1

    def dump(self) -> dict[str, Any]:
        """Return the counts and, of the newest calls, percentiles of the latency, as JSON data."""
        with self._lock:
            counts, latencies = Counter(self._counts), sorted(self._latencies_ms)
        states = ("success", "failure", "cancelled", REFUSED)
        return {
            "calls": {state: counts[state] for state in states},
            "latency_ms": {
                name: _percentile(latencies, part)
                for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
            },
        }


def _percentile(ordered: list[float], part: float) -> float | None:
    """Return the smallest value that a part of sorted values does not exceed; None for none."""
    return round(ordered[math.ceil(part * len(ordered)) - 1], 2) if ordered else None
