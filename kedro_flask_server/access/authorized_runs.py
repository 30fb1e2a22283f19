"""The runs, limited to what a caller may see and do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from kedro_flask_server.errors import ForbiddenError, RunNotEndedError, UnknownRunError
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.model.data_exchange import RunOutputs
from kedro_flask_server.model.differences import compare
from kedro_flask_server.model.event import Event, EventPage, EventType, LogPart
from kedro_flask_server.model.provenance import RunRecord, RunSummary
from kedro_flask_server.model.queue_state import QueueState
from kedro_flask_server.model.retry import RetryOptions, RetryPlan
from kedro_flask_server.model.run import (
    ErrorDetail,
    Run,
    RunFilter,
    RunPage,
    RunPart,
    RunRequest,
    Submitter,
)
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.usual import UsualDurations
from kedro_flask_server.redaction import redact_request, redact_snapshot
from kedro_flask_server.runs.served_pipeline import Call
from kedro_flask_server.runs.service import RunService

_NOT_SHOWN = "The message is not shown (setting expose_error_messages)."


class AuthorizedRuns:
    """`RunService` for one caller, hiding what the caller may not see."""

    def __init__(self, runs: RunService, caller: Caller, *, address: str = "") -> None:
        """Prepare.

        Args:
            runs: The run service.
            caller: The caller.
            address: The caller's address.
        """
        self._runs = runs
        self.caller = caller
        self._submitter = Submitter(
            name=caller.name,
            address=address,
            max_active=caller.max_active,
            max_queued=caller.max_queued,
        )
        self._sees_all = caller.pipelines is None and caller.may((Scope.READ,))
        self._seen = ""

    def submit(
        self,
        request: RunRequest,
        *,
        key: str | None,
        key_stands_for: str | None = None,
        priority: int | None,
        labels: Mapping[str, str] | None = None,
        wait_s: float,
        is_gone: Callable[[], bool],
    ) -> Run:
        """Admit a run, as `RunService.submit` does.

        Raises:
            ForbiddenError: If the caller may not run its pipelines, or not with this priority.
            QuotaError: If the caller has reached a quota.
        """
        self.refuse_forbidden(request, priority)
        run = self._runs.submit(
            request,
            key=key,
            key_stands_for=key_stands_for,
            priority=priority,
            labels=labels,
            wait_s=wait_s,
            submitter=self._submitter,
            is_gone=is_gone,
        )
        return self._shown(run)

    def run(
        self,
        request: RunRequest,
        *,
        key: str | None,
        key_stands_for: str | None = None,
        priority: int | None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None,
        is_gone: Callable[[], bool],
    ) -> Run:
        """Admit a run and wait for its end, as `RunService.run` does.

        Raises:
            ForbiddenError: As for `submit`.
            QuotaError: As for `submit`.
        """
        self.refuse_forbidden(request, priority)
        run = self._runs.run(
            request,
            key=key,
            key_stands_for=key_stands_for,
            priority=priority,
            labels=labels,
            timeout_s=timeout_s,
            submitter=self._submitter,
            is_gone=is_gone,
        )
        return self._with_visible_error(run) if run.status.is_final else self._shown(run)

    def call(
        self,
        request: RunRequest,
        *,
        folder: str,
        priority: int | None,
        labels: Mapping[str, str] | None = None,
        is_gone: Callable[[], bool],
    ) -> Call:
        """Have a served pipeline answer a call, as `RunService.call` does.

        Raises:
            ForbiddenError: As for `submit`.
            QuotaError: As for `submit`.
        """
        self.refuse_forbidden(request, priority)
        call = self._runs.call(
            request, folder=folder, labels=labels, submitter=self._submitter, is_gone=is_gone
        )
        return replace(call, run=self._with_visible_error(call.run))

    def reload(self, pipeline: str, versions: Mapping[str, str]) -> dict[str, Any]:
        """Have a served pipeline load other data, as `RunService.reload` does.

        Raises:
            ForbiddenError: If the caller may not run the pipeline.
        """
        self.refuse_forbidden(RunRequest(pipeline_names=[pipeline]), None)
        return self._runs.reload(pipeline, versions, by=self._submitter)

    def served(self, pipeline: str) -> dict[str, Any] | None:
        """Return what is served of a pipeline that the caller may run, as JSON data."""
        found = self._runs.served.describe(pipeline)
        if found is not None and found["fault"] is not None and not self.caller.sees_messages:
            found["fault"] = _NOT_SHOWN
        return found

    def refuse_forbidden(self, request: RunRequest, priority: int | None) -> None:
        """Refuse a run that the caller may not submit.

        Raises:
            ForbiddenError: If the caller may not run its pipelines, or not with this priority.
        """
        if not self.caller.may_run(request.pipelines):
            allowed = ", ".join(sorted(self.caller.pipelines or ()))
            raise ForbiddenError(f"{self.caller.name} may run these pipelines alone: {allowed}.")
        limit = self.caller.max_priority
        if priority is not None and priority > limit:
            raise ForbiddenError(
                f"{self.caller.name or 'A caller without a key'} may give runs priorities up to "
                f"{limit} (max_priority)."
            )

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            UnknownRunError: If there is no such run that the caller may see.
        """
        run = self._runs.get(run_id)
        if not self.caller.may_see(run):
            raise UnknownRunError(run_id)
        return self._shown(run)

    def record(self, run: Run) -> RunRecord:
        """Return what is stored beside a run that the caller was shown."""
        return self._runs.record(run.run_id)

    def compare(self, one: str, other: str) -> dict[str, Any]:
        """Return what differs between two runs, of which the caller may see both."""
        shown = [self.get(run_id) for run_id in (one, other)]
        first, second = ((run, self.record(run)) for run in shown)
        if not all(map(self.caller.may_see_data, shown)):
            return compare(first, second)
        values = [self._runs.data.values(run.run_id) for run in shown]
        return compare(first, second, outputs=(values[0], values[1]))

    def describe_data(self, request: RunRequest) -> dict[str, Any] | ErrorDetail:
        """Describe the data of a request, as `RunService.describe_data` does.

        Raises:
            ForbiddenError: If the caller may not run its pipelines.
        """
        self.refuse_forbidden(request, None)
        found = self._runs.describe_data(request)
        if isinstance(found, ErrorDetail) and not self.caller.sees_messages:
            return _without_message(found)
        return found

    def pipeline_names(self) -> list[str]:
        """Return the names of the pipelines that the caller may run and see, sorted."""
        allowed, known = self.caller.pipelines, self._runs.pipeline_names()
        return [name for name in known if allowed is None or name in allowed]

    def described_pipelines(self) -> list[dict[str, Any]]:
        """Describe the data of the pipelines that the caller may run, as far as that works."""
        if not self.caller.may((Scope.RUN,)):
            return []
        found = self._runs.described_pipelines(self.caller.pipelines)
        return [each for each in found if not isinstance(each, ErrorDetail)]

    def outputs(self, run_id: str) -> RunOutputs:
        """Return what is kept of the data of a run.

        Raises:
            UnknownRunError: If there is no such run that the caller may see.
            ForbiddenError: If another has submitted it, and the caller is no ``admin``.
        """
        self._refuse_others_data(self.get(run_id))
        return self._runs.data.outputs(run_id)

    def delete_outputs(self, run_id: str) -> None:
        """Delete the data of a run, given and returned.

        Raises:
            UnknownRunError: As for `outputs`.
            ForbiddenError: As for `outputs`.
            RunNotEndedError: If the run has not ended.
        """
        run = self.get(run_id)
        self._refuse_others_data(run)
        if not run.status.is_final:
            raise RunNotEndedError(run_id)
        self._runs.data.delete(run_id, self._submitter)

    def _refuse_others_data(self, run: Run) -> None:
        if not self.caller.may_see_data(run):
            raise ForbiddenError(
                "The data of another's run is seen by a key with the scope admin alone."
            )

    def _refuse_others_retry(self, run: Run) -> None:
        if run.request.data is not None:
            self._refuse_others_data(run)

    def plan_retry(self, run_id: str, options: RetryOptions) -> RetryPlan:
        """Plan a retry, as `RunService.plan_retry` does."""
        self._refuse_others_retry(self.get(run_id))
        plan = self._runs.plan_retry(run_id, options)
        if plan.request is None:
            return plan
        request = RunRequest(**redact_request(plan.request.given()))
        return replace(plan, request=request)

    def retry(
        self,
        run_id: str,
        options: RetryOptions,
        *,
        key: str | None,
        priority: int | None,
        labels: Mapping[str, str] | None = None,
        wait_s: float,
        is_gone: Callable[[], bool],
    ) -> tuple[Run, Mapping[str, Any] | None]:
        """Retry a run, as `RunService.retry` does.

        Raises:
            ForbiddenError: If the caller may not run its pipelines, not with this priority, or not
                on the data that another has given.
            QuotaError: If the caller has reached a quota.
        """
        retried = self.get(run_id)
        self.refuse_forbidden(retried.request, priority)
        self._refuse_others_retry(retried)
        run, plan = self._runs.retry(
            run_id,
            options,
            key=key,
            priority=priority,
            labels=labels,
            wait_s=wait_s,
            submitter=self._submitter,
            is_gone=is_gone,
        )
        return self._shown(run), plan

    def wait(self, run_id: str, timeout_s: float, *, is_gone: Callable[[], bool]) -> Run:
        """Wait for a run's end, as `RunService.wait` does."""
        self.get(run_id)
        return self._shown(self._runs.wait(run_id, timeout_s, is_gone=is_gone))

    def page(
        self,
        wanted: RunFilter,
        *,
        limit: int,
        cursor: str | None,
        include: Collection[RunPart] = (),
    ) -> RunPage:
        """Return runs that the caller may see, as `RunService.page` does."""
        page = self._runs.page(self._limited(wanted), limit=limit, cursor=cursor, include=include)
        # The filter selects what the caller may see; a complete request is checked once more.
        is_whole = RunPart.REQUEST in include
        seen = [run for run in page.runs if not is_whole or self.caller.may_see(run)]
        return RunPage(runs=[self._shown(run) for run in seen], next=page.next)

    def recent(self, wanted: RunFilter, limit: int) -> list[tuple[Run, RunSummary | None]]:
        """Return the newest runs that the caller may see, as `RunService.recent` does."""
        found = self._runs.recent(self._limited(wanted), limit)
        return [(self._shown(run), summary) for run, summary in found]

    def usual_durations(
        self, pipelines: tuple[str, ...], *, before: str | None = None
    ) -> UsualDurations:
        """Return how long runs usually take, of those that the caller may see.

        Args:
            pipelines: The pipelines, which the caller may run.
            before: The id of the run that they come before; None for the newest.
        """
        own = None if self.caller.may((Scope.READ,)) else self.caller.name
        return self._runs.usual_durations(pipelines, before=before, submitted_by=own)

    def _limited(self, wanted: RunFilter) -> RunFilter:
        is_limited_to_own = not self.caller.may((Scope.READ,))
        if is_limited_to_own or wanted.idempotency_key is not None:
            wanted = replace(wanted, submitted_by=self.caller.name)
        return replace(wanted, within=self.caller.pipelines)

    def cancel(self, run_id: str) -> Run:
        """Cancel a run, as `RunService.cancel` does.

        Raises:
            ForbiddenError: If it belongs to another caller.
        """
        if not self.caller.may_cancel(self.get(run_id)):
            raise ForbiddenError("Another's run is cancelled by a key with the scope admin alone.")
        return self._shown(self._runs.cancel(run_id, by=self._submitter))

    def cancel_all(self, wanted: RunFilter) -> list[str]:
        """Cancel runs, as `RunService.cancel_all` does: own ones, and for ``admin`` all."""
        if not self.caller.may(()):
            wanted = replace(wanted, submitted_by=self.caller.name)
        wanted = replace(wanted, within=self.caller.pipelines)
        return self._runs.cancel_all(wanted, by=self._submitter)

    def queue(self) -> QueueState:
        """Return the queue, without what is of others' pipelines alone."""
        return self._visible(self._runs.queue())

    def paused(self) -> list[str]:
        """Return the paused pipelines, without others' names; ``""`` stands for all."""
        allowed = self.caller.pipelines
        paused = self._runs.paused()
        return sorted(paused if allowed is None else paused & {"", *allowed})

    def pause(self, pipeline: str | None) -> QueueState:
        """Pause the queue, as `RunService.pause` does.

        Raises:
            ForbiddenError: If the caller may not run the pipeline.
        """
        self._refuse_others_queue(pipeline)
        return self._visible(self._runs.pause(pipeline, by=self._submitter))

    def resume(self, pipeline: str | None) -> QueueState:
        """Resume the queue, as `RunService.resume` does.

        Raises:
            ForbiddenError: As for `pause`.
        """
        self._refuse_others_queue(pipeline)
        return self._visible(self._runs.resume(pipeline, by=self._submitter))

    def _refuse_others_queue(self, pipeline: str | None) -> None:
        allowed = self.caller.pipelines
        if allowed is not None and pipeline not in allowed:
            raise ForbiddenError(
                f"{self.caller.name} may pause these pipelines alone: {', '.join(sorted(allowed))}."
            )

    def _visible(self, state: QueueState) -> QueueState:
        runs = [self._shown(run) for run in state.runs if self.caller.may_see(run)]
        state = replace(state, runs=runs)
        allowed = self.caller.pipelines
        return state if allowed is None else state.within(allowed)

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        limit: int = 1000,
        kind: EventType | None = None,
        wait_s: float = 0,
    ) -> EventPage:
        """Return a page of a run's events, as `RunService.events` does."""
        if not self._sees_all and self._seen != run_id:
            self.get(run_id)
            self._seen = run_id
        page = self._runs.events(run_id, after=after, limit=limit, kind=kind, wait_s=wait_s)
        if self.caller.sees_messages:
            return page
        events = [_silent(event) for event in page.events if event.type != EventType.LOG]
        return EventPage(events=events, next=page.next)

    def log(
        self,
        run: Run,
        *,
        before: int | None = None,
        node: str | None = None,
        text: str | None = None,
        limit: int,
    ) -> LogPart:
        """Return a part of the log of a run that the caller was shown, as `RunService.log` does."""
        if not self.caller.sees_messages:
            return LogPart(events=[], has_earlier=False)
        return self._runs.log(run.run_id, before=before, node=node, text=text, limit=limit)

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project; `describe` limits that to what the caller may see."""
        snapshot = self._runs.snapshot(params)
        if isinstance(snapshot, ErrorDetail) and not self.caller.sees_messages:
            return _without_message(snapshot)
        return snapshot

    def describe(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the parts of a snapshot that belong to the caller's pipelines."""
        content = snapshot.content
        if self.caller.pipelines is not None:
            content = _of_pipelines(content, self.caller.pipelines)
        shown: dict[str, Any] = redact_snapshot(content)
        return shown

    def _shown(self, run: Run) -> Run:
        """Return a run as the caller may see it; the request of a queued run would be verbatim."""
        given = redact_request(run.request.given())
        if "data" in given:  # where it lies is nobody's concern
            given["data"] = {**given["data"], "folder": None}
        return self._with_visible_error(replace(run, request=RunRequest(**given)))

    def _with_visible_error(self, run: Run) -> Run:
        """Return a run with as much of its error as the caller may see."""
        if run.error is not None and not self.caller.may_see_data(run):
            run = replace(run, error=replace(run.error, problems=None))
        if run.error is None or self.caller.sees_messages:
            return run
        return replace(run, error=_without_message(run.error))


def _without_message(error: ErrorDetail) -> ErrorDetail:
    return ErrorDetail(type=error.type, message=_NOT_SHOWN)


def _silent(event: Event) -> Event:
    error = event.data.get("error")
    if not isinstance(error, dict):
        return event
    shown = {name: value for name, value in error.items() if name == "type"}
    return replace(event, data={**event.data, "error": {**shown, "message": _NOT_SHOWN}})


def _of_pipelines(snapshot: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the parts of a snapshot for some pipelines, with their inputs and outputs."""
    pipelines = [each for each in snapshot["pipelines"] if each["name"] in names]
    used = {
        str(name).split("@")[0]
        for pipeline in pipelines
        for node in pipeline["nodes"]
        for name in [*node["inputs"], *node["outputs"]]
    }
    parameters = {
        name.removeprefix("params:").split(".")[0] for name in used if name.startswith("params:")
    }
    return {
        **snapshot,
        "pipelines": pipelines,
        "datasets": {
            name: each for name, each in snapshot["datasets"].items() if name.split("@")[0] in used
        },
        "parameters": [
            name for name in snapshot["parameters"] if "parameters" in used or name in parameters
        ],
    }
