"""Retries of runs."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.retry import RetryOptions
from kedro_flask_server.web.arguments import (
    load_body,
    load_idempotency_key,
    load_query,
    load_submission,
    refuse_interpolation,
)
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.core import IDEMPOTENT_REPLAYED
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.preferences import Preferences
from kedro_flask_server.web.runs import accept_run, capped
from kedro_flask_server.web.schemas.fields import plain_json
from kedro_flask_server.web.schemas.requests import (
    RetryQuerySchema,
    RetrySchema,
    SubmissionQuerySchema,
)
from kedro_flask_server.web.schemas.responses import RetryPlanSchema


def create_retry_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/runs/<id>/retry``."""
    runs, config = server.runs, server.config
    blueprint = Blueprint("kedro_server_retry", __name__)
    plan_query, submission_query = RetryQuerySchema(), SubmissionQuerySchema()
    retry_body, plan_schema = RetrySchema(), RetryPlanSchema()

    @blueprint.get("/runs/<run_id>/retry")
    @needs(Scope.RUN)
    def plan_retry(run_id: str) -> ResponseReturnValue:
        """Plan a retry.

        What a retry of the run would run and why, what has changed since, and what stands in its
        way; nothing starts.
        ---
        operationId: plan_retry
        tags: [runs]
        parameters:
          - {in: query, schema: RetryQuerySchema}
        responses:
          200:
            description: The plan.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/RetryPlan"}
          404: {$ref: "#/components/responses/UnknownRun"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        options = RetryOptions(start=load_query(request, plan_query))
        plan = authorized_runs(runs).plan_retry(run_id, options)
        shown = plan.dump() | {"request": None if plan.request is None else plan.request.given()}
        return jsonify(plain_json(plan_schema.dump(shown)))

    @blueprint.post("/runs/<run_id>/retry")
    @needs(Scope.RUN)
    def retry_run(run_id: str) -> ResponseReturnValue:
        """Retry a run.

        A new run of the nodes that had not finished, and of those whose outputs were in memory
        alone and are needed, by today's code and configuration. `Prefer: wait=N` (RFC 7240) waits
        up to N seconds for its end.
        ---
        operationId: retry_run
        tags: [runs]
        parameters:
          - PreferWait
          - IdempotencyKey
          - RunLabels
          - {in: query, schema: SubmissionQuerySchema}
        requestBody:
          required: false
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Retry"}
              example: {from: failure}
        responses:
          201:
            description: The new run, and its plan.
            headers:
              Location: {$ref: "#/components/headers/Location"}
              Retry-After: {$ref: "#/components/headers/RetryAfter"}
              Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
              Idempotent-Replayed: {$ref: "#/components/headers/IdempotentReplayed"}
            content:
              application/json:
                schema: {$ref: "#/components/schemas/RetriedRun"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          404: {$ref: "#/components/responses/UnknownRun"}
          409: {$ref: "#/components/responses/RetryRefused"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          429: {$ref: "#/components/responses/QuotaUsed"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        options: RetryOptions = load_body(request, retry_body, may_be_empty=True)
        if not config.allow_param_interpolation:
            refuse_interpolation({**options.params})
        preferences = Preferences.of(request)
        wait_s = capped(preferences.wait_s or 0, config.max_sync_wait_s)
        run, plan = authorized_runs(runs).retry(
            run_id,
            options,
            key=load_idempotency_key(request),
            wait_s=wait_s,
            is_gone=is_gone(request),
            **load_submission(request, submission_query),
        )
        shown = None if plan is None else plain_json(plan_schema.dump(plan))
        response = accept_run(run, status=201, plan=shown)
        if wait_s == preferences.wait_s:
            preferences.apply(response, "wait")
        if run.is_replay:
            response.headers[IDEMPOTENT_REPLAYED] = "true"
        return response

    return blueprint
