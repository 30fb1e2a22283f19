"""What operations of the OpenAPI document refer to: responses, examples, headers, parameters."""

from __future__ import annotations

import json
from typing import Any

from kedro_flask_server.model.idempotency_key import KEY_FORM
from kedro_flask_server.model.labels import HEADER_FORM


def _header(meaning: str, kind: str = "string") -> dict[str, Any]:
    return {"description": meaning, "schema": {"type": kind}}


def _header_parameter(name: str, meaning: str, **schema: object) -> dict[str, Any]:
    # No example: Swagger UI would send it with each request.
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": meaning,
        "schema": {"type": "string", **schema},
    }


def _refusal(meaning: str, schema: str = "ErrorResponse") -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": meaning, "content": {"application/json": content}}


_ASK_AGAIN = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}

RESPONSES = {
    "UnreadableBody": _refusal("The body cannot be parsed."),
    "BodyTooLarge": _refusal(
        "The body is larger than `max_body_bytes`, or with data, `max_data_bytes`."
    ),
    "NotAcceptable": _refusal("The output has none of the media types of `Accept`."),
    "NotTaken": _refusal("A body with `Content-Encoding` is not taken."),
    "DataGone": _refusal("The data was deleted, or kept for long enough."),
    "StorageFull": _refusal("There is no space for the data."),
    "ProjectFailed": _refusal("What the pipeline takes cannot be told: the project fails."),
    "RunNotEnded": _refusal("The run has not ended: its data is in use."),
    "CallFailed": _refusal("The run failed.", "RunFailure"),
    "CallTimedOut": _refusal("The run took too long, or waited too long.", "RunFailure"),
    "InvalidRequest": _refusal("The request is not what it should be.", "HTTPValidationError"),
    "Unauthorized": _refusal("The request has to say who sends it, by an API key."),
    "Forbidden": _refusal(
        "The key is not for this; or the host is not one of this server, or another site's page "
        "has sent the request."
    ),
    "QuotaUsed": {
        **_refusal("The key has as many runs queued or running as it may."),
        "headers": _ASK_AGAIN,
    },
    "UnknownPipeline": _refusal("The project has no such pipeline."),
    "LoadRefused": _refusal("That cannot be loaded; what was loaded before stays."),
    "UnknownRun": _refusal("There is no run of this id."),
    "RunEnded": _refusal("The run has ended, and in another way."),
    "RetryRefused": _refusal(
        "The run cannot be retried, or not so; or the first request with this key is just being "
        "taken in.",
        "RetryRefused",
    ),
    "KeyInUse": {
        **_refusal(
            "The first request with this key is just being taken in; or another run uses a dataset "
            "that one of both writes, and the run does not wait (`dataset_conflicts`)."
        ),
        "headers": _ASK_AGAIN,
    },
    "ServerBusy": {
        **_refusal(
            "As many requests wait, or as many runs are queued, as may; or the store of the runs "
            "is not available; or the server is stopping."
        ),
        "headers": _ASK_AGAIN,
    },
    "NothingMore": {
        "description": "To a stream that goes on: the run has ended, and all of it was sent."
    },
    "NotAlive": _refusal("It has to be started again, for the reason that is given."),
    "NotReady": _refusal("They cannot, for the reason that is given."),
    "StrictFailure": {
        **_refusal("The run failed, and `handling=strict` was preferred.", "RunFailure"),
        "headers": {"Idempotent-Replayed": {"$ref": "#/components/headers/IdempotentReplayed"}},
    },
    "RunAccepted": {
        "description": "The run is stored and goes on; `Location` is where to ask for it.",
        "headers": {
            **_ASK_AGAIN,
            "Location": {"$ref": "#/components/headers/Location"},
            "Preference-Applied": {"$ref": "#/components/headers/PreferenceApplied"},
            "Idempotent-Replayed": {"$ref": "#/components/headers/IdempotentReplayed"},
        },
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Run"},
                "examples": {"queued": {"$ref": "#/components/examples/QueuedRun"}},
            }
        },
    },
}

REFUSED = {
    401: {"$ref": "#/components/responses/Unauthorized"},
    403: {"$ref": "#/components/responses/Forbidden"},
}

_A_RUN = {
    "run_id": "2026-01-01T12.00.00.000Z",
    "status": "queued",
    "position": 3,
    "priority": 0,
    "waiting_for": {"reason": "slot"},
    "request": {"pipeline_names": ["training"], "params": {"model": {"max_depth": 3}}},
    "created_at": "2026-01-01T12:00:00.000Z",
    "started_at": None,
    "finished_at": None,
    "duration_ms": None,
    "cancel_requested_at": None,
    "progress": None,
    "error": None,
    "submitted_by": None,
    "has_locks": True,
    "warnings": [],
    "labels": {"team": "fraud", "nightly": "true"},
    "retry_of": None,
    "retried_by": None,
    "attempt": 1,
    "project": "breast_cancer",
    "env": "local",
}
_AN_ENDED_RUN = {
    **_A_RUN,
    "position": None,
    "waiting_for": None,
    "started_at": "2026-01-01T12:00:01.000Z",
    "finished_at": "2026-01-01T12:00:03.500Z",
    "duration_ms": 2500.0,
}

EXAMPLES: dict[str, Any] = {
    "QueuedRun": _A_RUN,
    "SucceededRun": {**_AN_ENDED_RUN, "status": "success"},
    "FailedRun": {
        **_AN_ENDED_RUN,
        "status": "failure",
        "error": {
            "type": "ValueError",
            "message": "max_depth must be positive",
            "node": "train_model",
            "traceback": "Traceback (most recent call last):\n  …",
        },
    },
    "CancelledRun": {
        **_AN_ENDED_RUN,
        "status": "cancelled",
        "cancel_requested_at": "2026-01-01T12:00:02.000Z",
        "error": {
            "type": "RunCancelled",
            "message": "The run was cancelled.",
            "node": None,
            "traceback": None,
        },
    },
}

_A_NODE = {
    "id": 5,
    "time": "2026-01-01T12:00:03.000Z",
    "type": "node.finished",
    "data": {"node": "train_model", "duration_ms": 1980.5, "done": 1, "total": 1},
}
_THE_END = {
    "id": 6,
    "time": "2026-01-01T12:00:03.500Z",
    "type": "run.finished",
    "data": {"status": "success", "duration_ms": 2500.0, "error": None, "done": 1, "total": 1},
}
_A_RECORD = {
    "id": 4,
    "time": "2026-01-01T12:00:02.000Z",
    "type": "log",
    "data": {"level": "INFO", "logger": "kedro.runner", "message": "Running node: train_model"},
}
EXAMPLES |= {
    "LastEvents": {"events": [_A_NODE, _THE_END], "next": None},
    "EventStream": f"id: 5\nevent: node.finished\ndata: {json.dumps(_A_NODE)}\n\n",
    "LogStream": f"id: 4\nevent: log\ndata: {json.dumps(_A_RECORD)}\n\n",
}

HEADERS = {
    "RetryAfter": _header("After how many seconds to ask again.", "integer"),
    "Location": _header("Where the run is."),
    "PreferenceApplied": _header("The preferences that made a difference (RFC 7240, section 3)."),
    "KedroRunId": _header("The run that the answer is about."),
    "IdempotentReplayed": _header(
        "`true` where the run was sent before with this `Idempotency-Key`: nothing new runs."
    ),
}

PARAMETERS = {
    "Prefer": _header_parameter(
        "Prefer",
        "`respond-async`, answer before the run has ended; with `wait=N`, after N seconds at the "
        "latest (`respond-async, wait=10`). `handling=strict`, answer 500 where the run fails.",
    ),
    "PreferWait": _header_parameter("Prefer", "`wait=N`: wait up to N seconds for the run's end."),
    "LastEventID": _header_parameter(
        "Last-Event-ID",
        "The id of the last event that the client has; a stream goes on after it.",
        pattern=r"^\d{1,9}$",
    ),
    "RunLabels": _header_parameter(
        "Run-Labels",
        "Labels of the run, a dictionary of RFC 9651, such as `team=fraud, nightly`; up to 16, "
        "beside those of the query.",
        pattern=f"^{HEADER_FORM}$",
    ),
    "IdempotencyKey": _header_parameter(
        "Idempotency-Key",
        "The same key and body again are the same run: its answer is given again, with "
        "`Idempotent-Replayed: true`.",
        pattern=f"^{KEY_FORM}$",
    ),
}
