"""Plans retries: from what a chain of runs has done, and what the project of today has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kedro_flask_server.errors import RetryRefusedError, UnknownRunError
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.differences import differences
from kedro_flask_server.model.provenance import RunRecord
from kedro_flask_server.model.retry import (
    FAILURE,
    START,
    ChainPast,
    DatasetPast,
    NextRun,
    Refusal,
    RetryOptions,
    RetryPlan,
)
from kedro_flask_server.model.run import ErrorDetail, Run, RunRequest, RunStatus
from kedro_flask_server.model.submission import RetryOf
from kedro_flask_server.redaction import REDACTED
from kedro_flask_server.store import RunStore

# Of a chain; what came before does not count for a retry.
_MAX_RUNS = 100

# The refusals that name another run of the chain.
_OF_NEWER = ("retry_active", "retried")

Link = tuple[Run, RunRecord]
"""A run of a chain, and what is stored beside it."""


class Retries:
    """Plans the retries of runs."""

    def __init__(self, store: RunStore, executor: Executor) -> None:
        """Prepare.

        Args:
            store: Has the runs.
            executor: Has the project.
        """
        self._store = store
        self._executor = executor

    def plan(self, run_id: str, options: RetryOptions) -> RetryPlan:
        """Return what a retry of a run would run, and what stands in its way.

        Raises:
            UnknownRunError: If there is no such run.
        """
        chain = self._chain(run_id)
        since_start = _since_start(chain)
        plan = RetryPlan(retry_of=run_id, start=options.start)
        refusals = [*self._refusals(chain[-1][0], since_start, options)]
        if refusals:
            return replace(plan, refusals=tuple(refusals))
        past = _past_of(chain, since_start, options)
        found = self._executor.plan_next_run(past)
        if isinstance(found, ErrorDetail):
            message = f"{found.type}: {found.message}"
            failed = Refusal(type="project_failed", loc=("project",), msg=message)
            return replace(plan, refusals=(failed,))
        refusals += found.refusals
        if not any(node.runs for node in found.nodes):
            message = "All nodes have finished; a retry from the start runs them again."
            refusals.append(Refusal(type="nothing_left", loc=("run", run_id), msg=message))
        return replace(
            plan,
            request=_next_request(past, found),
            nodes=found.nodes,
            load_versions=found.load_versions,
            changed=_changes(since_start, found),
            refusals=tuple(refusals),
        )

    def checked(self, run_id: str, options: RetryOptions) -> tuple[RetryPlan, RetryOf]:
        """Return the plan of a retry that nothing stands in the way of, but for what is forced.

        Returns:
            The plan, and the same as it is stored with the retry.

        Raises:
            RetryRefusedError: If something does.
            UnknownRunError: If there is no such run.
        """
        plan = self.plan(run_id, options)
        refusals = [each for each in plan.refusals if each.type not in options.force]
        if refusals or plan.request is None:
            newer = next((each.loc[-1] for each in refusals if each.type in _OF_NEWER), None)
            raise RetryRefusedError([each.dump() for each in refusals], newer)
        return plan, RetryOf(run_id=run_id, plan=json.dumps(plan.dump()))

    def _chain(self, run_id: str) -> list[Link]:
        """Return a run and those before it in its chain, the oldest first."""
        chain: list[Link] = []
        wanted: str | None = run_id
        while wanted is not None and len(chain) < _MAX_RUNS:
            run, record = self._store.get(wanted), self._store.record(wanted)
            if run is None or record is None:
                break
            chain.insert(0, (run, record))
            wanted = run.retry_of
        if not chain:
            raise UnknownRunError(run_id)
        return chain

    def _refusals(
        self, run: Run, since_start: Sequence[Link], options: RetryOptions
    ) -> Iterator[Refusal]:
        """Yield what is known to stand in the way without the project; nothing of it is forced."""
        run_id = run.run_id
        if run.status is RunStatus.SUCCESS:
            yield Refusal(type="run_succeeded", loc=("run", run_id), msg="The run has succeeded.")
            return
        if not run.status.is_final:
            yield Refusal(type="run_active", loc=("run", run_id), msg="The run has not ended.")
            return
        if run.retried_by is not None:
            newest = self._store.get(run.retried_by)
            is_active = newest is not None and not newest.status.is_final
            how = "has not ended" if is_active else "goes on with what this one has done"
            yield Refusal(
                type="retry_active" if is_active else "retried",
                loc=("run", run.retried_by),
                msg=f"Run {run.retried_by} of the same chain of retries {how}.",
            )
            return
        if options.start == FAILURE and any(map(_has_unknown_nodes, since_start)):
            message = (
                "Which nodes have finished is not known: the run is of an earlier version, its "
                "runner tells no events, or it has too many nodes or datasets. It can be retried "
                "from the start."
            )
            yield Refusal(type="nodes_unknown", loc=("run", run_id), msg=message)
        if run.request.data is not None and self._store.data.of(run_id).deleted_at is not None:
            message = "The data that its request gave was deleted; send it again."
            yield Refusal(type="data_gone", loc=("run", run_id), msg=message)
        request = _merged_request(run, options).given()
        for path in _redacted_in(request, ()):
            message = "A secret of the request is not stored; it is to be given again in params."
            yield Refusal(type="secret_needed", loc=path, msg=message)


def _since_start(chain: Sequence[Link]) -> Sequence[Link]:
    """Return the end of a chain from its last run that began from the start."""
    for at in reversed(range(len(chain))):
        plan = chain[at][1].plan
        if plan is None or plan.get("from") == START:  # the first, or a retry by rule
            return chain[at:]
    return chain


def _has_unknown_nodes(link: Link) -> bool:
    run, record = link
    if run.started_at is None:
        return False
    made_of = record.provenance
    if made_of is None:  # that of an earlier version, unless it ended before it told any
        return not record.has_stored_summary
    if {"nodes", "datasets"}.intersection(made_of.lacks):
        return True
    return bool(made_of.nodes) and run.progress is None


def _past_of(
    chain: Sequence[Link], since_start: Sequence[Link], options: RetryOptions
) -> ChainPast:
    """Return what a chain has done: of each node and dataset, what was done last."""
    states: dict[str, str] = {}
    datasets: dict[str, DatasetPast] = {}
    described = [each for _, each in since_start if each.provenance and each.provenance.nodes]
    for run, each in since_start:
        made_of, summary = each.provenance, each.summary
        for name in () if made_of is None else made_of.nodes:
            states.pop(name, None)
        states.update({name: node.state for name, node in summary.nodes.items()})
        for name, use in () if made_of is None else made_of.datasets.items():
            known = datasets.get(name, DatasetPast())
            done = summary.datasets.get(name, {})
            datasets[name] = DatasetPast(
                type=use.type,
                place=use.place,
                version=use.version or known.version,
                saved_by=run.run_id if "saved" in done else known.saved_by,
                loaded=done.get("loaded", known.loaded),
                saved=done.get("saved", known.saved),
            )
    first = since_start[0][0].request
    expected = None
    if first.only_missing_outputs and described and described[0].provenance is not None:
        expected = described[0].provenance.nodes
    begun: dict[str, set[str]] = {}
    for _, each in chain:
        for name, node in each.summary.nodes.items():
            begun.setdefault(name, set()).add(node.state)
    return ChainPast(
        request=replace(first, params=_merged_request(chain[-1][0], options).params),
        # Where no node was reached, nothing has finished.
        # What a request gave, and what its run was to return, is not with the project's data.
        start=options.start if described and first.data is None else START,
        expected=expected,
        states=states,
        begun={name: sorted(each) for name, each in begun.items()},
        datasets=datasets,
    )


def _merged_request(run: Run, options: RetryOptions) -> RunRequest:
    """Return the request of a run with other parameters."""
    params = _merged(run.request.params or {}, options.params)
    return replace(run.request, params=params or None)


def _merged(params: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**params}
    for name, value in others.items():
        known = merged.get(name)
        is_nested = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(known, value) if is_nested else value  # type: ignore[arg-type]
    return merged


def _next_request(past: ChainPast, found: NextRun) -> RunRequest:
    """Return the request of a retry: exactly its nodes, with its versions pinned."""
    given = past.request
    if past.start != FAILURE:
        return given
    return RunRequest(
        pipeline_names=given.pipeline_names,
        node_names=[node.name for node in found.nodes if node.runs],
        runner=given.runner,
        is_async=given.is_async,
        load_versions={**found.load_versions, **(given.load_versions or {})} or None,
        params=given.params,
    )


def _changes(since_start: Sequence[Link], found: NextRun) -> dict[str, Any]:
    """Return what has changed since the runs of a chain: the revision, and parameters of nodes."""
    described = [each.provenance for _, each in since_start if each.provenance is not None]
    if not described:
        return {}
    sides = ("before", "after")
    newest = described[-1].revision
    revisions = [None if each is None else each.id for each in (newest, found.revision)]
    changed: dict[str, Any] = {}
    if revisions[0] != revisions[1]:
        changed["revision"] = dict(zip(sides, revisions, strict=True))
    # What stays was made with the first of them.
    before: dict[str, Any] = {}
    for each in reversed(described):
        before.update(each.parameters)
    has_nodes = any(each.nodes for each in described)
    parameters = differences(before, found.parameters, sides) if has_nodes else {}
    return {**changed, "parameters": parameters} if parameters else changed


def _redacted_in(content: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield where a request has lost a secret."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _redacted_in(value, (*path, str(name)))
    elif isinstance(content, (list, tuple)):
        for at, value in enumerate(content):
            yield from _redacted_in(value, (*path, str(at)))
    elif isinstance(content, str) and REDACTED in content:
        yield path
