"""The page of a run: what, what went wrong, where it is, and how to go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from flask import Blueprint, Response, render_template, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import ForbiddenError, ServerBusyError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.command_lines import python_program
from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.queue import WaitingFor
from kedro_flask_server.model.run import Run, RunFilter, RunStatus
from kedro_flask_server.text import printable
from kedro_flask_server.web.arguments import load_last_event_id
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render
from kedro_flask_server.web.pages.run_view import RunView, changes_in, own_frame
from kedro_flask_server.web.provenance import shown_provenance
from kedro_flask_server.web.schemas.requests import MAX_EVENT_ID
from kedro_flask_server.web.streams import EVENT_STREAM, EventStreams

_LOG_LINES = 500
_LAST_LINES = 20
_WAITS = 20

# Changes are gathered for as long, so that a run of many nodes costs its readers little.
_GATHER_S = 0.5

_TIMELINE_EVENTS = (EventType.NODE_FINISHED, EventType.NODE_FAILED, EventType.RUN_STARTED)


def add_run(pages: Blueprint, server: KedroServer) -> None:
    """Add the page of a run, its log, and what it asks for while the run is active."""
    streams = EventStreams(limit=server.config.max_page_streams, setting="max_page_streams")

    @pages.get(f"{ROOT}/runs/<run_id>")
    @needs(Scope.READ, Scope.RUN)
    def run(run_id: str) -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        # First the newest event, so that what happens meanwhile is sent afterwards.
        newest = server.runs.newest_event(run_id)
        found = runs.get(run_id)
        node, text = request.args.get("node") or None, request.args.get("q") or None
        view = RunView(
            found, runs.record(found), runs.usual_durations(found.request.pipelines, before=run_id)
        )
        return render(
            "run",
            view=view,
            run=found,
            after=newest.id if newest else 0,
            news_at=newest.time if newest else found.created_at,
            log=runs.log(found, node=node, text=text, limit=_LOG_LINES),
            node=node,
            text=text,
            graph_pipeline=_graph_pipeline(runs, found),
            waits=_waits(runs, found),
            **_made_of(server, runs, view),
            **_failure(server, runs, found),
        )

    @pages.get(f"{ROOT}/runs/<run_id>/log")
    @needs(Scope.READ, Scope.RUN)
    def run_log(run_id: str) -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        found = runs.get(run_id)
        before = request.args.get("before", type=_event_id)
        node, text = request.args.get("node") or None, request.args.get("q") or None
        log = runs.log(found, before=before, node=node, text=text, limit=_LOG_LINES)
        return render("run_log", run=found, log=log, node=node, text=text)

    @pages.get(f"{ROOT}/runs/<run_id>/changes")
    @needs(Scope.READ, Scope.RUN)
    def run_changes(run_id: str) -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        after = request.args.get("after", default=0, type=_event_id)
        follower = _Follower(server, runs, run_id)
        if EVENT_STREAM not in request.headers.get("Accept", "") or "poll" in request.args:
            page = runs.events(run_id, after=after)
            if not page.events:
                return "", 204
            return printable(follower.changes(page.events))
        after = load_last_event_id(request, default=after)
        try:
            response = streams.open(
                request, runs, run_id, after=after, dump=follower.message, pause_s=_GATHER_S
            )
        except ServerBusyError:  # the page asks again and again instead
            return Response(status=204)
        if response.status_code == 200:
            # The templates need the request, after its view has returned.
            response.response = stream_with_context(cast(Iterator[str], response.response))
        return response


def _event_id(text: str) -> int:
    """Return the id of an event in a query.

    Raises:
        ValueError: If it is none.
    """
    return min(max(int(text[:20]), 0), MAX_EVENT_ID)


class _Follower:
    """Renders what changes on the page of a run."""

    def __init__(self, server: KedroServer, runs: AuthorizedRuns, run_id: str) -> None:
        """Prepare; what the page shows is not known until all nodes were sent once."""
        self._server = server
        self._runs = runs
        run = runs.get(run_id)
        self._view = RunView(
            run, runs.record(run), runs.usual_durations(run.request.pipelines, before=run_id)
        )
        self._has_sent_nodes = False

    def message(self, events: list[Event]) -> str:
        """Return what has changed as a message of a stream."""
        text = self.changes(events)
        data = "".join(f"data: {line}\n" for line in _lines(text))
        message = f"id: {events[-1].id}\n{data}\n"
        if any(event.type == EventType.RUN_FINISHED for event in events):
            message += "event: ended\ndata: ended\n\n"
        return message

    def changes(self, events: list[Event]) -> str:
        """Return what has changed, as parts of the page."""
        kinds, view = {event.type for event in events}, self._view
        log = [event for event in events if event.type == EventType.LOG]
        if kinds == {EventType.LOG}:
            return self._render(log=log, after=events[-1])
        view.run = self._runs.get(view.run.run_id)
        known = len(view.nodes)
        rows = view.add(events)
        is_over = view.run.status.is_final
        is_whole = is_over or not self._has_sent_nodes or len(view.nodes) > known
        if is_whole:
            record = self._runs.record(view.run)
            view = self._view = RunView(view.run, record, view.usual)
            self._has_sent_nodes = bool(view.nodes)
        more: dict[str, Any] = {}
        if is_whole:
            more |= _made_of(self._server, self._runs, view)
        if is_over:
            more |= _failure(self._server, self._runs, view.run)
        return self._render(
            log=log,
            after=events[-1],
            has_run=True,
            rows=rows,
            is_whole=is_whole,
            is_over=is_over,
            has_timeline=is_whole or not kinds.isdisjoint(_TIMELINE_EVENTS),
            waits=_waits(self._runs, view.run),
            **more,
        )

    def _render(self, *, log: list[Event], after: Event, **more: Any) -> str:
        return render_template(
            "pages/run_changes.html",
            view=self._view,
            run=self._view.run,
            log=log,
            after=after.id,
            news_at=after.time,
            **more,
        )


def _lines(text: str) -> list[str]:
    """Return the lines of a message of a stream, which end with LF, CR or both."""
    return re.split("\r\n|\r|\n", printable(text))


def _made_of(server: KedroServer, runs: AuthorizedRuns, view: RunView) -> dict[str, Any]:
    """Return what the page says of what a run is made of, and of what it has made."""
    run, url = view.run, url_for("kedro_server_core.run_pipeline", _external=True)
    return {
        "provenance": shown_provenance(
            run, view.record, url=url, conf_source=server.config.conf_source
        ),
        "python": python_program(run.request, request.url_root.rstrip("/")),
        "outputs": _outputs(runs, run),
    }


def _waits(runs: AuthorizedRuns, run: Run) -> list[WaitingFor]:
    """Return what a run has waited for besides a free worker, each once."""
    found = runs.events(run.run_id, kind=EventType.RUN_WAITING, limit=_WAITS).events
    waits = [WaitingFor.load(event.data) for event in found if "reason" in event.data]
    return [each for at, each in enumerate(waits) if each not in waits[:at]]


def _graph_pipeline(runs: AuthorizedRuns, run: Run) -> str | None:
    """Return the pipeline whose graph shows the run; None where several were joined, or it went."""
    known, names = runs.pipeline_names(), run.request.pipelines
    is_there = not known or names[0] in known  # they are not known yet at first
    return names[0] if len(names) == 1 and is_there else None


def _outputs(runs: AuthorizedRuns, run: Run) -> dict[str, Any]:
    try:
        found = runs.outputs(run.run_id)
    except ForbiddenError:  # it is another's data
        return {}
    return {} if found.deleted_at is not None else {**found.outputs}


def _failure(server: KedroServer, runs: AuthorizedRuns, run: Run) -> dict[str, Any]:
    """Return what went wrong, and what has changed since the last success."""
    if run.status not in (RunStatus.FAILURE, RunStatus.LOST) or run.error is None:
        return {"frame": None, "last_lines": [], "last_success": None, "changed": {}}
    before = RunFilter(
        statuses=(RunStatus.SUCCESS,), pipeline=run.request.pipelines[0], until=run.created_at
    )
    found = runs.page(before, limit=1, cursor=None).runs
    last = found[0] if found else None
    changed = {} if last is None else changes_in(runs.compare(last.run_id, run.run_id))
    return {
        "frame": own_frame(run.error.traceback, f"{server.project.path}/"),
        "last_lines": runs.log(run, node=run.error.node, limit=_LAST_LINES).events,
        "last_success": last,
        "changed": changed,
    }
