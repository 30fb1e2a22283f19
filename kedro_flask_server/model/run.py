"""Runs: their requests, records, states and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from kedro_flask_server.model.data_exchange import DataRequest
from kedro_flask_server.model.queue import WaitingFor
from kedro_flask_server.model.retry_rule import RetryRule

DEFAULT_PIPELINE = "__default__"
"""The pipeline that runs if the request names none."""


class RunStatus(str, Enum):
    """The status of a run: ``queued``, then ``running``, then one of the others for good.

    A run whose cancellation was requested stays ``queued`` or ``running`` until it has ended.
    ``lost`` means that the server that executed it died unexpectedly.
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
    """A request for a run, with the meaning of ``kedro run``'s options.

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
        data: What it says of data (`DataRequest.dump`); None for a run of the catalog's data alone.
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
    data: dict[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, unchanged."""
        return {
            name: value
            for name in self.__slots__
            if (value := getattr(self, name)) not in (None, False)
        }

    @property
    def exchange(self) -> DataRequest | None:
        """What it says of data."""
        return None if self.data is None else DataRequest.load(self.data)

    @property
    def param_names(self) -> list[str]:
        """The paths of the runtime parameters that are not mappings, such as ``model.lr``."""
        return [*_paths_in(self.params or {})]

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The names of the pipelines to run, without duplicates."""
        return tuple(dict.fromkeys(self.pipeline_names or [DEFAULT_PIPELINE]))


def _paths_in(params: Mapping[str, Any]) -> Iterator[str]:
    for name, value in params.items():
        if isinstance(value, dict):
            yield from (f"{name}.{path}" for path in _paths_in(value))
        else:
            yield name


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """Details of an error.

    Attributes:
        type: The exception's ``__qualname__``.
        message: Its message: bounded, printable, free of URL credentials.
        node: The name of the node that failed, where it is known.
        traceback: The traceback, where it is known; bounded like the message.
        problems: What is wrong with the data that was given, each with ``type``, ``loc``, ``msg``
            and ``input``.
    """

    type: str
    message: str
    node: str | None = None
    traceback: str | None = None
    problems: list[dict[str, Any]] | None = None

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data, for programs of earlier versions, too."""
        shown = asdict(self)
        if self.problems is None:
            del shown["problems"]
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a run.

    Attributes:
        done: How many of its nodes have finished.
        total: How many nodes it has, without those that need not run.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        status: A final status.
        duration_ms: How long it executed, in milliseconds.
        error: Why it did not succeed; None if it did.
        error_bases: The names of the classes above that of the exception.
    """

    status: RunStatus
    duration_ms: float
    error: ErrorDetail | None = None
    error_bases: tuple[str, ...] = ()

    @property
    def errors(self) -> frozenset[str]:
        """The name of the error's class, and of those above."""
        own = () if self.error is None else (self.error.type,)
        return frozenset((*own, *self.error_bases))


class StopReason(Enum):
    """Why a run is stopped early. The value is the ``type`` of the run's error."""

    CANCEL = "RunCancelled"
    TIMEOUT = "RunTimeout"
    SHUTDOWN = "ServerStopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """The caller that submits or cancels a run.

    Attributes:
        name: The caller's name; ``""`` for an anonymous caller.
        address: The caller's address, where it is known.
        max_active: How many of the caller's runs may be queued or running; None for any number.
        max_queued: How many of the caller's runs may be queued; None for any number.
    """

    name: str = ""
    address: str = ""
    max_active: int | None = None
    max_queued: int | None = None


CANCELLED_IN_QUEUE = ErrorDetail(
    type="RunCancelled", message="The run was cancelled before it started."
)
"""Why a run that was cancelled in the queue did not succeed."""

ANONYMOUS = Submitter()
"""The submitter of a run whose caller is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as stored.

    Attributes:
        run_id: Its id, and the save version of its versioned datasets.
        project: The name of its project.
        env: Its configuration environment.
        status: Its status.
        request: The request; in a list, its pipelines alone.
        created_at: When it was admitted.
        started_at: When it began to execute, if it has.
        finished_at: When it ended, if it has.
        duration_ms: How long it executed, in milliseconds, if it has ended.
        cancel_requested_at: When its cancellation was first requested.
        progress: Its progress, where its nodes are counted.
        error: Why it did not succeed.
        submitted_by: The name of its submitter, where it is known.
        position: Its position in the queue, from 1, while it is queued.
        priority: Its priority, from -100 to 100; the highest is next.
        waiting_for: What it waits for, while it is queued.
        warnings: What was noticed about it, for a person.
        locks_digest: The digest of its locks (`model.data_access`); None where what it reads and
            writes is not known, or does not count.
        labels: Its labels.
        retry_of: The run that it retries.
        retried_by: The newest retry of it, or of the run that it is a retry of.
        attempt: Its number in the chain of retries, from 1.
        retry_rule: The rule by which it is retried if it fails.
        is_replay: Whether this request repeats an earlier one with the same idempotency key, and
            has started nothing. It describes the request, and is not stored.
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
    priority: int = 0
    waiting_for: WaitingFor | None = None
    warnings: tuple[str, ...] = ()
    locks_digest: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    retried_by: str | None = None
    attempt: int = 1
    retry_rule: RetryRule | None = None
    is_replay: bool = field(default=False, compare=False)

    @property
    def has_locks(self) -> bool:
        """Whether it and other runs keep out of each other's way."""
        return self.locks_digest is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A filter of runs; a field that is None does not restrict.

    Attributes:
        statuses: Runs in any of these states.
        pipeline: Runs of this pipeline.
        since: Runs admitted at this time or later.
        until: Runs admitted at this time or earlier.
        idempotency_key: The run submitted with this key by `submitted_by`.
        submitted_by: Runs of this submitter.
        within: Runs of these pipelines and no others.
        labels: Runs with all of these labels; a value that is None stands for any.
        has_retried: Whether to include runs that were retried; otherwise a chain of retries is
            represented by its newest run.
    """

    statuses: tuple[RunStatus, ...] = ()
    pipeline: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    idempotency_key: str | None = None
    submitted_by: str | None = None
    within: frozenset[str] | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    has_retried: bool = True


class RunPart(str, Enum):
    """Large parts of a run, which a list contains only on request."""

    REQUEST = "request"
    TRACEBACK = "traceback"


WHOLE = frozenset(RunPart)
"""All parts that a list leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A page of runs, the newest first.

    Attributes:
        runs: The runs.
        next: The cursor of the next page; None on the last.
    """

    runs: list[Run]
    next: str | None
