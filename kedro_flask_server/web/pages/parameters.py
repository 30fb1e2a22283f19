"""The parameters of a run as fields of a form: each with the value that it has now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kedro_flask_server.redaction import REDACTED
from kedro_flask_server.web.arguments import parse_json
from kedro_flask_server.web.errors import InvalidRequestError, UnreadableBodyError

_EXPECTED = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list, in JSON",
    "object": "an object, in JSON",
}

PREFIX = "param:"
"""What the fields of parameters begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterField:
    """A parameter in a form.

    Attributes:
        name: Its name, with dots.
        kind: What it takes, in a word.
        now: The value that it has, as text; of a secret, nothing.
        text: What is in the field.
        is_secret: Whether its value is not shown.
        fault: What is wrong with the text.
    """

    name: str
    kind: str
    now: str
    text: str
    is_secret: bool
    fault: str | None = None

    @property
    def field(self) -> str:
        """The name of its field."""
        return f"{PREFIX}{self.name}"

    @property
    def is_changed(self) -> bool:
        """Whether its text is another than its value."""
        return self.text != self.now

    @property
    def has_lines(self) -> bool:
        """Whether a field of one line would change it."""
        return "\n" in self.now or "\n" in self.text


class InvalidParameterError(ValueError):
    """Raised when the text of a parameter is no value of its type."""


def fields_of(
    described: Mapping[str, Any], given: Mapping[str, str], params: Mapping[str, Any] | None = None
) -> list[ParameterField]:
    """Return the parameters of a pipeline as fields.

    Args:
        described: The parameters, each with its ``schema`` and ``value``.
        given: What a form has sent, by the names of its fields.
        params: What another run was given; what of it is no parameter any more is a field, too.
    """
    sent = dict(_leaves(dict(params or {}), ""))
    found: dict[str, ParameterField] = {}
    for name, each in sorted(described.items()):
        prefix = "" if name == "parameters" else name
        leaves = [*_leaves(each["value"], prefix)] or [(prefix, each["value"])]
        for path, value in leaves:
            if path and path not in found:
                kind = _kind(value, each["schema"] if path == name else {})
                found[path] = _field(path, kind, value, given, sent)
    unknown = {path: value for path, value in sent.items() if path not in found}
    for name in given:
        path = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and path and path not in found:
            unknown.setdefault(path, None)
    for path, value in unknown.items():
        if not _is_hidden(value):
            found[path] = _field(path, "any", None, given, sent)
    return [*found.values()]


def changed_params(fields: Sequence[ParameterField]) -> dict[str, Any]:
    """Return the values that were changed, as ``params`` of a request.

    Raises:
        InvalidParameterError: If a text is no value of its type; `check` says which.
    """
    params: dict[str, Any] = {}
    for each in fields:
        if each.is_changed:
            *above, last = each.name.split(".")
            inner = params
            for key in above:
                inner = inner.setdefault(key, {})
                if not isinstance(inner, dict):
                    raise InvalidParameterError(f"{key} has a value of its own.")
            inner[last] = _value(each)
    return params


def check(fields: Sequence[ParameterField]) -> list[ParameterField]:
    """Return the fields, each with what is wrong with its text."""
    checked = []
    for each in fields:
        fault = None
        try:
            changed_params([each])
        except InvalidParameterError as error:
            fault = str(error)
        checked.append(replace(each, fault=fault))
    return checked


def _field(
    path: str, kind: str, value: Any, given: Mapping[str, str], sent: Mapping[str, Any]
) -> ParameterField:
    is_secret = _is_hidden(value)
    now = "" if is_secret else _text(value)
    text = given.get(f"{PREFIX}{path}")
    if text is None:
        # A secret of another run has to be given again.
        is_filled_in = path in sent and not _is_hidden(sent[path])
        text = _text(sent[path]) if is_filled_in else now
    lines = text.replace("\r\n", "\n")
    return ParameterField(name=path, kind=kind, now=now, text=lines, is_secret=is_secret)


def _is_hidden(value: Any) -> bool:
    return REDACTED in json.dumps(value, ensure_ascii=False, default=str)


def _leaves(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        return
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _kind(value: Any, schema: Mapping[str, Any]) -> str:
    named = schema.get("type")
    if isinstance(named, str) and named != "object":
        return named
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    for kind, name in kinds:
        if isinstance(value, kind):
            return name
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "any"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    return json.dumps(value, ensure_ascii=False)


def _value(field: ParameterField) -> Any:
    if REDACTED in field.text:
        raise InvalidParameterError("A secret is given as it is, or left alone.")
    if field.kind == "string":
        return field.text
    expected = f"It takes {_EXPECTED.get(field.kind, field.kind)}."
    try:
        value = parse_json(field.text.strip().encode("utf-8", "surrogatepass"))
    except InvalidRequestError as error:
        if field.kind == "any":
            return field.text
        raise InvalidParameterError(expected) from error
    except UnreadableBodyError as error:
        raise InvalidParameterError("It nests too deep, or cannot be read.") from error
    is_right = {
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }.get(field.kind, True)
    if not is_right:
        raise InvalidParameterError(expected)
    return value
