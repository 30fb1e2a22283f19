"""What runs have returned, for as long as it is kept."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.wsgi import wrap_file

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.data_exchange import Output, RunOutputs
from kedro_flask_server.model.media_types import JSON, SUFFIXES
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.routing import path_to

OUTPUTS_BLUEPRINT = "kedro_server_outputs"

_CHUNK_BYTES = 1 << 18

_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def create_outputs_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/runs/<id>/outputs``."""
    runs = server.runs
    blueprint = Blueprint(OUTPUTS_BLUEPRINT, __name__)

    @blueprint.get("/runs/<run_id>/outputs")
    @needs(Scope.READ, Scope.RUN)
    def list_outputs(run_id: str) -> ResponseReturnValue:
        """List a run's outputs.

        What the run has returned, and the small JSON objects that are kept of every run, for its
        submitter and the scope `admin`.
        ---
        operationId: list_outputs
        tags: [data]
        responses:
          200:
            description: The outputs, by dataset.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Outputs"}
                examples: {none: {value: {outputs: {}, is_deleted: false}}}
          404: {$ref: "#/components/responses/UnknownRun"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        found = authorized_runs(runs).outputs(run_id)
        is_deleted = found.deleted_at is not None
        shown = {
            name: _shown(run_id, name, each, is_deleted=is_deleted)
            for name, each in sorted(found.outputs.items())
        }
        return jsonify(outputs=shown, is_deleted=is_deleted)

    @blueprint.get("/runs/<run_id>/outputs/<path:dataset>")
    @needs(Scope.READ, Scope.RUN)
    def get_output(run_id: str, dataset: str) -> ResponseReturnValue:
        """Get an output.

        The data of a dataset as the run has returned it: in the media type that its request
        accepted, as an attachment, whole or in ranges.
        ---
        operationId: get_output
        tags: [data]
        responses:
          200:
            description: The data.
            headers:
              ETag: {description: Of the data., schema: {type: string}}
            content:
              "*/*": {schema: {}}
          206: {description: The range that was asked for.}
          304: {description: "The caller has it, as `If-None-Match` says (RFC 9110)."}
          404: {$ref: "#/components/responses/UnknownRun"}
          410: {$ref: "#/components/responses/DataGone"}
          416: {description: There is no such range.}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        kept = authorized_runs(runs).outputs(run_id)
        found = kept.outputs.get(dataset)
        if found is not None and found.file is None and found.place is None and found.value:
            return jsonify(found.value)
        return send_output(server, run_id, dataset, kept, is_attachment=True)

    @blueprint.delete("/runs/<run_id>/outputs")
    @needs(Scope.RUN)
    def delete_outputs(run_id: str) -> ResponseReturnValue:
        """Delete a run's data.

        What the request gave and what the run has returned, by its submitter or the scope `admin`.
        To ask again changes nothing.
        ---
        operationId: delete_outputs
        tags: [data]
        responses:
          204: {description: It is deleted.}
          404: {$ref: "#/components/responses/UnknownRun"}
          409: {$ref: "#/components/responses/RunNotEnded"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        authorized_runs(runs).delete_outputs(run_id)
        return "", 204

    return blueprint


def output_url(run_id: str, dataset: str) -> str:
    """Return the path of an output."""
    return path_to(f"{OUTPUTS_BLUEPRINT}.get_output", run_id=run_id, dataset=dataset)


def _shown(run_id: str, dataset: str, output: Output, *, is_deleted: bool) -> dict[str, Any]:
    has_data = (output.file is not None and not is_deleted) or output.value is not None
    has_data = has_data or output.place is not None
    return {
        "media_type": output.media_type,
        "size": output.size_bytes,
        "sha256": (output.sha256 or None) if output.place is None else None,
        "is_table": output.is_table,
        "is_returned": output.is_returned,
        "href": output_url(run_id, dataset) if has_data else None,
        "value": output.value,
        "reason": output.reason,
    }


def send_output(
    server: KedroServer, run_id: str, dataset: str, kept: RunOutputs, *, is_attachment: bool
) -> Response:
    """Return the answer that is the data of an output.

    Args:
        server: The parts of the application.
        run_id: The run.
        dataset: The dataset.
        kept: What is kept of the run.
        is_attachment: Whether a browser is to store it, in ranges where it asks for some.

    Raises:
        UnknownOutputError: If there is none.
        DataGoneError: If it was deleted.
    """
    file = server.runs.data.open(run_id, dataset, kept)
    output = kept.outputs[dataset]
    response = Response(
        wrap_file(request.environ, file, _CHUNK_BYTES),
        mimetype=output.media_type,
        direct_passthrough=True,
    )
    response.content_length = output.size_bytes
    response.set_etag(output.sha256)
    response.cache_control.private = True
    if is_attachment:
        name = _IN_FILE_NAMES.sub("_", dataset)[:100] or "data"
        suffix = SUFFIXES.get(output.media_type or JSON, "")
        response.headers.set("Content-Disposition", "attachment", filename=name + suffix)
        response.make_conditional(
            request.environ, accept_ranges=True, complete_length=output.size_bytes
        )
    return response
