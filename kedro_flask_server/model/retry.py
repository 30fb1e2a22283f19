"""Retries: what of a failed run runs again, what stays, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kedro_flask_server.model.provenance import Revision
from kedro_flask_server.model.run import RunRequest

FAILURE, START = STARTING_POINTS = ("failure", "start")
"""Where a retry begins: with what had not finished, or with all of it."""

FORCEABLE = (
    *("dataset_changed", "version_gone", "node_gone"),
    *("append", "checkpoint_confirmed"),
)
"""The types of refusals that a request may force (docs/retries.md has what they mean)."""

ALWAYS_REFUSED = (
    *("run_succeeded", "run_active", "retry_active", "retried"),
    *("nodes_unknown", "nothing_left", "secret_needed", "project_failed", "data_gone"),
)
"""The types of refusals that no request can force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How to retry a run.

    Attributes:
        start: `FAILURE` or `START`.
        params: Runtime parameters beside those of the run, or instead of some.
        force: The types of refusals that do not count, of `FORCEABLE`.
    """

    start: str = FAILURE
    params: Mapping[str, Any] = field(default_factory=dict)
    force: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a run is not retried.

    Attributes:
        type: A name of `FORCEABLE` or `ALWAYS_REFUSED`.
        loc: Where the reason is: a kind of thing and its name.
        msg: The reason, for a person.
    """

    type: str
    loc: tuple[str, ...]
    msg: str

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"type": self.type, "loc": [*self.loc], "msg": self.msg}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNode:
    """A node of a retry.

    Attributes:
        name: Its name.
        runs: Whether it runs.
        reason: Why, or why not.
    """

    name: str
    runs: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPast:
    """What a chain of retries has done with a dataset.

    Attributes:
        type: The dataset's class at the time.
        place: Its place at the time, as `DatasetUse` has it.
        version: The version that was pinned for loading.
        saved_by: The run that saved it last.
        loaded: The state of its file when it was loaded last.
        saved: Its state when it was saved last.
    """

    type: str = ""
    place: str | None = None
    version: str | None = None
    saved_by: str | None = None
    loaded: Mapping[str, Any] | None = None
    saved: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPast:
    """What a chain of retries has done, so far as it counts for the next.

    Attributes:
        request: The first run's request, with the parameters of the next.
        start: `FAILURE` or `START`.
        expected: The nodes that the first run was to run, if it left out others.
        states: The states of the nodes that have begun, by their names; of one that is to run again
            and has not been reached, none.
        begun: All states that nodes have had, in any run of the chain.
        datasets: The datasets, by their names.
    """

    request: RunRequest
    start: str
    expected: tuple[str, ...] | None
    states: Mapping[str, str]
    begun: Mapping[str, Sequence[str]]
    datasets: Mapping[str, DatasetPast]

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "request": self.request.given(),
            "start": self.start,
            "expected": self.expected,
            "states": {**self.states},
            "begun": {**self.begun},
            "datasets": {name: asdict(each) for name, each in self.datasets.items()},
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> ChainPast:
        """Return what `dump` has returned."""
        expected = data["expected"]
        return cls(
            request=RunRequest(**data["request"]),
            start=data["start"],
            expected=None if expected is None else tuple(expected),
            states=data["states"],
            begun=data["begun"],
            datasets={name: DatasetPast(**each) for name, each in data["datasets"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRun:
    """The next run of a chain, as the project of today has it.

    Attributes:
        nodes: The nodes of the pipelines, in order.
        load_versions: The versions to load, by dataset.
        refusals: What stands in the way.
        parameters: The parameters of these nodes, as they are resolved now, without secrets.
        revision: The revision of the project's code.
    """

    nodes: tuple[PlannedNode, ...] = ()
    load_versions: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    revision: Revision | None = None

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> NextRun:
        """Return what `dump` has returned."""
        revision = data["revision"]
        return cls(
            nodes=tuple(PlannedNode(**each) for each in data["nodes"]),
            load_versions=data["load_versions"],
            refusals=tuple(
                Refusal(type=each["type"], loc=tuple(each["loc"]), msg=each["msg"])
                for each in data["refusals"]
            ),
            parameters=data["parameters"],
            revision=None if revision is None else Revision(**revision),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """What a retry would run.

    Attributes:
        retry_of: The run that it retries.
        start: `FAILURE` or `START`.
        request: Its request; None where nothing could be planned.
        nodes: The nodes, and why each runs or does not.
        load_versions: The versions that it loads, by dataset, so that no newer run's data is mixed
            in.
        changed: What has changed since the run: by ``revision`` and the names of parameters, the
            value then and now.
        refusals: What stands in the way, unless it is forced.
    """

    retry_of: str
    start: str
    request: RunRequest | None = None
    nodes: tuple[PlannedNode, ...] = ()
    load_versions: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data, without the request."""
        return {
            "retry_of": self.retry_of,
            "from": self.start,
            "nodes": [asdict(each) for each in self.nodes],
            "load_versions": {**self.load_versions},
            "changed": {**self.changed},
            "refusals": [each.dump() for each in self.refusals],
        }
