"""The queue: what waits and why, and what is paused."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.web.arguments import load_body
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.schemas.requests import PauseSchema
from kedro_flask_server.web.schemas.responses import QueueSchema


def create_queue_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/queue``."""
    runs = server.runs
    blueprint = Blueprint("kedro_server_queue", __name__)
    pause_body, shown = PauseSchema(), QueueSchema()

    @blueprint.get("/queue")
    @needs(Scope.READ)
    def get_queue() -> ResponseReturnValue:
        """Get the queue.

        What is paused, how many runs wait for what, the limits in force, and the runs that are
        next.
        ---
        operationId: get_queue
        tags: [queue]
        responses:
          200:
            description: The queue.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Queue"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        return jsonify(shown.dump(authorized_runs(runs).queue()))

    @blueprint.post("/queue/pause")
    @needs(Scope.ADMIN)
    def pause_queue() -> ResponseReturnValue:
        """Pause the queue.

        Runs are taken in, and do not start until the queue is resumed, on any server. Those that
        execute go on.
        ---
        operationId: pause_queue
        tags: [queue]
        requestBody:
          required: true
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Pause"}
              example: {pipeline: null}
        responses:
          200:
            description: The queue.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Queue"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          404: {$ref: "#/components/responses/UnknownPipeline"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        pipeline = load_body(request, pause_body)
        return jsonify(shown.dump(authorized_runs(runs).pause(pipeline)))

    @blueprint.post("/queue/resume")
    @needs(Scope.ADMIN)
    def resume_queue() -> ResponseReturnValue:
        """Resume the queue.

        What was paused with the same body; another pause stays.
        ---
        operationId: resume_queue
        tags: [queue]
        requestBody:
          required: true
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Pause"}
              example: {pipeline: null}
        responses:
          200:
            description: The queue.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Queue"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        pipeline = load_body(request, pause_body)
        return jsonify(shown.dump(authorized_runs(runs).resume(pipeline)))

    return blueprint
