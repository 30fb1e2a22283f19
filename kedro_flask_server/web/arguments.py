"""Reads what a request brings, and says what is wrong with it as Kedro's server does."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import islice
from typing import Any, cast

import http_sf
from flask import Request
from marshmallow import Schema, ValidationError, fields

from kedro_flask_server.model.idempotency_key import is_key
from kedro_flask_server.model.labels import LabelError, checked
from kedro_flask_server.text import bounded, printable
from kedro_flask_server.web.errors import (
    IDEMPOTENCY_KEY,
    InvalidRequestError,
    UnreadableBodyError,
)
from kedro_flask_server.web.interpolation import has_interpolation, interpolations_in
from kedro_flask_server.web.schemas.fields import MAX_PROBLEMS, Problem, problems_of

MAX_DEPTH = 64
"""How deep lists and objects in a body may nest: what is below here, and Kedro, recurses."""

_MAX_NAME_CHARS = 200

RUN_LABELS = "Run-Labels"

LAST_EVENT_ID = "Last-Event-ID"
_NOT_AN_EVENT_ID = Problem("int_parsing", "Input should be the id of an event")

_NOT_A_KEY = Problem("value_error", "A key is 1 to 255 visible ASCII characters, with no spaces")

_INTERPOLATION = Problem(
    "value_error",
    "Value error, '${' and '???' are not resolved in parameters; a literal '${' is sent as '\\${' "
    "(setting allow_param_interpolation)",
)
_MISSING = Problem("missing", "Field required")
_NOT_AN_OBJECT = Problem(
    "model_attributes_type", "Input should be a valid dictionary, sent as application/json"
)
_NOT_JSON = Problem("json_invalid", "JSON decode error")


def load_body(request: Request, schema: Schema, *, may_be_empty: bool = False) -> Any:
    """Return what a schema makes of a request's JSON body.

    Args:
        request: The request, its body not read yet.
        schema: What the body must be.
        may_be_empty: Whether an empty body stands for an empty object.

    Returns:
        What the schema loads.

    Raises:
        InvalidRequestError: If the body is missing, is not sent as JSON, or is not what the
            schema says.
        UnreadableBodyError: If the body cannot be parsed at all.
        werkzeug.exceptions.RequestEntityTooLarge: If it is larger than ``max_body_bytes``.
    """
    raw = request.get_data(cache=False)
    return load_fields({} if may_be_empty and not raw else _read_json(request, raw), schema)


def load_fields(content: dict[str, Any], schema: Schema) -> Any:
    """Return what a schema makes of the fields of a body.

    Raises:
        InvalidRequestError: If they are not what the schema says.
    """
    try:
        return schema.load(content)
    except ValidationError as error:
        problems = problems_of(error)[:MAX_PROBLEMS]
        raise InvalidRequestError(
            [report(problem, path, _at(content, path)) for path, problem in problems]
        ) from error


def load_query(request: Request, schema: Schema) -> Any:
    """Return what a schema makes of a request's query.

    Args:
        request: The request.
        schema: What the query must be. A field that is a list takes a parameter each time that
            it is given; of the others, the last counts.

    Returns:
        What the schema loads.

    Raises:
        InvalidRequestError: If the query is not what the schema says.
    """
    lists = {name for name, field in schema.fields.items() if isinstance(field, fields.List)}
    content = {
        name: values if name in lists else values[-1] for name, values in request.args.lists()
    }
    try:
        return schema.load(content)
    except ValidationError as error:
        problems = problems_of(error)[:MAX_PROBLEMS]
        raise InvalidRequestError(
            [report(problem, path, _at(content, path), "query") for path, problem in problems]
        ) from error


def load_submission(request: Request, schema: Schema) -> dict[str, Any]:
    """Return how a run is submitted: its priority and its labels.

    Args:
        request: The request, with labels in ``Run-Labels`` and ``label``, of which the second
            counts.
        schema: What the query must be.

    Raises:
        InvalidRequestError: If the query, or the header, is not valid.
    """
    options: dict[str, Any] = load_query(request, schema)
    header = ", ".join(request.headers.getlist(RUN_LABELS))
    if header:
        try:
            options["labels"] = checked({**_labels_in(header), **options["labels"]})
        except LabelError as error:
            problem = Problem("value_error", f"Value error, {error}")
            raise InvalidRequestError([report(problem, (RUN_LABELS,), header, "header")]) from error
    return options


def _labels_in(header: str) -> dict[str, str]:
    """Return the labels of a header, a dictionary of RFC 9651 (section 3.2).

    Args:
        header: Such as ``team=fraud, nightly, note="two words"``; a value is a token, a string, a
            number or a boolean.

    Raises:
        LabelError: If it is not valid.
    """
    try:
        found = cast(dict[str, Any], http_sf.parse(header.encode(), tltype="dictionary"))
    except ValueError as error:
        raise LabelError("not a dictionary of RFC 9651, such as team=fraud, nightly") from error
    return {name: _label(name, value) for name, (value, _) in found.items()}


def _label(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, http_sf.Token, int, Decimal)):
        return str(value)
    raise LabelError(f"the value of the label {name} is neither text, a number nor a boolean")


def refuse_interpolation(params: dict[str, Any] | None) -> None:
    """Refuse a run's parameters that OmegaConf would resolve.

    Raises:
        InvalidRequestError: If there is ``${`` or ``???`` in them; it says where.
    """
    locations = [*islice(interpolations_in(params), MAX_PROBLEMS)]
    if locations:
        raise InvalidRequestError(
            [report(_INTERPOLATION, ("params", *location), None) for location in locations]
        )


def load_snapshot_params(request: Request, *, allow_interpolation: bool) -> str | None:
    """Return the runtime parameters of a snapshot, of which the last counts; None for none.

    Raises:
        InvalidRequestError: If OmegaConf would resolve them.
    """
    given = request.args.getlist("params")
    if given and not allow_interpolation and has_interpolation(given[-1]):
        raise InvalidRequestError([report(_INTERPOLATION, ("params",), given[-1], "query")])
    return given[-1] if given else None


def load_idempotency_key(request: Request) -> str | None:
    """Return a request's ``Idempotency-Key``, or None where it has none.

    The header is that of the IETF's draft "The Idempotency-Key HTTP Header Field"; its value is
    taken as it comes, in quotes or without.

    Raises:
        InvalidRequestError: If it is empty, too long, or no visible ASCII.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not is_key(key):
        raise InvalidRequestError([report(_NOT_A_KEY, (IDEMPOTENCY_KEY,), key, "header")])
    return key


def load_last_event_id(request: Request, *, default: int) -> int:
    """Return a request's ``Last-Event-ID``, the last event that its client has.

    Args:
        request: The request.
        default: What to return where it has none.

    Raises:
        InvalidRequestError: If it is no whole number.
    """
    last = request.headers.get(LAST_EVENT_ID)
    if not last:
        return default
    if not (last.isascii() and last.isdigit() and len(last) < 10):
        raise InvalidRequestError([report(_NOT_AN_EVENT_ID, (LAST_EVENT_ID,), last, "header")])
    return int(last)


def _read_json(request: Request, raw: bytes) -> dict[str, Any]:
    if not raw:
        raise InvalidRequestError([report(_MISSING, (), None)])
    if not is_json(request.mimetype):
        raise InvalidRequestError([report(_NOT_AN_OBJECT, (), raw)])
    content = parse_json(raw)
    if not isinstance(content, dict):
        raise InvalidRequestError([report(_NOT_AN_OBJECT, (), content)])
    return content


def is_json(mimetype: str) -> bool:
    """Return whether a media type is JSON's, or one built on it (RFC 6839, section 3.1)."""
    kind, _, subtype = mimetype.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def parse_json(raw: bytes) -> Any:
    """Return what JSON says.

    Raises:
        InvalidRequestError: If it is none.
        UnreadableBodyError: If it cannot be parsed at all.
    """
    try:
        content = json.loads(raw)
    except json.JSONDecodeError as error:
        problem = report(_NOT_JSON, (error.pos,), {}, ctx={"error": error.msg})
        raise InvalidRequestError([problem]) from error
    except (ValueError, RecursionError) as error:  # bytes that are no text; digits; depth
        raise UnreadableBodyError from error
    if _is_deeper_than(content, MAX_DEPTH):
        raise UnreadableBodyError
    return content


def _is_deeper_than(content: Any, levels: int) -> bool:
    layer = [content]
    for _ in range(levels):
        containers = [each for each in layer if isinstance(each, (dict, list))]
        if not containers:
            return False
        layer = [
            inner
            for each in containers
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, (dict, list)) for each in layer)


def report(
    problem: Problem, path: tuple[str | int, ...], value: Any, where: str = "body", **more: Any
) -> dict[str, Any]:
    """Return what is wrong, as an answer tells it.

    Args:
        problem: What is wrong.
        path: Where, within the part of the request.
        value: What is there.
        where: The part of the request.
        more: What else is told.
    """
    location = [_short(step) if isinstance(step, str) else step for step in path]
    return {
        "type": problem.type,
        "loc": [where, *location],
        "msg": problem.msg,
        "input": _outline(value),
        **more,
    }


def _at(content: Any, path: tuple[str | int, ...]) -> Any:
    """Return what is at a path; of a field that is missing, what it is missing in."""
    for step in path:
        if isinstance(content, dict) and step not in content:
            break
        content = content[step]
    return content


def _outline(value: Any) -> Any:
    """Return a value that is small and no secret as it is, and of all others type and size."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if abs(value) < 2**53 else "(a number)"
    if isinstance(value, str):
        return f"(a string of {len(value)} characters)"
    if isinstance(value, list):
        return f"(a list of {len(value)} items)"
    if isinstance(value, dict):
        return f"(an object of {len(value)} fields)"
    return f"({len(value)} bytes)"


def _short(name: str) -> str:
    return printable(bounded(name, _MAX_NAME_CHARS))
