"""How a run tells what happens in it while it executes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Protocol

from kedro_flask_server.model.event import OUTPUT, Event, EventType
from kedro_flask_server.model.run import Progress
from kedro_flask_server.text import bounded, printable, visible

_MAX_NAME_CHARS = 200

# Of a record, as text: its time, and what is between its parts.
_OVERHEAD_BYTES = 32

# How much memory an event takes beside its text, and how much may wait for the store, of a run.
_EVENT_BYTES = 600
_MAX_PENDING_BYTES = 32_000_000

# With as many events it is worth a transaction to store them before the next is due.
_MANY = 1_000

# So many processes of a run are told apart where they count what they leave out.
_MAX_WRITERS = 10_000
NODE_EVENTS = (EventType.NODE_STARTED, EventType.NODE_FINISHED, EventType.NODE_FAILED)
"""These say which nodes are at work, and how far the run is."""


class Report(Protocol):
    """What a run tells of itself goes to, in the process that executes it. From any thread."""

    is_shared: bool
    """Whether processes that are forked from this one may tell, too."""

    def expect(self, nodes: int) -> None:
        """Say how many nodes the run has, those left out that need not run."""

    def emit(self, kind: EventType, data: dict[str, Any]) -> None:
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


_node: ContextVar[str | None] = ContextVar("kedro_server_node", default=None)


@contextmanager
def at_work_on(node: str) -> Iterator[None]:
    """Have what this thread logs, and the threads that inherit its context, name a node.

    Args:
        node: The node's name, as its events have it.
    """
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)


def node_of_thread() -> str | None:
    """Return the node that this thread is at work on; None where that is not known."""
    return _node.get()


@lru_cache(1024)
def record_bytes(level: str, logger: str, node: str | None) -> int:
    """Return how much of a run's log a record takes beside its message."""
    return _OVERHEAD_BYTES + size_bytes(_word(level) + _word(logger) + (node or ""))


class RunReport:
    """The pending events of a run, in order, until they are stored. Thread-safe.

    Its memory is bounded: of the log, what is beyond `max_log_bytes`, and what waits for a store
    that takes nothing, is left out and counted. All other events are kept.
    """

    is_shared = False

    def __init__(
        self, *, after: int, max_log_bytes: int, on_many: Callable[[], object] | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            after: The id of the run's newest event.
            max_log_bytes: How many bytes of log are kept, as text in UTF-8.
            on_many: Is called when so much was told that it should be stored soon.
        """
        # To be taken twice: a finalizer that runs in here, when Python collects garbage, may log.
        self._lock = threading.RLock()
        self._told: list[Event] = []
        self._pending_bytes = 0
        self._on_many = on_many
        self._last_id = after
        self._room_bytes = max_log_bytes
        self._is_log_cut = False
        self._dropped = _Count()
        self._dropped_by: dict[int, _Count] = {}
        self._not_stored = _Count()
        self._is_closed = False
        self.max_log_bytes = max_log_bytes
        self.nodes: list[str] = []
        """The nodes that are at work."""
        self.progress: Progress | None = None
        """How far the run is, where its nodes are counted."""

    def expect(self, nodes: int) -> None:
        """Count the run's nodes from now on, as for `Report`."""
        with self._lock:
            self.progress = Progress(done=0, total=nodes)

    def emit(self, kind: EventType, data: dict[str, Any], *, time: datetime | None = None) -> None:
        """Add an event, one of a node with how far the run is.

        Args:
            kind: What kind.
            data: What is to be said, as JSON has it.
            time: When it happened; now by default.
        """
        with self._lock:
            if kind in NODE_EVENTS:
                data = self._counted(kind, data)
            self._add(kind, data, time)

    def _counted(self, kind: EventType, data: dict[str, Any]) -> dict[str, Any]:
        node = data.get("node")
        if kind is EventType.NODE_STARTED:
            self.nodes.append(str(node))
        elif node in self.nodes:
            self.nodes.remove(node)
        if self.progress is None:
            return data
        done, total = self.progress.done, self.progress.total
        if kind is EventType.NODE_FINISHED:
            done += 1
            self.progress = Progress(done=done, total=total)
        return {**data, "done": done, "total": total}

    def log(
        self,
        level: str,
        logger: str,
        message: str,
        *,
        time: datetime | None = None,
        node: str | None = None,
    ) -> None:
        """Add to the log, if there is room for it; the first for which there is none is marked.

        Args:
            level: The level's name.
            logger: The logger's name.
            message: What it says, safe to store and show.
            time: When it was said; now by default.
            node: The node that it is from; by default that of this thread, or the one that is at
                work alone.
        """
        with self._lock:
            node = node or node_of_thread() or self.only_node
            self._log(level, logger, message, time, node)

    def log_output(self, lines: Iterable[str], *, node: str | None) -> None:
        """Add what was printed to the log.

        Args:
            lines: The lines, safe to store and show.
            node: The node that they are from; None where that is not known.
        """
        with self._lock:
            for line in lines:
                self._log("INFO", OUTPUT, line, None, node)

    @property
    def only_node(self) -> str | None:
        """The node that is at work, where it is one alone."""
        return self.nodes[0] if len(self.nodes) == 1 else None

    @property
    def is_full(self) -> bool:
        """Whether what is logged from now on is left out."""
        return self._is_log_cut or self._is_closed

    def drop(self, lines: int, size: int, *, by: int | None = None) -> None:
        """Count what is not added to the log for want of room.

        Args:
            lines: How many lines.
            size: How many bytes they have.
            by: The process that has left them out, of which these are all; None for this one, of
                which these are more.
        """
        with self._lock:
            if by is None:
                self._dropped.add(lines, size)
            elif by in self._dropped_by or len(self._dropped_by) < _MAX_WRITERS:
                self._dropped_by[by] = _Count(lines, size)
            self._cut_log()

    def _log(
        self, level: str, logger: str, message: str, time: datetime | None, node: str | None
    ) -> None:
        if self._is_closed:
            return
        if self._is_log_cut:
            self._dropped.add(1, size_bytes(message))
            return
        size = record_bytes(level, logger, node) + size_bytes(message)
        self._room_bytes -= size
        if self._room_bytes < 0:
            self._dropped.add(1, size_bytes(message))
            self._cut_log()
        elif self._pending_bytes > _MAX_PENDING_BYTES:
            self._not_stored.add(1, size_bytes(message))
        else:
            self._mark_gap()
            data = {"level": _word(level), "logger": _word(logger), "message": message}
            self._add(EventType.LOG, data if node is None else {**data, "node": node}, time, size)

    def _cut_log(self) -> None:
        if not self._is_log_cut:
            self._is_log_cut = True
            self._mark(f"[cut: {self._bound_exceeded}; the rest is not kept]")

    @property
    def _bound_exceeded(self) -> str:
        size = f"{self.max_log_bytes:,} bytes"
        return f"the log of this run is longer than {size} (setting max_log_bytes)"

    def _mark_gap(self) -> None:
        if self._not_stored.lines:
            self._mark(f"[cut: the store was too slow to take {self._not_stored} of the log here]")
            self._not_stored = _Count()

    def end(self) -> None:
        """Say at the end of the log how much of it is not kept."""
        with self._lock:
            self._mark_gap()
            counts = [self._dropped, *self._dropped_by.values()]
            self._dropped, self._dropped_by = _Count(), {}
            lines, size = (sum(each) for each in zip(*map(astuple, counts), strict=True))
            if lines or size:
                self._mark(f"[cut: {_Count(lines, size)} are not kept: {self._bound_exceeded}]")

    def _mark(self, text: str) -> None:
        data = {"level": "WARNING", "logger": __name__, "message": text}
        self._add(EventType.LOG, data, None)

    def _add(
        self, kind: EventType, data: dict[str, Any], time: datetime | None, size: int = 0
    ) -> None:
        if not self._is_closed:
            self._last_id += 1
            time = time or datetime.now(timezone.utc)
            self._told.append(Event(id=self._last_id, time=time, type=kind, data=data))
            self._pending_bytes += _EVENT_BYTES + size
            if len(self._told) == _MANY and self._on_many is not None:
                self._on_many()

    @property
    def last_id(self) -> int:
        """The id of the newest event."""
        return self._last_id

    def drain(self) -> list[Event]:
        """Return what was told since the last call, and forget it."""
        with self._lock:
            told, self._told = self._told, []
            self._pending_bytes = 0
        return told

    def restore(self, events: list[Event]) -> None:
        """Have events taken again that could not be stored, before all others."""
        with self._lock:
            self._told = events + self._told
            self._pending_bytes += sum(map(_memory_bytes, events))

    def close(self) -> None:
        """Take down no more: the run has ended."""
        with self._lock:
            self._is_closed = True


@dataclass(slots=True)
class _Count:
    """How much was left out."""

    lines: int = 0
    size: int = 0

    def add(self, lines: int, size: int) -> None:
        self.lines += lines
        self.size += size

    def __str__(self) -> str:
        return f"{self.lines:,} lines ({self.size:,} bytes)"


def _memory_bytes(event: Event) -> int:
    message = event.data.get("message")
    return _EVENT_BYTES + (size_bytes(message) if isinstance(message, str) else 0)


@lru_cache(1024)
def _word(name: str) -> str:
    return visible(bounded(printable(name), _MAX_NAME_CHARS)).replace("\n", "\\n")


def size_bytes(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
