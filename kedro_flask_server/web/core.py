"""Kedro's own endpoints for a project: its snapshot and its runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.errors import ServerBusyError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.run import Run, RunRequest, RunStatus
from kedro_flask_server.web.arguments import (
    load_body,
    load_idempotency_key,
    load_snapshot_params,
    load_submission,
    refuse_interpolation,
)
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.preferences import Preferences
from kedro_flask_server.web.runs import RUN_ID, accept_run, capped
from kedro_flask_server.web.schemas.requests import RunRequestSchema, SubmissionQuerySchema
from kedro_flask_server.web.schemas.responses import RunFailureSchema, RunSuccessSchema
from kedro_flask_server.web.snapshot_answers import SnapshotAnswers

IDEMPOTENT_REPLAYED = "Idempotent-Replayed"
"""The header that says that an answer is that of an earlier request with the same key."""

_RUN_SUCCESS, _RUN_FAILURE = RunSuccessSchema(), RunFailureSchema()
SUBMISSION_QUERY = SubmissionQuerySchema()
"""How a run is submitted, in the query."""


def create_core_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of the endpoints that Kedro's own server has."""
    runs, config = server.runs, server.config
    core = Blueprint("kedro_server_core", __name__)
    run_request = RunRequestSchema()
    max_snapshots = max(1, config.max_waiting)
    answers = SnapshotAnswers()
    snapshot_slots = threading.BoundedSemaphore(max_snapshots)

    @core.get("/snapshot")
    @needs(Scope.READ, Scope.RUN)
    def get_snapshot() -> ResponseReturnValue:
        """Get snapshot.

        The project's pipelines, datasets and parameter names, without running anything. What
        cannot be built is answered with 200, too: `status` is `failure`, and `error` says why.
        ---
        operationId: get_snapshot_snapshot_get
        tags: [inspection]
        parameters:
          - name: params
            in: query
            required: false
            schema: {type: string}
            description: >-
              Runtime parameters for this snapshot, in the format of `kedro run --params`, such
              as `version=02,model.lr=0.01`. Values hold no commas.
        responses:
          200:
            description: The snapshot, or why there is none.
            headers:
              ETag:
                description: Changes whenever the snapshot does.
                schema: {type: string}
            content:
              application/json:
                schema:
                  oneOf:
                    - {$ref: "#/components/schemas/SnapshotSuccess"}
                    - {$ref: "#/components/schemas/SnapshotFailure"}
                  discriminator:
                    propertyName: status
                    mapping:
                      success: "#/components/schemas/SnapshotSuccess"
                      failure: "#/components/schemas/SnapshotFailure"
          304:
            description: The caller has it, as `If-None-Match` says (RFC 9110).
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        params = load_snapshot_params(request, allow_interpolation=config.allow_param_interpolation)
        if not snapshot_slots.acquire(blocking=False):
            raise ServerBusyError("a snapshot", limit=max_snapshots, setting="max_waiting")
        try:
            return answers.of(authorized_runs(runs), params)
        finally:
            snapshot_slots.release()

    @core.post("/run")
    @needs(Scope.RUN)
    def run_pipeline() -> ResponseReturnValue:
        """Run pipeline.

        Runs pipelines and waits for the end. A run that fails is answered with 200, too:
        `status` is `failure`, and `error` says why. `Prefer` (RFC 7240) asks for less waiting,
        or for failures to be errors; `Idempotency-Key` makes it safe to send a request again.
        ---
        operationId: run_pipeline_run_post
        tags: [pipeline]
        parameters:
          - Prefer
          - IdempotencyKey
          - RunLabels
          - {in: query, schema: SubmissionQuerySchema}
        requestBody:
          required: true
          content:
            application/json:
              schema: {$ref: "#/components/schemas/RunRequest"}
              example: {pipeline_names: [__default__]}
        responses:
          200:
            description: How the run ended.
            headers:
              Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
              Idempotent-Replayed: {$ref: "#/components/headers/IdempotentReplayed"}
            content:
              application/json:
                schema:
                  oneOf:
                    - {$ref: "#/components/schemas/RunSuccess"}
                    - {$ref: "#/components/schemas/RunFailure"}
                  discriminator:
                    propertyName: status
                    mapping:
                      success: "#/components/schemas/RunSuccess"
                      failure: "#/components/schemas/RunFailure"
          202: {$ref: "#/components/responses/RunAccepted"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          409: {$ref: "#/components/responses/KeyInUse"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          429: {$ref: "#/components/responses/QuotaUsed"}
          500: {$ref: "#/components/responses/StrictFailure"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        wanted = load_body(request, run_request)
        if not config.allow_param_interpolation:
            refuse_interpolation(wanted.params)
        preferences = Preferences.of(request)
        run = run_or_submit(server, wanted, preferences)

        def end() -> Response:
            response = jsonify(dump_end(run))
            if run.status is not RunStatus.SUCCESS and preferences.is_strict:
                response.status_code = 500
            return response

        return answer(run, preferences, end)

    return core


def run_or_submit(
    server: KedroServer,
    wanted: RunRequest,
    preferences: Preferences,
    *,
    key_stands_for: str | None = None,
) -> Run:
    """Submit the run that the current request asks for, and wait as it prefers.

    Args:
        server: The parts of the application.
        wanted: What to run.
        preferences: What the request prefers.
        key_stands_for: What was sent with its idempotency key, if that is not `wanted`.

    Returns:
        The run as it was last seen.
    """
    key = load_idempotency_key(request)
    options = load_submission(request, SUBMISSION_QUERY)
    runs, max_wait_s = authorized_runs(server.runs), server.config.max_sync_wait_s
    options |= {"key": key, "key_stands_for": key_stands_for, "is_gone": is_gone(request)}
    if preferences.respond_async:
        return runs.submit(wanted, wait_s=capped(preferences.wait_s or 0, max_wait_s), **options)
    return runs.run(wanted, timeout_s=max_wait_s, **options)


def answer(run: Run, preferences: Preferences, end: Callable[[], Response]) -> Response:
    """Return the answer to a request for a run.

    Args:
        run: The run as it was last seen.
        preferences: What the request prefers.
        end: Returns the answer of a run that has ended.
    """
    if not run.status.is_final:
        response = accept_run(run)
        if preferences.respond_async:
            preferences.apply(response, "respond-async", "wait")
    else:
        response = end()
        response.headers[RUN_ID] = run.run_id
        preferences.apply(response, "wait" if preferences.respond_async else "", "handling")
    if run.is_replay:
        response.headers[IDEMPOTENT_REPLAYED] = "true"
    return response


def dump_end(run: Run) -> dict[str, Any]:
    """Return a run as Kedro's own server tells it, to which there are two ends."""
    duration_ms = run.duration_ms
    if duration_ms is None:  # it is not known of a lost run
        begin, end = run.started_at or run.created_at, run.finished_at or run.created_at
        duration_ms = (end - begin).total_seconds() * 1000
    status = "success" if run.status is RunStatus.SUCCESS else "failure"
    schema = _RUN_SUCCESS if run.status is RunStatus.SUCCESS else _RUN_FAILURE
    ended: dict[str, Any] = schema.dump(
        {
            "status": status,
            "run_id": run.run_id,
            "duration_ms": duration_ms,
            "error": run.error,
        }
    )
    return ended
