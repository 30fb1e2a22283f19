"""The parameters of a run as fields of a form."""

from __future__ import annotations

from typing import Any

import pytest

from kedro_flask_server.web.pages.parameters import (
    InvalidParameterError,
    changed_params,
    check,
    fields_of,
)

DESCRIBED: dict[str, Any] = {
    "rows": {"schema": {}, "value": 10},
    "rate": {"schema": {"type": "number"}, "value": 1},
    "name": {"schema": {}, "value": "true"},
    "tags": {"schema": {}, "value": ["a"]},
    "nothing": {"schema": {}, "value": None},
    "model": {"schema": {"type": "object"}, "value": {"depth": 3, "inner": {"is_fast": False}}},
    "password": {"schema": {}, "value": "<redacted>"},
}


def test_nothing_is_sent_that_was_not_changed() -> None:
    fields = fields_of(DESCRIBED, {})
    assert changed_params(fields) == {}
    sent = {each.field: each.text for each in fields}
    assert changed_params(fields_of(DESCRIBED, sent)) == {}


@pytest.mark.parametrize(
    ("name", "text", "params"),
    [
        ("rows", "12", {"rows": 12}),
        ("rate", "0.5", {"rate": 0.5}),
        ("name", "7", {"name": "7"}),
        ("tags", '["a", "b"]', {"tags": ["a", "b"]}),
        ("nothing", "some text", {"nothing": "some text"}),
        ("nothing", "5", {"nothing": 5}),
        ("model.depth", "4", {"model": {"depth": 4}}),
        ("model.inner.is_fast", "true", {"model": {"inner": {"is_fast": True}}}),
        ("password", "hunter2", {"password": "hunter2"}),
    ],
)
def test_what_is_changed_keeps_its_type(name: str, text: str, params: dict[str, Any]) -> None:
    assert changed_params(fields_of(DESCRIBED, {f"param:{name}": text})) == params


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows", "[" * 100_000),
        ("tags", "[" * 65 + "]" * 65),
        ("rows", "many"),
        ("rows", "1.5"),
        ("rows", "true"),
        ("rate", '"x"'),
        ("tags", "{}"),
    ],
)
def test_text_of_another_type_is_refused_at_its_field(name: str, text: str) -> None:
    fields = fields_of(DESCRIBED, {f"param:{name}": text})
    wrong = {each.name: each.fault for each in check(fields) if each.fault}
    assert [*wrong] == [name]
    assert wrong[name].startswith(("It takes ", "It nests too deep"))
    with pytest.raises(InvalidParameterError):
        changed_params(fields)


def test_secret_is_not_in_the_form() -> None:
    [secret] = [each for each in fields_of(DESCRIBED, {}) if each.is_secret]
    assert (secret.name, secret.now, secret.text) == ("password", "", "")
    redacted = {"password": "<redacted>", "rows": 11, "dsn": "x://<redacted>@h", "gone": {"a": 1}}
    fields = fields_of(DESCRIBED, {}, redacted)
    assert changed_params(fields) == {"rows": 11, "gone": {"a": 1}}
    with pytest.raises(InvalidParameterError):
        changed_params(fields_of(DESCRIBED, {"param:name": "<redacted>"}))


def test_values_of_another_run_are_filled_in() -> None:
    fields = fields_of(DESCRIBED, {}, {"model": {"depth": 9}})
    assert changed_params(fields) == {"model": {"depth": 9}}


def test_lines_of_a_text_stay() -> None:
    described = {"text": {"schema": {}, "value": "a\r\nb\n"}}
    [field] = fields_of(described, {"param:text": "a\r\nb\r\n"})
    assert (field.has_lines, field.is_changed) == (True, False)


def test_value_below_one_that_is_no_object_is_refused() -> None:
    fields = fields_of({}, {"param:a": "1", "param:a.b": "2"})
    with pytest.raises(InvalidParameterError):
        changed_params(fields)
