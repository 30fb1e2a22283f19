"""What happens in a run, and what it logs."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.event import Event, EventType, log_line
from kedro_flask_server.web.arguments import load_last_event_id, load_query
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.runs import ASK_AGAIN_AFTER_S
from kedro_flask_server.web.schemas.requests import EventQuerySchema, LogQuerySchema
from kedro_flask_server.web.schemas.responses import EventPageSchema
from kedro_flask_server.web.streams import EVENT_STREAM, EventStreams


def create_events_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/runs/<id>/events`` and ``/runs/<id>/logs``."""
    runs, streams = server.runs, EventStreams(limit=server.config.max_streams)
    blueprint = Blueprint("kedro_server_events", __name__)
    page_schema, query_schema, log_query_schema = (
        EventPageSchema(),
        EventQuerySchema(),
        LogQuerySchema(),
    )

    @blueprint.get("/runs/<run_id>/events")
    @needs(Scope.READ, Scope.RUN)
    def list_events(run_id: str) -> ResponseReturnValue:
        """List a run's events.

        What has happened in it, in order. With `Accept: text/event-stream`, as Server-Sent
        Events while it happens, to the end of the run; a stream ends after ten minutes, and goes
        on from `Last-Event-ID`.
        ---
        operationId: list_events
        tags: [runs]
        parameters:
          - {in: query, schema: EventQuerySchema}
          - LastEventID
        responses:
          200:
            description: The events, and the id after which to ask for those that follow.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/EventPage"}
                examples: {finished: {$ref: "#/components/examples/LastEvents"}}
              text/event-stream:
                schema: {type: string}
                examples: {node: {$ref: "#/components/examples/EventStream"}}
          204: {$ref: "#/components/responses/NothingMore"}
          404: {$ref: "#/components/responses/UnknownRun"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        after, limit = load_query(request, query_schema)
        if _prefers_stream("application/json"):
            after = load_last_event_id(request, default=after)
            return _varied(streams.open(request, authorized_runs(runs), run_id, after=after))
        page = authorized_runs(runs).events(run_id, after=after, limit=limit)
        return _varied(jsonify(page_schema.dump(page)))

    @blueprint.get("/runs/<run_id>/logs")
    @needs(Scope.READ, Scope.RUN)
    def get_log(run_id: str) -> ResponseReturnValue:
        r"""Get a run's log.

        A record a line; what follows a record's first line is indented. With `Accept:
        text/event-stream`, as Server-Sent Events: the run's events of the type `log`.
        ---
        operationId: get_log
        tags: [runs]
        parameters:
          - {in: query, schema: LogQuerySchema}
          - LastEventID
        responses:
          200:
            description: The log, up to now.
            headers:
              Link:
                description: Where what follows will be, as `rel="next"` (RFC 8288), while the
                  run goes on.
                schema: {type: string}
              Retry-After: {$ref: "#/components/headers/RetryAfter"}
            content:
              text/plain:
                schema: {type: string}
                example: "2026-01-01T12:00:01.000Z INFO     kedro.runner: Completed node: train\n"
              text/event-stream:
                schema: {type: string}
                examples: {log: {$ref: "#/components/examples/LogStream"}}
          204: {$ref: "#/components/responses/NothingMore"}
          404: {$ref: "#/components/responses/UnknownRun"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        after = load_query(request, log_query_schema)
        if _prefers_stream("text/plain"):
            after = load_last_event_id(request, default=after)
            mine = authorized_runs(runs)
            return _varied(streams.open(request, mine, run_id, after=after, kind=EventType.LOG))
        records, next_after = _read_log(authorized_runs(runs), run_id, after)
        text = "".join(f"{log_line(record)}\n" for record in records)
        response = Response(text, mimetype="text/plain")
        if next_after is not None:
            path = url_for(".get_log", run_id=run_id, after=next_after).lstrip("/")
            response.headers["Link"] = f'</{path}>; rel="next"'
            response.headers["Retry-After"] = str(ASK_AGAIN_AFTER_S)
        return _varied(response)

    return blueprint


def _prefers_stream(other: str) -> bool:
    """Return whether a request asks for a stream rather than for what else there is."""
    return request.accept_mimetypes.best_match([other, EVENT_STREAM]) == EVENT_STREAM


def _varied(response: Response) -> Response:
    response.vary.add("Accept")
    return response


def _read_log(runs: AuthorizedRuns, run_id: str, after: int) -> tuple[list[Event], int | None]:
    """Return all of a log, of which there is `max_log_bytes`, and where it goes on."""
    records: list[Event] = []
    next_after: int | None = after
    while next_after is not None:
        page = runs.events(run_id, after=next_after, kind=EventType.LOG)
        records += page.events
        next_after = page.next
        if not page.events:
            break
    return records, next_after
