"""What the page of a run shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.provenance import NOT_STARTED, RunRecord
from kedro_flask_server.model.run import Run
from kedro_flask_server.model.usual import UsualDurations
from kedro_flask_server.web.pages.formats import node_state

_MAX_BARS = 300
_WIDTH, _THINNEST = 100.0, 0.2
_BAR_HEIGHT = 18

_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in ', re.MULTILINE)
_INSTALLED = re.compile(r"site-packages|dist-packages|[/\\]lib[/\\]python\d|<frozen|^<")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node of a run, as its page shows it.

    Attributes:
        name: Its name.
        key: What its row is called in the page.
        state: Its state, as a word of `formats.MARKS`.
        started_at: When it began.
        duration_ms: How long it took, in milliseconds.
        usual_ms: How long it usually takes.
        is_slow: Whether it took much longer.
    """

    name: str
    key: str
    state: str
    started_at: str | None = None
    duration_ms: float | None = None
    usual_ms: float | None = None
    is_slow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A node in a timeline.

    Attributes:
        name: Its name.
        state: Its state.
        x: Where it begins, in percent.
        width: How long it is, in percent.
        y: Its row, in pixels.
        duration_ms: How long it took, in milliseconds.
    """

    name: str
    state: str
    x: float
    width: float
    y: int
    duration_ms: float


class RunView:
    """A run, as its page shows it; it follows the run's events."""

    def __init__(self, run: Run, record: RunRecord, usual: UsualDurations) -> None:
        """Prepare.

        Args:
            run: The run, as its caller may see it.
            record: What is stored beside it.
            usual: How long such runs take.
        """
        self.run = run
        self.record = record
        self.usual = usual
        expected = () if record.provenance is None else record.provenance.nodes
        self._names = [*dict.fromkeys([*expected, *record.summary.nodes])]

    def add(self, events: Iterable[Event]) -> list[NodeRow]:
        """Add what has happened, and return the nodes that it changes.

        The run itself changes, too: set `run` anew.
        """
        changed: dict[str, None] = {}
        for event in events:
            if event.type != EventType.LOG:
                self.record.summary.add(event, is_bounded=False)
            if event.type.startswith("node."):
                changed[str(event.data.get("node"))] = None
        known = {*self._names}
        self._names += [name for name in changed if name not in known]
        return [self._row(name) for name in changed]

    @property
    def nodes(self) -> list[NodeRow]:
        """Its nodes, in their order."""
        return [self._row(name) for name in self._names]

    @property
    def current(self) -> list[str]:
        """The nodes that execute."""
        return [each.name for each in self.nodes if each.state == "running"]

    @property
    def has_events(self) -> bool:
        """Whether what its nodes do is known; a runner of processes may not tell."""
        return bool(self.record.summary.nodes)

    @property
    def waited_ms(self) -> float | None:
        """How long it waited before it began."""
        begin = self.run.started_at
        return None if begin is None else (begin - self.run.created_at).total_seconds() * 1000

    def _row(self, name: str) -> NodeRow:
        node = self.record.summary.nodes.get(name)
        state = NOT_STARTED if node is None else node.state
        duration_ms = None if node is None else node.duration_ms
        return NodeRow(
            name=name,
            key=key_of(name),
            state=node_state(state, run_status=self.run.status.value),
            started_at=None if node is None else node.started_at,
            duration_ms=duration_ms,
            usual_ms=self.usual.nodes.get(name),
            is_slow=self.usual.is_slow(name, duration_ms),
        )

    def timeline(self) -> dict[str, Any] | None:
        """Return the bars of what happened when; None before it began."""
        run = self.run
        if run.started_at is None:
            return None
        end = run.finished_at or datetime.now(timezone.utc)
        total_ms = max((end - run.created_at).total_seconds() * 1000, 1.0)
        scale = _WIDTH / total_ms
        found = [(row, _since(run.created_at, row.started_at)) for row in self.nodes]
        begun = [(row, at_ms) for row, at_ms in found if at_ms is not None]
        left_out = max(0, len(begun) - _MAX_BARS)
        if left_out:  # the longest say most
            begun.sort(key=lambda each: _taken(each[0], total_ms), reverse=True)
            begun = sorted(begun[:_MAX_BARS], key=lambda each: each[1])
        bars = [
            Bar(
                name=row.name,
                state=row.state,
                x=round(min(at_ms * scale, _WIDTH - _THINNEST), 2),
                width=round(max(taken_ms * scale, _THINNEST), 2),
                y=(number + 1) * _BAR_HEIGHT,
                duration_ms=taken_ms,
            )
            for number, (row, at_ms) in enumerate(begun)
            for taken_ms in [_taken(row, total_ms - at_ms)]
        ]
        return {
            "waited_ms": self.waited_ms or 0.0,
            "waited": round(min((self.waited_ms or 0.0) * scale, _WIDTH), 2),
            "bars": bars,
            "height": (len(bars) + 2) * _BAR_HEIGHT,
            "total_ms": total_ms,
            "left_out": left_out,
            "ticks": [(share, total_ms * share / 100) for share in (25, 50, 75, 100)],
        }


def _taken(row: NodeRow, so_far_ms: float) -> float:
    return so_far_ms if row.duration_ms is None else row.duration_ms


def key_of(node: str) -> str:
    """Return what stands for a node's name in the ids of a page."""
    return hashlib.blake2b(node.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _since(begin: datetime, time: str | None) -> float | None:
    if time is None:
        return None
    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return max(0.0, (moment - begin).total_seconds() * 1000)


def own_frame(traceback: str | None, project_path: str) -> str | None:
    """Return the last frame of a traceback that is in the project, with its lines.

    Args:
        traceback: The traceback.
        project_path: The project's folder, with a slash, from which the file is shown.
    """
    frames = [*_frames(traceback or "")]
    own = [text for file, text in frames if file.startswith(project_path)]
    own = [text for text in own if not _INSTALLED.search(text.splitlines()[0])]
    others = [text for file, text in frames if not _INSTALLED.search(file)]
    found = own or others
    return found[-1].replace(f'"{project_path}', '"', 1) if found else None


def _frames(traceback: str) -> Iterator[tuple[str, str]]:
    starts = [*_FRAME.finditer(traceback)]
    for number, found in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(traceback)
        lines = traceback[found.start() : end].splitlines()
        kept = [lines[0], *(each for each in lines[1:] if each.startswith("    "))]
        yield found["file"], "\n".join(kept)


def changes_in(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs between a run and the last that succeeded, as far as it explains."""
    wanted = ("code", "versions", "parameters", "datasets")
    return {name: found[name] for name in wanted if found.get(name)}
