"""The OpenAPI document, made from the schemas that validate and the views' docstrings.

A view's docstring describes it: its first line is the summary, what follows the description;
after a line of ``---``, YAML can say more, in the words of an OpenAPI operation object
(https://spec.openapis.org/oas/v3.1.0#operation-object).
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from werkzeug.routing import Rule

from kedro_flask_server import __version__
from kedro_flask_server.model.idempotency_key import KEY_FORM
from kedro_flask_server.web.health import HEALTH_ENDPOINTS
from kedro_flask_server.web.schemas import DOCUMENTED

logger = logging.getLogger(__name__)

_VARIABLE = re.compile(r"<(?:(?P<converter>[A-Za-z_]\w*)(?:\([^)]*\))?:)?(?P<name>[A-Za-z_]\w*)>")
_VARIABLE_SCHEMAS = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
DOCS_BLUEPRINT = "kedro_server_docs"
"""The blueprint that serves the description, and is not described."""

_METHODS = ("get", "put", "post", "delete", "patch")


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

_RESPONSES = {
    "UnreadableBody": _refusal("The body cannot be parsed."),
    "BodyTooLarge": _refusal("The body is larger than `max_body_bytes`."),
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
    "UnknownRun": _refusal("There is no run of this id."),
    "RunEnded": _refusal("The run has ended, and in another way."),
    "KeyInUse": {
        **_refusal("The first request with this key is just being taken in."),
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

_REFUSED = {
    401: {"$ref": "#/components/responses/Unauthorized"},
    403: {"$ref": "#/components/responses/Forbidden"},
}

_A_RUN = {
    "run_id": "2026-01-01T12.00.00.000Z",
    "status": "queued",
    "position": 3,
    "request": {"pipeline_names": ["training"], "params": {"model": {"max_depth": 3}}},
    "created_at": "2026-01-01T12:00:00.000Z",
    "started_at": None,
    "finished_at": None,
    "duration_ms": None,
    "cancel_requested_at": None,
    "progress": None,
    "error": None,
    "submitted_by": None,
    "project": "breast_cancer",
    "env": "local",
}
_AN_ENDED_RUN = {
    **_A_RUN,
    "position": None,
    "started_at": "2026-01-01T12:00:01.000Z",
    "finished_at": "2026-01-01T12:00:03.500Z",
    "duration_ms": 2500.0,
}

_EXAMPLES: dict[str, Any] = {
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
_EXAMPLES |= {
    "LastEvents": {"events": [_A_NODE, _THE_END], "next": None},
    "EventStream": f"id: 5\nevent: node.finished\ndata: {json.dumps(_A_NODE)}\n\n",
    "LogStream": f"id: 4\nevent: log\ndata: {json.dumps(_A_RECORD)}\n\n",
}

_HEADERS = {
    "RetryAfter": _header("After how many seconds to ask again.", "integer"),
    "Location": _header("Where the run is."),
    "PreferenceApplied": _header("The preferences that made a difference (RFC 7240, section 3)."),
    "IdempotentReplayed": _header(
        "`true` where the run was sent before with this `Idempotency-Key`: nothing new runs."
    ),
}

_PARAMETERS = {
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
    "IdempotencyKey": _header_parameter(
        "Idempotency-Key",
        "The same key and body again are the same run: its answer is given again, with "
        "`Idempotent-Replayed: true`.",
        pattern=f"^{KEY_FORM}$",
    ),
}


def describe(app: Flask, *, prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of an application.

    Args:
        app: The application, with whatever routes have been added to it.
        prefix: The path under which it is served, such as ``/kedro``.

    Returns:
        An OpenAPI 3.1 document: every view that carries a docstring, but for the ``docs``
        blueprint's own.
    """
    spec = APISpec(
        title="Kedro Server",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": "Runs a Kedro project's pipelines, and tells what they are."},
        # The last: where callers are let in without.
        security=[{"ApiKey": []}, {"ApiKeyAsPassword": []}, {}],
        plugins=[MarshmallowPlugin()],
        **({"servers": [{"url": prefix}]} if prefix else {}),
    )
    for schema in DOCUMENTED:
        spec.components.schema(schema.__name__.removesuffix("Schema"), schema=schema)
    for name, response in _RESPONSES.items():
        spec.components.response(name, response)
    for name, example in _EXAMPLES.items():
        spec.components.example(name, {"value": example})
    for name, header in _HEADERS.items():
        spec.components.header(name, header)
    for name, parameter in _PARAMETERS.items():
        spec.components.parameter(name, "header", parameter)
    for name, scheme in (("ApiKey", "bearer"), ("ApiKeyAsPassword", "basic")):
        spec.components.security_scheme(name, {"type": "http", "scheme": scheme})
    # Paths that differ in the names of their variables alone are one (OpenAPI 3.1, Paths Object).
    names: dict[str, list[str]] = {}
    for rule in app.url_map.iter_rules():
        operations = dict(_operations(app, rule))
        if operations:
            variables = [found["name"] for found in _VARIABLE.finditer(rule.rule)]
            names_here = names.setdefault(_VARIABLE.sub("{}", rule.rule), variables)
            parameters = list(_path_parameters(rule, names_here))
            spec.path(_path(rule, names_here), operations=operations, parameters=parameters)
    return spec.to_dict()


def _operations(app: Flask, rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    if rule.endpoint.startswith(f"{DOCS_BLUEPRINT}."):
        return
    view = app.view_functions[rule.endpoint]
    for method in _METHODS:
        if method.upper() in (rule.methods or ()):
            docstring = _docstring(view, method)
            if docstring:
                yield method, _operation(docstring, rule, method)


def _docstring(view: Callable[..., Any], method: str) -> str:
    """Return what documents a view; a class-based view is documented by its methods."""
    view_class = getattr(view, "view_class", None)
    documented = view if view_class is None else getattr(view_class, method, None)
    return (documented and (documented.__doc__ or _docstring_in_source(documented))) or ""


def _docstring_in_source(function: Callable[..., Any]) -> str | None:
    """Return a function's docstring where Python has left it out (``python -OO``)."""
    if sys.flags.optimize < 2:
        return None
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # no source, or no function's
        return None
    if isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ast.get_docstring(definition)
    return None


def _operation(docstring: str, rule: Rule, method: str) -> dict[str, Any]:
    text, _, more_yaml = f"{inspect.cleandoc(docstring)}\n".partition("\n---\n")
    summary, _, description = text.strip().partition("\n")
    operation: dict[str, Any] = {
        "summary": summary.strip().removesuffix("."),
        "operationId": re.sub(r"\W+", "_", f"{rule.endpoint}_{rule.rule}_{method}").strip("_"),
        "responses": {"200": {"description": "Successful response"}},
    }
    if description.strip():
        operation["description"] = description.strip()
    more = _load(more_yaml, rule)
    # YAML by method, as apispec's own plugins read it, or an operation for all methods.
    for_all_methods = {key: more[key] for key in more if key not in _METHODS}
    operation.update(more.get(method, for_all_methods))
    if rule.endpoint not in HEALTH_ENDPOINTS:
        operation["responses"] = {**operation["responses"], **_REFUSED}
    return operation


def _load(text: str, rule: Rule) -> dict[str, Any]:
    try:
        more = yaml.safe_load(text) or {}
        if isinstance(more, dict):
            return more
        fault = f"it is no mapping but {type(more).__name__}"
    except yaml.YAMLError as error:
        fault = str(error)
    logger.warning("What is below --- in the docstring of %s is not used: %s", rule.endpoint, fault)
    return {}


def _path(rule: Rule, names: list[str]) -> str:
    next_name = iter(names)
    return _VARIABLE.sub(lambda _: f"{{{next(next_name)}}}", rule.rule)


def _path_parameters(rule: Rule, names: list[str]) -> Iterator[dict[str, Any]]:
    for variable, name in zip(_VARIABLE.finditer(rule.rule), names, strict=True):
        schema = _VARIABLE_SCHEMAS.get(variable["converter"] or "", {"type": "string"})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
