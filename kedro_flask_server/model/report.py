"""Reports of a run while it executes: events, progress and log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Protocol

from kedro_flask_server.model.data_exchange import Output
from kedro_flask_server.model.event import OUTPUT, Event, EventType
from kedro_flask_server.model.provenance import Provenance, RunSummary
from kedro_flask_server.model.run import Progress
from kedro_flask_server.text import bounded, printable, visible

_MAX_NAME_CHARS = 200

# The time and the separators of a record, as text.
_OVERHEAD_BYTES = 32

# Memory of an event beside its text, and of a run's events that are not stored yet.
_EVENT_BYTES = 600
_MAX_PENDING_BYTES = 32_000_000

# So many events are worth a transaction before the next is due.
_MANY = 1_000

# Per run.
_MAX_LINKS = 20
_MAX_OUTPUTS = 1_000

# Limit of a run's processes whose dropped records are counted separately.
_MAX_WRITERS = 10_000
NODE_EVENTS = (EventType.NODE_STARTED, EventType.NODE_FINISHED, EventType.NODE_FAILED)
"""Events that change the nodes being executed, and the progress."""


class Report(Protocol):
    """Receives the reports of a run, in the process that executes it. Thread-safe."""

    is_shared: bool
    """Whether processes forked from this one may report, too."""

    def expect(self, nodes: int) -> None:
        """Set the number of nodes in the run, without those that need not run."""

    def describe(self, provenance: Provenance) -> None:
        """Record what the run is made of, unless its nodes are recorded and these have none."""

    def link(self, title: str, url: str) -> None:
        """Add a link to the run, instead of one with the same title.

        Args:
            title: Its title, safe to store and show.
            url: Its URL, likewise.
        """

    def put_output(self, dataset: str, output: Output) -> None:
        """Record a dataset that the run has made.

        Args:
            dataset: The dataset.
            output: What is kept of it.
        """

    def emit(self, kind: EventType, data: dict[str, Any]) -> None:
        """Report an event.

        Args:
            kind: The type of event.
            data: Its content, as JSON data.
        """

    def log(self, level: str, logger: str, message: str) -> None:
        """Add to the run's log.

        Args:
            level: The level's name.
            logger: The logger's name.
            message: The message, safe to store and show.
        """


_node: ContextVar[str | None] = ContextVar("kedro_server_node", default=None)


@contextmanager
def at_work_on(node: str) -> Iterator[None]:
    """Attribute log records of this thread, and of threads that inherit its context, to a node.

    Args:
        node: The node's name, as in its events.
    """
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)


def node_of_thread() -> str | None:
    """Return the node that this thread executes; None where that is not known."""
    return _node.get()


@lru_cache(1024)
def record_bytes(level: str, logger: str, node: str | None) -> int:
    """Return the size of a record in a run's log, without its message."""
    return _OVERHEAD_BYTES + size_bytes(_word(level) + _word(logger) + (node or ""))


class RunReport:
    """The pending events of a run, in order, until they are stored. Thread-safe.

    Its memory is bounded: log records beyond `max_log_bytes`, or while the store is too slow, are
    dropped and counted. All other events stay.
    """

    is_shared = False

    def __init__(
        self, *, after: int, max_log_bytes: int, on_many: Callable[[], object] | None = None
    ) -> None:
        """Begin without pending events.

        Args:
            after: The id of the run's newest event.
            max_log_bytes: The size of the log to keep, as UTF-8 text.
            on_many: Called when so many events are pending that they should be stored soon.
        """
        # Reentrant: a finalizer that garbage collection runs in here may log.
        self._lock = threading.RLock()
        self._pending: list[Event] = []
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
        """The nodes being executed."""
        self.progress: Progress | None = None
        """The progress of the run, once its nodes are counted."""
        self.summary = RunSummary()
        """The nodes and datasets of the run so far."""
        self._provenance: Provenance | None = None
        self._links: dict[str, str] = {}
        self.outputs: dict[str, Output] = {}
        """What is kept of the datasets that the run has made."""
        self._is_described_anew = False

    def expect(self, nodes: int) -> None:
        """Set the number of nodes, as for `Report`."""
        with self._lock:
            self.progress = Progress(done=0, total=nodes)

    def describe(self, provenance: Provenance) -> None:
        """Record what the run is made of, as for `Report`."""
        with self._lock:
            if self._provenance is None or provenance.nodes or provenance.lacks:
                self._provenance = provenance
                self._is_described_anew = True

    def link(self, title: str, url: str) -> None:
        """Add a link, as for `Report`, unless there are many."""
        with self._lock:
            if title in self._links or len(self._links) < _MAX_LINKS:
                self._links[title] = url
                self._is_described_anew = True

    def put_output(self, dataset: str, output: Output) -> None:
        """Record a dataset that the run has made, as for `Report`, unless there are many."""
        with self._lock:
            if len(self.outputs) < _MAX_OUTPUTS:
                self.outputs[dataset] = output

    def emit(self, kind: EventType, data: dict[str, Any], *, time: datetime | None = None) -> None:
        """Add an event, with the progress of the run for a node event.

        Args:
            kind: The type of event.
            data: Its content, as JSON data.
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
        """Add to the log if there is room; the first record that does not fit leaves a mark.

        Args:
            level: The level's name.
            logger: The logger's name.
            message: The message, safe to store and show.
            time: When it was logged; now by default.
            node: The node that logged it; by default that of this thread, or the only one
                executing.
        """
        with self._lock:
            node = node or node_of_thread() or self.only_node
            self._log(level, logger, message, time, node)

    def log_output(self, lines: Iterable[str], *, node: str | None) -> None:
        """Add printed lines to the log.

        Args:
            lines: The lines, safe to store and show.
            node: The node that printed them; None where that is not known.
        """
        with self._lock:
            for line in lines:
                self._log("INFO", OUTPUT, line, None, node)

    @property
    def only_node(self) -> str | None:
        """The node being executed, if there is only one."""
        return self.nodes[0] if len(self.nodes) == 1 else None

    @property
    def is_full(self) -> bool:
        """Whether further log records are dropped."""
        return self._is_log_cut or self._is_closed

    def drop(self, lines: int, size: int, *, by: int | None = None) -> None:
        """Count log lines that are dropped for want of room.

        Args:
            lines: The number of lines.
            size: Their size in bytes.
            by: The process that dropped them, with its total so far; None for this process, with an
                increment.
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
        """Mark the end of the log with the size of what was dropped."""
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
            event = Event(id=self._last_id, time=time, type=kind, data=data)
            self._pending.append(event)
            if kind is not EventType.LOG:
                self.summary.add(event)
            self._pending_bytes += _EVENT_BYTES + size
            if len(self._pending) == _MANY and self._on_many is not None:
                self._on_many()

    @property
    def last_id(self) -> int:
        """The id of the newest event."""
        return self._last_id

    def drain(self) -> list[Event]:
        """Return the events that are pending, and remove them."""
        with self._lock:
            drained, self._pending = self._pending, []
            self._pending_bytes = 0
        return drained

    def drain_provenance(self) -> Provenance | None:
        """Return what the run is made of, if that is new since the last call."""
        with self._lock:
            if not self._is_described_anew:
                return None
            self._is_described_anew = False
            return replace(self._provenance or Provenance(), links={**self._links})

    def restore(self, events: list[Event], provenance: Provenance | None = None) -> None:
        """Prepend events that could not be stored, and restore what `drain_provenance` returned."""
        with self._lock:
            self._is_described_anew = self._is_described_anew or provenance is not None
            self._pending = events + self._pending
            self._pending_bytes += sum(map(_memory_bytes, events))

    def close(self) -> None:
        """Stop recording: the run has ended."""
        with self._lock:
            self._is_closed = True


@dataclass(slots=True)
class _Count:
    """The lines and bytes that were dropped."""

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
    """Return the size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
