"""Events of a run, numbered in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from kedro_flask_server.text import rfc3339


class EventType(str, Enum):
    """The types of events.

    Run events come from the server, node and dataset events from the process that executes the run,
    and ``log`` is a log record of the run.
    """

    RUN_QUEUED = "run.queued"
    RUN_WAITING = "run.waiting"
    RUN_STARTED = "run.started"
    RUN_FINISHED = "run.finished"
    NODE_STARTED = "node.started"
    NODE_FINISHED = "node.finished"
    NODE_FAILED = "node.failed"
    DATASET_LOADED = "dataset.loaded"
    DATASET_SAVED = "dataset.saved"
    LOG = "log"

    def __str__(self) -> str:
        return self.value


OUTPUT = "output"
"""The name of the logger of printed output in a run's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a run.

    Attributes:
        id: Its number within the run, from 1.
        time: When it happened.
        type: A value of `EventType`, or a type that a newer server knows.
        data: Its content, as JSON data.
    """

    id: int
    time: datetime
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A page of a run's events, in order.

    Attributes:
        events: The events.
        next: The id after which the next page begins; None where the run has ended and these are
            its last events.
    """

    events: list[Event]
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A part of a run's log, in order.

    Attributes:
        events: The records.
        has_earlier: Whether there are others of this kind before them.
    """

    events: list[Event]
    has_earlier: bool


def log_line(event: Event) -> str:
    """Return a log record as text; continuation lines are indented.

    Args:
        event: An event of the type ``log``.

    Returns:
        ``2026-01-01T12:00:00.000Z INFO     kedro.runner: Completed node: train``, without a final
        line end, and with no line that could pass for another record.
    """
    level, name, message = (str(event.data.get(key)) for key in ("level", "logger", "message"))
    return f"{rfc3339(event.time)} {level:<8} {name}: {message}".replace("\n", "\n    ")
