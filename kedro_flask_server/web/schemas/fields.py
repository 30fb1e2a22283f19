"""Fields that read, report and describe as Kedro's own server does.

What is wrong with a value is reported in a list of ``{type, loc, msg, input}`` whose types are
Pydantic's (https://docs.pydantic.dev/latest/errors/validation_errors/).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from marshmallow import ValidationError, fields, missing

from kedro_flask_server.text import rfc3339

MAX_PROBLEMS = 100
"""How many problems of one body are listed; each costs more to say than to make."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one value.

    Attributes:
        type: Pydantic's name for the kind of error.
        msg: The same for a person.
    """

    type: str
    msg: str


_NOT_A_STRING = [Problem("string_type", "Input should be a valid string")]
_MISSING = [Problem("missing", "Field required")]
_NOT_A_LIST = [Problem("list_type", "Input should be a valid list")]
_NOT_AN_OBJECT = [Problem("dict_type", "Input should be a valid dictionary")]
_NOT_A_BOOL = [Problem("bool_type", "Input should be a valid boolean")]
_NOT_READABLE_AS_BOOL = [
    Problem("bool_parsing", "Input should be a valid boolean, unable to interpret input")
]
UNKNOWN_FIELD = Problem("extra_forbidden", "Extra inputs are not permitted")
"""What is wrong with a field that a schema does not have."""

_NOT_A_NUMBER = [Problem("int_parsing", "Input should be a whole number")]
_NOT_A_TIME = [
    Problem("datetime_parsing", "Input should be a time of RFC 3339, such as 2024-01-01T00:00:00Z")
]

_TRUE = {"true", "yes", "on", "t", "y", "1"}
_FALSE = {"false", "no", "off", "f", "n", "0"}


def _is_int64(value: float) -> bool:
    return -(2**63) <= value < 2**63 and value == int(value)


class _Flag(fields.Boolean):
    """A boolean as Pydantic reads it: true, 1, 1.0, or a word such as "yes" in any case."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._read(value.lower(), _TRUE, _FALSE)
        if isinstance(value, (int, float)) and _is_int64(value):
            return self._read(value, {1}, {0})
        raise ValidationError(_NOT_A_BOOL)

    @staticmethod
    def _read(value: Any, true: set[Any], false: set[Any]) -> bool:
        if value in true:
            return True
        if value in false:
            return False
        raise ValidationError(_NOT_READABLE_AS_BOOL)


def plain_json(content: Any) -> Any:
    """Return JSON content that every reader takes: numbers that JSON does not have are texts."""
    return json.loads(json.dumps(content), parse_constant=str)


def text_field(meaning: str = "", **options: Any) -> fields.String:
    """Return the field of a string."""
    pattern = options.pop("pattern", None)
    metadata = {"description": meaning} if meaning else {}
    if pattern:
        metadata["pattern"] = f"^{pattern}$"
    return fields.String(
        error_messages={
            "invalid": _NOT_A_STRING,
            "null": _NOT_A_STRING,
            "required": _MISSING,
        },
        metadata=metadata,
        **options,
    )


class Texts(fields.List[Any]):
    """A list of strings, of whose wrong items the first are told: there can be very many."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError(_NOT_A_LIST)
        wrong = (index for index, item in enumerate(value) if not isinstance(item, str))
        problems = dict.fromkeys(islice(wrong, MAX_PROBLEMS), _NOT_A_STRING)
        if problems:
            raise ValidationError(problems)
        return value


def texts_field(meaning: str) -> fields.List[Any]:
    """Return the field of a list of strings, which may be left out."""
    return Texts(
        text_field(),
        load_default=None,
        allow_none=True,
        metadata={"description": meaning},
    )


def object_field(meaning: str, values: fields.Field[Any] | None = None) -> fields.Dict:
    """Return the field of an object, which may be left out."""
    return fields.Dict(
        keys=text_field() if values else None,
        values=values,
        load_default=None,
        allow_none=True,
        error_messages={"invalid": _NOT_AN_OBJECT},
        metadata={"description": meaning},
    )


def flag_field(meaning: str, *, default: bool | None = False) -> fields.Boolean:
    """Return the field of a boolean; None as its default leaves it out where it is not given."""
    return _Flag(
        load_default=missing if default is None else default,
        error_messages={"null": _NOT_A_BOOL},
        metadata={"description": meaning},
    )


def moment_field(meaning: str) -> fields.AwareDateTime:
    """Return the field of a time in a query."""
    return fields.AwareDateTime(
        format="iso",
        default_timezone=timezone.utc,
        error_messages={"invalid": _NOT_A_TIME},
        metadata={"description": meaning},
    )


def whole_field(meaning: str, default: int | None, minimum: int, maximum: int) -> fields.Integer:
    """Return the field of a whole number within bounds."""
    outside = [Problem("value_error", f"Input should be from {minimum:,} to {maximum:,}")]

    def check(value: int) -> None:
        if not minimum <= value <= maximum:
            raise ValidationError(outside)

    return fields.Integer(
        load_default=default,
        validate=check,
        error_messages={"invalid": _NOT_A_NUMBER, "too_large": _NOT_A_NUMBER},
        metadata={"description": meaning, "minimum": minimum, "maximum": maximum},
    )


def problems_of(error: ValidationError) -> list[tuple[tuple[str | int, ...], Problem]]:
    """Return what a schema found wrong, each with its location.

    Args:
        error: What `RunRequestSchema` raised.

    Returns:
        Pairs of a path into the body (names and indexes) and what is wrong there.
    """
    found: list[tuple[tuple[str | int, ...], Problem]] = []
    _collect(error.messages, (), found.append)
    return found


def _collect(messages: Any, path: tuple[Any, ...], add: Callable[[Any], None]) -> None:
    if isinstance(messages, dict):
        for step, inner in messages.items():
            _collect(inner, (*path, step), add)
        return
    # marshmallow says for an object's entry whether its key or its value is wrong.
    location = path[:-1] if len(path) == 3 and path[-1] in ("key", "value") else path
    for problem in messages:
        add((location, problem))


class _Moment(fields.DateTime):
    """A UTC time as RFC 3339 writes it, to the millisecond."""

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else rfc3339(value)


def time_field(meaning: str, *, allow_none: bool = True) -> fields.DateTime:
    """Return the field of a time in an answer."""
    return _Moment(required=True, allow_none=allow_none, metadata={"description": meaning})
