"""How a run tells what happens in it while it executes."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Protocol

from kedro_flask_server.runs.events import Event, EventType
from kedro_flask_server.runs.model import Progress
from kedro_flask_server.text import bounded, printable, visible

_MAX_NAME_CHARS = 200

# Of a record, as text: its time, and what is between its parts.
_OVERHEAD_BYTES = 32


# These say how far the run is.
_NODE_EVENTS = (EventType.NODE_STARTED, EventType.NODE_FINISHED, EventType.NODE_FAILED)


class Report(Protocol):
    """What a run tells of itself goes to, in the process that executes it. From any thread."""

    is_shared: bool
    """Whether processes that are forked from this one may tell, too."""

    def expect(self, nodes: int) -> None:
        """Say how many nodes the run has, those left out that need not run."""

    def tell(self, kind: EventType, data: dict[str, Any]) -> None:
        """Say what has happened.

        Args:
            kind: What kind of event it is.
            data: What is to be said, as JSON has it.
        """

    def log(self, level: str, logger: str, message: str) -> None:
        """Add to the run's log.

        Args:
            level: The level's name.
            logger: The logger's name.
            message: What it says, safe to store and show.
        """


class RunReport:
    """What a run has told and nobody has stored yet, in order. Any thread may tell and take."""

    is_shared = False

    def __init__(self, *, after: int, max_log_bytes: int) -> None:
        """Begin with nothing.

        Args:
            after: The id of the run's newest event.
            max_log_bytes: How many bytes of log are kept, as text in UTF-8.
        """
        # To be taken twice: a finalizer that runs in here, when Python collects garbage, may log.
        self._lock = threading.RLock()
        self._told: list[Event] = []
        self._last_id = after
        self._room_bytes = max_log_bytes
        self._max_log_bytes = max_log_bytes
        self._is_log_cut = False
        self._is_closed = False
        self.progress: Progress | None = None
        """How far the run is, where its nodes are counted."""

    def expect(self, nodes: int) -> None:
        """Count the run's nodes from now on, as for `Report`."""
        with self._lock:
            self.progress = Progress(done=0, total=nodes)

    def tell(self, kind: EventType, data: dict[str, Any], *, time: datetime | None = None) -> None:
        """Add an event, one of a node with how far the run is.

        Args:
            kind: What kind.
            data: What is to be said, as JSON has it.
            time: When it happened; now by default.
        """
        with self._lock:
            if self.progress is not None and kind in _NODE_EVENTS:
                done, total = self.progress.done, self.progress.total
                if kind is EventType.NODE_FINISHED:
                    done += 1
                    self.progress = Progress(done=done, total=total)
                data = {**data, "done": done, "total": total}
            self._add(kind, data, time)

    def log(self, level: str, logger: str, message: str, *, time: datetime | None = None) -> None:
        """Add to the log, if there is room for it; the first for which there is none is marked.

        Args:
            level: The level's name.
            logger: The logger's name.
            message: What it says, safe to store and show.
            time: When it was said; now by default.
        """
        level, logger = _word(level), _word(logger)
        data = {"level": level, "logger": logger, "message": message}
        size_bytes = _OVERHEAD_BYTES + _size_bytes(level + logger + message)
        with self._lock:
            if self._is_log_cut or self._is_closed:
                return
            self._room_bytes -= size_bytes
            if self._room_bytes < 0:
                self._is_log_cut = True
                data = self._mark()
            self._add(EventType.LOG, data, time)

    def _mark(self) -> dict[str, str]:
        text = (
            f"[cut: the log of this run is longer than {self._max_log_bytes:,} bytes (setting "
            "max_log_bytes); the rest is not kept]"
        )
        return {"level": "WARNING", "logger": __name__, "message": text}

    def _add(self, kind: EventType, data: dict[str, Any], time: datetime | None) -> None:
        if not self._is_closed:
            self._last_id += 1
            time = time or datetime.now(timezone.utc)
            self._told.append(Event(id=self._last_id, time=time, type=kind, data=data))

    @property
    def last_id(self) -> int:
        """The id of the newest event."""
        return self._last_id

    def take(self) -> list[Event]:
        """Return what was told since the last call, and forget it."""
        with self._lock:
            told, self._told = self._told, []
        return told

    def give_back(self, events: list[Event]) -> None:
        """Have events taken again that could not be stored, before all others."""
        with self._lock:
            self._told = events + self._told

    def close(self) -> None:
        """Take down no more: the run has ended."""
        with self._lock:
            self._is_closed = True


@lru_cache(1024)
def _word(name: str) -> str:
    return visible(bounded(printable(name), _MAX_NAME_CHARS)).replace("\n", "\\n")


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
