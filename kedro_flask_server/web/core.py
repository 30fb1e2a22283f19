"""Kedro's own endpoints: health, snapshot and run."""

from __future__ import annotations

import threading
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.errors import ServerBusyError
from kedro_flask_server.project import KedroProject
from kedro_flask_server.runs.model import ErrorDetail
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.web.body import load_body
from kedro_flask_server.web.schemas import (
    ErrorDetailSchema,
    HealthResponseSchema,
    RunFailureSchema,
    RunRequestSchema,
    RunSuccessSchema,
)


def create_core_blueprint(
    project: KedroProject, runs: RunService, *, max_waiting: int
) -> Blueprint:
    """Return the endpoints that Kedro's own server has.

    Args:
        project: The project that is served.
        runs: Takes the runs.
        max_waiting: How many snapshots may be asked for at a time.

    Returns:
        A blueprint.
    """
    core = Blueprint("kedro_server_core", __name__)
    run_request = RunRequestSchema()
    answers = {"success": RunSuccessSchema(), "failure": RunFailureSchema()}
    max_snapshots = max(1, max_waiting)
    snapshot_places = threading.BoundedSemaphore(max_snapshots)

    @core.get("/health")
    def health() -> ResponseReturnValue:
        """Health.

        Answers as long as the server does.
        ---
        operationId: health_health_get
        tags: [health]
        responses:
          200:
            description: The server answers.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/HealthResponse"}
        """
        answer = {"status": "healthy", "kedro_version": project.kedro_version}
        return jsonify(HealthResponseSchema().dump(answer))

    @core.get("/snapshot")
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
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        params = request.args.getlist("params")
        if not snapshot_places.acquire(blocking=False):
            raise ServerBusyError("a snapshot", max_waiting=max_snapshots)
        try:
            snapshot = project.snapshot(params[-1] if params else None)
        finally:
            snapshot_places.release()
        return jsonify(_dump_snapshot(snapshot))

    @core.post("/run")
    def run_pipeline() -> ResponseReturnValue:
        """Run pipeline.

        Runs pipelines and waits for the end. A run that fails is answered with 200, too:
        `status` is `failure`, and `error` says why.
        ---
        operationId: run_pipeline_run_post
        tags: [pipeline]
        requestBody:
          required: true
          content:
            application/json:
              schema: {$ref: "#/components/schemas/RunRequest"}
        responses:
          200:
            description: How the run ended.
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
          400: {$ref: "#/components/responses/UnreadableBody"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        outcome = runs.run(load_body(request, run_request))
        return jsonify(answers[outcome.status].dump(outcome))

    return core


def _dump_snapshot(snapshot: Any) -> dict[str, Any]:
    """Return the answer to ``/snapshot``: whatever fields ``kedro.inspection`` has."""
    if isinstance(snapshot, ErrorDetail):
        return {"status": "failure", "error": ErrorDetailSchema().dump(snapshot)}
    return {"status": "success", **snapshot}
