"""Calls of served pipelines, and what these have loaded."""

from __future__ import annotations

import json

from flask import Blueprint, Request, Response, jsonify, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.data_exchange import DataRequest
from kedro_flask_server.model.run import RunRequest, RunStatus
from kedro_flask_server.web.arguments import load_body, load_submission
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.core import SUBMISSION_QUERY, answer
from kedro_flask_server.web.data_answers import answer_failure, answer_with_outputs
from kedro_flask_server.web.data_forms import DataForm
from kedro_flask_server.web.errors import IDEMPOTENCY_KEY
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.preferences import Preferences
from kedro_flask_server.web.schemas.requests import ReloadSchema
from kedro_flask_server.web.schemas.responses import ServedSchema


def create_served_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/pipelines/<name>/reload``."""
    runs = server.runs
    blueprint = Blueprint("kedro_server_served", __name__)
    reload_body, shown = ReloadSchema(), ServedSchema()

    @blueprint.post("/pipelines/<pipeline>/reload")
    @needs(Scope.ADMIN)
    def reload_pipeline(pipeline: str) -> ResponseReturnValue:
        """Reload a served pipeline.

        Loads the newest data, or versions that are given, and answers once that is served here;
        other servers follow. What cannot be loaded changes nothing. `{}` follows the newest again.
        ---
        operationId: reload_pipeline
        tags: [pipeline]
        requestBody:
          required: false
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Reload"}
              example: {}
        responses:
          200:
            description: What is served now.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Served"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          404: {$ref: "#/components/responses/UnknownPipeline"}
          409: {$ref: "#/components/responses/LoadRefused"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        versions = load_body(request, reload_body, may_be_empty=True)
        return jsonify(shown.dump(authorized_runs(runs).reload(pipeline, versions)))

    return blueprint


def is_plain(request: Request, preferences: Preferences) -> bool:
    """Return whether a request needs no record, as far as it says itself."""
    return not preferences.respond_async and IDEMPOTENCY_KEY not in request.headers


def sent_with_key(wanted: RunRequest) -> str:
    """Return what an idempotency key stands for: the request before versions are pinned in it."""
    return json.dumps({**wanted.given(), "data": {**(wanted.data or {}), "folder": None}})


def answer_call(
    server: KedroServer, wanted: RunRequest, form: DataForm, preferences: Preferences
) -> Response:
    """Have a served pipeline answer the current request; its data is deleted if not recorded.

    Args:
        server: The parts of the application.
        wanted: What to run.
        form: The data of the request.
        preferences: What the request prefers.
    """
    files = server.runs.data.files
    folder, is_recorded, is_written = files.new_folder(), False, True
    exchange = wanted.exchange or DataRequest()
    options = load_submission(request, SUBMISSION_QUERY)
    try:
        call = authorized_runs(server.runs).call(
            wanted, folder=folder, is_gone=is_gone(request), **options
        )
        is_recorded = call.is_recorded
        is_success = call.run.status is RunStatus.SUCCESS
        is_written = form.has_files or call.outputs.has_files or not is_success

        def end() -> Response:
            if call.run.status is not RunStatus.SUCCESS:
                return answer_failure(call.run, is_lenient=preferences.is_lenient)
            response = answer_with_outputs(server, call.run, exchange, call.outputs)
            if not is_recorded and is_written:
                response.direct_passthrough = False
                response.make_sequence()  # from files that are about to be deleted
            return response

        return answer(call.run, preferences, end)
    finally:
        form.is_kept = True
        if not is_recorded:
            for each in (folder, form.folder) if is_written else ():
                files.delete(each)
