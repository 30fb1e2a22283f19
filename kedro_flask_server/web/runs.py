"""Runs that have been taken in: how they are, and how they end before their time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.run import Run, RunPart
from kedro_flask_server.web.arguments import load_query
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.preferences import Preferences
from kedro_flask_server.web.provenance import shown_provenance
from kedro_flask_server.web.routing import path_to
from kedro_flask_server.web.schemas.fields import plain_json
from kedro_flask_server.web.schemas.requests import (
    PROVENANCE,
    CancelQuerySchema,
    RunPartsQuerySchema,
    RunQuerySchema,
)
from kedro_flask_server.web.schemas.responses import ProvenanceSchema, RunPageSchema, RunSchema

RUNS_BLUEPRINT = "kedro_server_runs"

# So many pages are made at a time: each takes a connection of the store with a cache of its own,
# and one with requests or tracebacks some 10 MB, and Python's lock for milliseconds at a stretch.
_PAGES = 4
_LARGE_PAGES = 2
_TURN_S = 10.0

RUN_ID = "Kedro-Run-Id"
"""The header of the run that an answer is about."""

ASK_AGAIN_AFTER_S = 1
"""For clients that ask again and again how a run is, in seconds."""


def create_runs_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/runs`` and ``/runs/<id>``."""
    runs, max_wait_s = server.runs, server.config.max_sync_wait_s
    blueprint = Blueprint(RUNS_BLUEPRINT, __name__)
    query_schema, cancel_query = RunQuerySchema(), CancelQuerySchema()
    run_query, provenance_schema = RunPartsQuerySchema(), ProvenanceSchema()
    page_schemas = {include: _page_schema(include) for include in _all_subsets(RunPart)}
    turns = {False: threading.Semaphore(_PAGES), True: threading.Semaphore(_LARGE_PAGES)}

    def show(run: Run, parts: Collection[str]) -> Response:
        if PROVENANCE not in parts:
            return dump_run(run)
        record = authorized_runs(runs).record(run)
        url = url_for("kedro_server_core.run_pipeline", _external=True)
        found = shown_provenance(run, record, url=url, conf_source=server.config.conf_source)
        return dump_run(run, provenance=None if found is None else provenance_schema.dump(found))

    @blueprint.get("/runs")
    @needs(Scope.READ, Scope.RUN)
    def list_runs() -> ResponseReturnValue:
        """List runs.

        The runs of this project and environment, the newest first, as summaries; `include` adds
        what `/runs/<id>` has besides. New ones that come in meanwhile move nothing on the pages
        that follow.
        ---
        operationId: list_runs
        tags: [runs]
        parameters:
          - {in: query, schema: RunQuerySchema}
        responses:
          200:
            description: The runs, and the cursor of those that follow.
            headers:
              Link:
                description: The page that follows, as `rel="next"` (RFC 8288).
                schema: {type: string}
            content:
              application/json:
                schema: {$ref: "#/components/schemas/RunPage"}
                examples: {all: {value: {runs: [], next: null}}}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        wanted, options = load_query(request, query_schema)
        include = options["include"]
        with _turn(turns[bool(include)]):
            page = authorized_runs(runs).page(wanted, **options)
            response = jsonify(page_schemas[include].dump(page))
        if page.next is not None:
            query: dict[str, Any] = {**request.args.to_dict(flat=False), "cursor": page.next}
            response.headers["Link"] = f'<{path_to(".list_runs", **query)}>; rel="next"'
        return response

    @blueprint.get("/runs/<run_id>")
    @needs(Scope.READ, Scope.RUN)
    def get_run(run_id: str) -> ResponseReturnValue:
        """Get a run.

        With `Prefer: wait=N` (RFC 7240), waits up to N seconds for its end.
        ---
        operationId: get_run
        tags: [runs]
        parameters:
          - PreferWait
          - {in: query, schema: RunPartsQuerySchema}
        responses:
          200:
            description: The run.
            headers:
              Retry-After: {$ref: "#/components/headers/RetryAfter"}
              Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Run"}
                examples: {succeeded: {$ref: "#/components/examples/SucceededRun"},
                  failed: {$ref: "#/components/examples/FailedRun"}}
          404: {$ref: "#/components/responses/UnknownRun"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        preferences = Preferences.of(request)
        parts = load_query(request, run_query)
        visible = authorized_runs(runs)
        if preferences.wait_s is None:
            return show(visible.get(run_id), parts)
        wait_s = capped(preferences.wait_s, max_wait_s)
        response = show(visible.wait(run_id, wait_s, is_gone=is_gone(request)), parts)
        if wait_s == preferences.wait_s:
            preferences.apply(response, "wait")
        return response

    @blueprint.get("/runs/<run_id>/compare/<other_id>")
    @needs(Scope.READ, Scope.RUN)
    def compare_runs(run_id: str, other_id: str) -> ResponseReturnValue:
        """Compare two runs.

        What differs in their code, versions, parameters, requests, datasets, nodes and ends: by
        dotted names, the value of the first as `a`, and that of the second as `b`.
        ---
        operationId: compare_runs
        tags: [runs]
        responses:
          200:
            description: What differs.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Comparison"}
          404: {$ref: "#/components/responses/UnknownRun"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        found = authorized_runs(runs).compare(run_id, other_id)
        return jsonify(plain_json(found))

    @blueprint.post("/runs/<run_id>/cancel")
    @needs(Scope.RUN)
    def cancel_run(run_id: str) -> ResponseReturnValue:
        """Cancel a run.

        A queued run ends at once. One that executes is stopped
        at once in a process of its own, and between two nodes in a thread;
        `cancel_requested_at` says since when it is to. To ask again changes nothing.
        ---
        operationId: cancel_run
        tags: [runs]
        responses:
          202:
            description: The run, which has ended or will.
            headers:
              Location: {$ref: "#/components/headers/Location"}
              Retry-After: {$ref: "#/components/headers/RetryAfter"}
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Run"}
                examples: {cancelled: {$ref: "#/components/examples/CancelledRun"}}
          404: {$ref: "#/components/responses/UnknownRun"}
          409: {$ref: "#/components/responses/RunEnded"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        return accept_run(authorized_runs(runs).cancel(run_id))

    @blueprint.post("/runs/cancel")
    @needs(Scope.RUN)
    def cancel_runs() -> ResponseReturnValue:
        """Cancel runs by a filter.

        Queued ones end at once, and those that execute as when they are cancelled one by one.
        With the scope `run`, the caller's own; with `admin`, all.
        ---
        operationId: cancel_runs
        tags: [runs]
        parameters:
          - {in: query, schema: CancelQuerySchema}
        responses:
          202:
            description: The runs, which have ended or will.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/CancelledRuns"}
                examples: {none: {value: {run_ids: []}}}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        cancelled = authorized_runs(runs).cancel_all(load_query(request, cancel_query))
        response = jsonify(run_ids=cancelled)
        response.status_code = 202
        return response

    return blueprint


@contextmanager
def _turn(slots: threading.Semaphore) -> Iterator[None]:
    if not slots.acquire(timeout=_TURN_S):
        raise StoreUnavailableError("others wait to read lists from it")
    try:
        yield
    finally:
        slots.release()


def _all_subsets(parts: Iterable[RunPart]) -> list[frozenset[RunPart]]:
    some = [*parts]
    return [frozenset(each) for size in range(len(some) + 1) for each in combinations(some, size)]


def _page_schema(include: frozenset[RunPart]) -> RunPageSchema:
    left_out = ["pipelines" if RunPart.REQUEST in include else "request"]
    if RunPart.TRACEBACK not in include:
        left_out.append("error.traceback")
    return RunPageSchema(exclude=[f"runs.{name}" for name in left_out])


def dump_run(run: Run, **more: Any) -> Response:
    """Return the answer that is a run; one that has not ended is worth asking for again.

    Args:
        run: The run.
        more: Further fields of the answer.
    """
    response = jsonify({**RunSchema().dump(run), **more})
    response.headers[RUN_ID] = run.run_id
    if not run.status.is_final:
        response.headers["Retry-After"] = str(ASK_AGAIN_AFTER_S)
    return response


def accept_run(run: Run, status: int = 202, **more: Any) -> Response:
    """Return the answer that a request is taken in, and where its run is.

    Args:
        run: The run.
        status: The status of the answer.
        more: Further fields of the answer.
    """
    response = dump_run(run, **more)
    response.status_code = status
    response.headers["Location"] = path_to(f"{RUNS_BLUEPRINT}.get_run", run_id=run.run_id)
    return response


def capped(wait_s: float, max_wait_s: float | None) -> float:
    """Return how many seconds to wait, of those that are asked for.

    Args:
        wait_s: How many are asked for.
        max_wait_s: How many there may be; None for any number.
    """
    return wait_s if max_wait_s is None else min(wait_s, max_wait_s)
