"""What a run was made of, and what became of its nodes and datasets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.redaction import SECRETS, redact_user_info
from kedro_flask_server.text import bounded, printable, rfc3339, visible

FINISHED, FAILED, INTERRUPTED, NOT_STARTED = "finished", "failed", "interrupted", "not_started"
"""The states of the nodes of a run that has ended."""

PARTS = ("nodes", "datasets", "parameters")
"""What of a provenance may be left out for its size."""

_STATES: Mapping[str, str] = {
    EventType.NODE_STARTED: INTERRUPTED,
    EventType.NODE_FINISHED: FINISHED,
    EventType.NODE_FAILED: FAILED,
}
_ACTIONS: Mapping[str, str] = {
    EventType.DATASET_LOADED: "loaded",
    EventType.DATASET_SAVED: "saved",
}
_SHOWN = ("size_bytes", "modified_at", "etag", "rows")

# Per run; what is beyond is in its events alone.
_MAX_NODES = 1_000
_MAX_DATASETS = 1_000

_LINK = re.compile(r"https?://[!-~]+")
_MAX_URL_CHARS = 2_000
_MAX_TITLE_CHARS = 200


def checked_link(title: str, url: str) -> tuple[str, str]:
    """Return the title and the URL of a link, safe to store and show.

    Raises:
        ValueError: If the URL is not one of HTTP, or too long.
    """
    if not _LINK.fullmatch(url) or len(url) > _MAX_URL_CHARS:
        raise ValueError(f"a link has a URL of HTTP with up to {_MAX_URL_CHARS} characters")
    shown = visible(bounded(printable(SECRETS.redact(title)), _MAX_TITLE_CHARS))
    return shown, redact_user_info(SECRETS.redact(url))


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The revision of a project's code.

    Attributes:
        id: A commit of git, or what the setting ``project_revision`` says.
        branch: The branch, where there is one.
        is_clean: Whether no file of the project differed from the commit; None if not known.
    """

    id: str
    branch: str | None = None
    is_clean: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUse:
    """A dataset of a run.

    Attributes:
        type: Its class, as in the catalog.
        place: Its path or table, without secrets.
        version: The version that the run loads, where it is versioned.
        is_versioned: Whether it is.
    """

    type: str
    place: str | None = None
    version: str | None = None
    is_versioned: bool = False

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "type": self.type,
            "place": self.place,
            "version": self.version,
            "is_versioned": self.is_versioned,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a run was made of, as of its start.

    Attributes:
        versions: The versions of Python, Kedro, this package and the project's plugins.
        revision: The revision of the project's code, where it is known.
        machine: The name of the machine that executed it.
        nodes: The names of the nodes that were to run, in order.
        parameters: The parameters of these nodes, by their names, as they were resolved, without
            secrets.
        datasets: The datasets of these nodes, by their names.
        links: Titles and URLs that hooks and nodes have added.
        lacks: What was left out for its size, in part: ``nodes``, ``datasets``, ``parameters``.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    revision: Revision | None = None
    machine: str | None = None
    nodes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, DatasetUse] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "versions": {**self.versions},
            "revision": None if self.revision is None else asdict(self.revision),
            "machine": self.machine,
            "nodes": [*self.nodes],
            "parameters": {**self.parameters},
            "datasets": {name: each.dump() for name, each in self.datasets.items()},
            "links": {**self.links},
            "lacks": [*self.lacks],
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Provenance:
        """Return what `dump` has returned; what a later version adds is left out.

        Raises:
            ValueError: If it is something else.
        """
        try:
            revision = data["revision"]
            return cls(
                versions={str(name): str(each) for name, each in data["versions"].items()},
                revision=None if revision is None else Revision(**_known(Revision, revision)),
                machine=data["machine"],
                nodes=tuple(map(str, data["nodes"])),
                parameters=dict(data["parameters"]),
                datasets={
                    str(name): DatasetUse(**_known(DatasetUse, each))
                    for name, each in data["datasets"].items()
                },
                links={str(title): str(url) for title, url in data["links"].items()},
                lacks=tuple(map(str, data["lacks"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a provenance: {error!r}") from error


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in kind.__slots__ if name in data}


@dataclass(slots=True)
class NodeSummary:
    """A node of a run, in brief.

    Attributes:
        state: `FINISHED`, `FAILED`, `INTERRUPTED`, or `NOT_STARTED`.
        started_at: When it began, in RFC 3339.
        duration_ms: How long it took, in milliseconds.
    """

    state: str
    started_at: str | None = None
    duration_ms: float | None = None


@dataclass(slots=True)
class RunSummary:
    """The nodes and datasets of a run, in brief, from its events.

    Attributes:
        nodes: The nodes that have started, by their names, in order.
        datasets: What was loaded and saved: for each dataset, by ``loaded`` and ``saved``, its
            size in bytes, the time of its file, its ETag and its number of rows, where known.
        is_whole: Whether all nodes and datasets are in it.
    """

    nodes: dict[str, NodeSummary] = field(default_factory=dict)
    datasets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    is_whole: bool = True

    def add(self, event: Event, *, is_bounded: bool = True) -> None:
        """Add an event.

        Args:
            event: An event; those of no node and no dataset are left out.
            is_bounded: Whether to leave out nodes and datasets beyond a number.
        """
        state = _STATES.get(event.type)
        if state is not None:
            self._add_node(str(event.data.get("node")), state, event, is_bounded=is_bounded)
            return
        action = _ACTIONS.get(event.type)
        if action is not None:
            name = str(event.data.get("dataset"))
            if is_bounded and len(self.datasets) >= _MAX_DATASETS and name not in self.datasets:
                self.is_whole = False
                return
            shown = {each: event.data[each] for each in _SHOWN if each in event.data}
            self.datasets.setdefault(name, {})[action] = shown

    def _add_node(self, name: str, state: str, event: Event, *, is_bounded: bool) -> None:
        node = self.nodes.get(name)
        if node is None:
            if is_bounded and len(self.nodes) >= _MAX_NODES:
                self.is_whole = False
                return
            node = self.nodes[name] = NodeSummary(state)
        node.state = state
        if state == INTERRUPTED:
            node.started_at = rfc3339(event.time)
        else:
            taken_ms = event.data.get("duration_ms")
            # A run's code can emit events, too.
            is_number = isinstance(taken_ms, (int, float)) and math.isfinite(taken_ms)
            node.duration_ms = taken_ms if is_number else None

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunSummary:
        """Return the summary of all of some events."""
        summary = cls()
        for event in events:
            summary.add(event, is_bounded=False)
        return summary

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        nodes = {
            name: {
                "state": each.state,
                "started_at": each.started_at,
                "duration_ms": each.duration_ms,
            }
            for name, each in self.nodes.items()
        }
        return {"nodes": nodes, "datasets": self.datasets, "is_whole": self.is_whole}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> RunSummary:
        """Return what `dump` has returned."""
        nodes = {
            name: NodeSummary(**_known(NodeSummary, each)) for name, each in data["nodes"].items()
        }
        return cls(nodes=nodes, datasets=dict(data["datasets"]), is_whole=data["is_whole"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is stored of a run beside its row.

    Attributes:
        provenance: What it was made of; None for a run of an earlier version, or one that has not
            begun.
        summary: Its nodes and datasets.
        has_stored_summary: Whether the summary was stored with its end; otherwise it is what the
            events tell.
        submitted_from: The address that it was sent from, where it is known.
        plan: What a retry runs and why (`model.retry.RetryPlan.dump`); None for all of a request.
    """

    provenance: Provenance | None
    summary: RunSummary
    has_stored_summary: bool = False
    submitted_from: str | None = None
    plan: Mapping[str, Any] | None = None
