"""What a run is: the request for it, its row, its states and its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

DEFAULT_PIPELINE = "__default__"
"""The pipeline that runs where none is named."""


class RunStatus(str, Enum):
    """Where a run stands: ``queued``, then ``running``, then one of the others for good.

    A run that is to be cancelled stays ``queued`` or ``running`` until it has ended. ``lost``
    means that the server that executed it died without a word.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    LOST = "lost"

    def __str__(self) -> str:
        return self.value

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self not in ACTIVE


ACTIVE = (RunStatus.QUEUED, RunStatus.RUNNING)
"""The states of a run that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a client asks to be run, with the meaning of ``kedro run``'s options.

    None and an empty list both mean "not given".

    Attributes:
        pipeline_names: Registered pipelines to run, joined; None runs ``__default__``.
        from_inputs: Datasets to start from.
        to_outputs: Datasets to end with.
        from_nodes: Nodes to start from.
        to_nodes: Nodes to end with.
        node_names: Nodes to run, and no others.
        tags: Run the nodes that carry any of these.
        namespaces: Run the nodes in these namespaces.
        runner: A class of ``kedro.runner``, or the dotted path of a permitted one.
        is_async: Load and save each node's datasets in threads.
        only_missing_outputs: Leave out nodes whose outputs exist.
        load_versions: Dataset to the version to load.
        params: Runtime parameters, as ``kedro run --params``.
    """

    pipeline_names: list[str] | None = None
    from_inputs: list[str] | None = None
    to_outputs: list[str] | None = None
    from_nodes: list[str] | None = None
    to_nodes: list[str] | None = None
    node_names: list[str] | None = None
    tags: list[str] | None = None
    namespaces: list[str] | None = None
    runner: str | None = None
    is_async: bool = False
    only_missing_outputs: bool = False
    load_versions: dict[str, str] | None = None
    params: dict[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """Return those fields that say something, as they are."""
        return {
            name: value
            for name in self.__slots__
            if (value := getattr(self, name)) not in (None, False)
        }

    @property
    def param_names(self) -> list[str]:
        """The runtime parameters that are no mappings, each by its path: ``model.lr``."""
        return [*_paths_in(self.params or {})]

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The names of the pipelines that are to run, each once."""
        return tuple(dict.fromkeys(self.pipeline_names or [DEFAULT_PIPELINE]))


def _paths_in(params: Mapping[str, Any]) -> Iterator[str]:
    for name, value in params.items():
        if isinstance(value, dict):
            yield from (f"{name}.{path}" for path in _paths_in(value))
        else:
            yield name


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """Why something failed.

    Attributes:
        type: The exception's ``__qualname__``.
        message: Its message: bounded, printable, free of URL credentials.
        node: The name of the node that failed, where it is known.
        traceback: Where it failed, where that is known: bounded as the message is.
    """

    type: str
    message: str
    node: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        done: How many of its nodes have finished.
        total: How many it has, those left out that need not run.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """What a project is made of.

    Attributes:
        content: All fields of ``kedro.inspection``'s snapshot, as plain data.
        fingerprint: What it was made of, as short text; None where that cannot be told.
        sources: The files of Python that it says lines of.
    """

    content: Mapping[str, Any]
    fingerprint: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        status: One of the states that are final.
        duration_ms: How long it executed, in milliseconds.
        error: Why it did not succeed; None where it did.
    """

    status: RunStatus
    duration_ms: float
    error: ErrorDetail | None = None


class StopReason(Enum):
    """Why a run is to stop before its end. The value is the ``type`` of the run's error."""

    CANCEL = "RunCancelled"
    TIMEOUT = "RunTimeout"
    SHUTDOWN = "ServerStopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Who sends a run, or cancels one.

    Attributes:
        name: Their name; ``""`` for an anonymous caller.
        address: Where from, where that is known.
        max_active: How many of their runs may be queued or running; None for any number.
        max_queued: How many of their runs may be queued; None for any number.
    """

    name: str = ""
    address: str = ""
    max_active: int | None = None
    max_queued: int | None = None


ANONYMOUS = Submitter()
"""The submitter of a run whose caller is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """That somebody did something, or was refused.

    Attributes:
        time: When.
        who: Their name; ``""`` where it is not known.
        what: ``run.submitted``, ``run.cancelled``, ``key.created``, ``key.revoked`` or
            ``request.refused``.
        subject: The run, the key, or the request.
        address: Where from, where that is known.
    """

    time: datetime
    who: str
    what: str
    subject: str
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the store has it.

    Attributes:
        run_id: Its id, and the save version of its versioned datasets.
        project: The name of the project that it belongs to.
        env: The configuration environment that it belongs to.
        status: Where it stands.
        request: What is to run; in a list, its pipelines alone.
        created_at: When it was taken in.
        started_at: When it began to execute, if it has.
        finished_at: When it ended, if it has.
        duration_ms: How long it executed, in milliseconds, if it has ended.
        cancel_requested_at: When it was first asked to be cancelled.
        progress: How far it is, where its nodes are counted.
        error: Why it did not succeed.
        submitted_by: Who sent it, where that is known.
        position: Its position in the queue, from 1, while it is queued.
        is_replay: Whether it was sent before, with the same idempotency key: this request has
            started nothing. It is about the request, and not stored.
    """

    run_id: str
    project: str
    env: str
    status: RunStatus
    request: RunRequest
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: float | None = None
    cancel_requested_at: datetime | None = None
    progress: Progress | None = None
    error: ErrorDetail | None = None
    submitted_by: str | None = None
    position: int | None = None
    is_replay: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for; None does not choose.

    Attributes:
        statuses: Those in any of these states.
        pipeline: Those that run this pipeline.
        since: Those taken in at this time or later.
        until: Those taken in at this time or earlier.
        idempotency_key: The run that was sent with this key, by `submitted_by`.
        submitted_by: Those of this submitter.
        within: Those that run these pipelines and no others.
    """

    statuses: tuple[RunStatus, ...] = ()
    pipeline: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    idempotency_key: str | None = None
    submitted_by: str | None = None
    within: frozenset[str] | None = None


class RunPart(str, Enum):
    """What can be large of a run, and is in a list where it is asked for."""

    REQUEST = "request"
    TRACEBACK = "traceback"


WHOLE = frozenset(RunPart)
"""All that is left out of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some of the runs that were asked for, the newest first.

    Attributes:
        runs: The runs.
        next: A cursor for those that follow; None where there are no more.
    """

    runs: list[Run]
    next: str | None
