"""Answers with data: what a run or a call of a served pipeline has returned."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from kedro_flask_server.errors import DataGoneError
from kedro_flask_server.model.data_exchange import DataRequest, Output, RunOutputs
from kedro_flask_server.model.media_types import JSON
from kedro_flask_server.model.run import Run
from kedro_flask_server.web.core import dump_end
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.outputs import output_url, send_output

# What a run that ended otherwise than by an error of its own is answered with.
_STATUS_OF = {"RunTimeout": 504, "QueueTimeout": 504, "InvalidInput": 422}


def answer_failure(run: Run, *, is_lenient: bool) -> Response:
    """Return the answer to a run that failed."""
    error = run.error
    status = _STATUS_OF.get(error.type if error else "", 500)
    if status == 422 and error is not None and error.problems is not None:
        response = jsonify(detail=error.problems)
    else:
        response = jsonify(dump_end(run))
        status = 200 if is_lenient else status
    response.status_code = status
    return response


def answer_with_outputs(
    server: KedroServer, run: Run, exchange: DataRequest, kept: RunOutputs
) -> Response:
    """Return the answer to a run that succeeded: its outputs, as the request accepts them.

    Args:
        server: The parts of the application.
        run: The run.
        exchange: What its request says of data.
        kept: What it has returned.

    Raises:
        DataGoneError: If that was deleted.
    """
    if kept.deleted_at is not None:
        raise DataGoneError(run.run_id)
    returned = {name: each for name, each in kept.outputs.items() if each.is_returned}
    if exchange.accept != JSON and len(exchange.outputs) == 1:
        [name] = exchange.outputs
        if name in returned and returned[name].media_type == exchange.accept:
            return send_output(server, run.run_id, name, kept, is_attachment=False)
    limit = server.config.max_inline_output_bytes
    fields = dump_end(run)
    reasons = {name: each.reason for name, each in returned.items() if not each.has_data}
    reasons |= {name: "no node has saved it" for name in exchange.outputs if name not in returned}
    fields["tables"] = sorted(name for name, each in returned.items() if each.is_table)
    if reasons:
        fields["not_returned"] = reasons
    # Outputs are JSON already.
    head = jsonify(fields).get_data().rstrip().removesuffix(b"}")
    pieces = [head, b',"outputs":{']
    stored = {name: returned[name] for name in sorted(returned) if returned[name].has_data}
    for at, (name, each) in enumerate(stored.items()):
        pieces += [b"," if at else b"", jsonify(name).get_data().strip(), b":"]
        if each.content is not None and each.size_bytes <= limit:
            pieces.append(each.content.encode())
        elif each.file is not None and each.media_type == JSON and each.size_bytes <= limit:
            with server.runs.data.open(run.run_id, name, kept) as file:
                pieces.append(file.read())
        else:
            pieces.append(jsonify(address_of(run.run_id, name, each)).get_data().strip())
    return Response(b"".join([*pieces, b"}}\n"]), mimetype=JSON)


def address_of(run_id: str, dataset: str, output: Output) -> dict[str, Any]:
    """Return where the data of an output is."""
    return {
        "href": output_url(run_id, dataset),
        "media_type": output.media_type,
        "size": output.size_bytes,
    }
