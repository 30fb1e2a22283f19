"""What a run is: the request for it and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """Why something failed.

    Attributes:
        type: The exception's ``__qualname__``.
        message: Its message: bounded, printable, free of URL credentials.
    """

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        run_id: The run's id, which is also the save version of its versioned datasets.
        duration_ms: How long it executed, in milliseconds.
        error: Why it failed; None where it succeeded.
    """

    run_id: str
    duration_ms: float
    error: ErrorDetail | None = None

    @property
    def status(self) -> Literal["success", "failure"]:
        """Success where there is no error."""
        return "success" if self.error is None else "failure"
