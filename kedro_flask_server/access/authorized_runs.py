"""The runs, limited to what a caller may see and do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from kedro_flask_server.errors import ForbiddenError, UnknownRunError
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.model.event import Event, EventPage, EventType
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
from kedro_flask_server.redaction import redact_request, redact_snapshot
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
        self, request: RunRequest, *, key: str | None, wait_s: float, is_gone: Callable[[], bool]
    ) -> Run:
        """Admit a run, as `RunService.submit` does.

        Raises:
            ForbiddenError: If the caller may not run its pipelines.
            QuotaError: If the caller has reached a quota.
        """
        self._refuse_others_pipelines(request)
        run = self._runs.submit(
            request, key=key, wait_s=wait_s, submitter=self._submitter, is_gone=is_gone
        )
        return self._shown(run)

    def run(
        self,
        request: RunRequest,
        *,
        key: str | None,
        timeout_s: float | None,
        is_gone: Callable[[], bool],
    ) -> Run:
        """Admit a run and wait for its end, as `RunService.run` does.

        Raises:
            ForbiddenError: As for `submit`.
            QuotaError: As for `submit`.
        """
        self._refuse_others_pipelines(request)
        run = self._runs.run(
            request, key=key, timeout_s=timeout_s, submitter=self._submitter, is_gone=is_gone
        )
        return self._with_visible_error(run) if run.status.is_final else self._shown(run)

    def _refuse_others_pipelines(self, request: RunRequest) -> None:
        if not self.caller.may_run(request.pipelines):
            allowed = ", ".join(sorted(self.caller.pipelines or ()))
            raise ForbiddenError(f"{self.caller.name} may run these pipelines alone: {allowed}.")

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            UnknownRunError: If there is no such run that the caller may see.
        """
        run = self._runs.get(run_id)
        if not self.caller.may_see(run):
            raise UnknownRunError(run_id)
        return self._shown(run)

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
        is_limited_to_own = not self.caller.may((Scope.READ,))
        if is_limited_to_own or wanted.idempotency_key is not None:
            wanted = replace(wanted, submitted_by=self.caller.name)
        wanted = replace(wanted, within=self.caller.pipelines)
        page = self._runs.page(wanted, limit=limit, cursor=cursor, include=include)
        # The filter selects what the caller may see; a complete request is checked once more.
        is_whole = RunPart.REQUEST in include
        seen = [run for run in page.runs if not is_whole or self.caller.may_see(run)]
        return RunPage(runs=[self._shown(run) for run in seen], next=page.next)

    def cancel(self, run_id: str) -> Run:
        """Cancel a run, as `RunService.cancel` does.

        Raises:
            ForbiddenError: If it belongs to another caller.
        """
        if not self.caller.may_cancel(self.get(run_id)):
            raise ForbiddenError("Another's run is cancelled by a key with the scope admin alone.")
        return self._shown(self._runs.cancel(run_id, by=self._submitter))

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
        return self._with_visible_error(
            replace(run, request=RunRequest(**redact_request(run.request.given())))
        )

    def _with_visible_error(self, run: Run) -> Run:
        """Return a run with as much of its error as the caller may see."""
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
