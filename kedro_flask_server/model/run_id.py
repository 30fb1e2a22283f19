"""Run ids: Kedro's save-version timestamps, each issued once."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

RUN_ID_FORM = r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z"
"""The form of a run id, as a regular expression."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""The earliest time of a run id."""

_END = datetime(9000, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


class RunIds:
    """Issues run ids that are unique and sort by time.

    A run id is a UTC timestamp of 24 characters in Kedro's form for versions,
    ``2024-01-01T00.00.00.000Z`` (``kedro.io.core.VERSION_FORMAT``). If its millisecond is taken, or
    the clock was set back, the next free one is used.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Start at the current time.

        Args:
            clock_ns: Returns nanoseconds since 1970-01-01T00:00:00Z.
        """
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._last_ms = 0

    def next(self) -> str:
        """Return an id greater than all issued before."""
        with self._lock:
            self._last_ms = max(self._clock_ns() // 1_000_000, self._last_ms + 1)
            milliseconds = self._last_ms
        return run_id_at(EPOCH + milliseconds * _MILLISECOND)


def run_id_at(moment: datetime) -> str:
    """Return the id of a run admitted at a time.

    Args:
        moment: An aware time, truncated to milliseconds. A time outside the range of run ids is
            replaced by the nearest within.
    """
    shown = min(max(moment, EPOCH), _END).astimezone(timezone.utc)
    return f"{shown:%Y-%m-%dT%H.%M.%S}.{shown.microsecond // 1000:03d}Z"


def is_run_id(text: str) -> bool:
    """Return whether a text has the form of a run id."""
    return re.fullmatch(RUN_ID_FORM, text, re.ASCII) is not None


def time_of(run_id: str) -> datetime:
    """Return the UTC time at which a run was admitted."""
    day, _, time_of_day = run_id.removesuffix("Z").partition("T")
    hour, minute, second, millisecond = time_of_day.split(".")
    return datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}.{millisecond}+00:00")
