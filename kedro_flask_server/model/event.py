"""What happens in a run, as numbered facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from kedro_flask_server.text import rfc3339


class EventType(str, Enum):
    """The kinds of events.

    Those of the run come from the server, those of nodes and datasets from where Kedro executes
    them, and ``log`` is a log record of the run.
    """

    RUN_QUEUED = "run.queued"
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
"""The logger under whose name a run's log has what is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact about a run.

    Attributes:
        id: Its number within the run, from 1.
        time: When it happened.
        type: What kind it is: a value of `EventType`, or one that a newer server knows.
        data: What is to be said of it, as JSON has it.
    """

    id: int
    time: datetime
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some of a run's events, in their order.

    Attributes:
        events: The events.
        next: The id after which the page that follows begins; None where the run has ended and
            these are its last events.
    """

    events: list[Event]
    next: int | None


def log_line(event: Event) -> str:
    """Return a log record as text; what follows its first line is indented.

    Args:
        event: An event of the type ``log``.

    Returns:
        ``2026-01-01T12:00:00.000Z INFO     kedro.runner: Completed node: train``, with no line
        end, and nothing after one that could be taken for another record.
    """
    level, name, message = (str(event.data.get(key)) for key in ("level", "logger", "message"))
    return f"{rfc3339(event.time)} {level:<8} {name}: {message}".replace("\n", "\n    ")
