"""Fields read as Kedro's own server does, and say what is wrong in Pydantic's words."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from kedro_flask_server.web.schemas.fields import (
    MAX_PROBLEMS,
    Problem,
    flag_field,
    moment_field,
    object_field,
    problems_of,
    text_field,
    texts_field,
    time_field,
    whole_field,
)


class Fields(Schema):
    """One of each kind."""

    text = text_field()
    texts = texts_field("")
    object = object_field("")
    texts_by_name = object_field("", values=text_field())
    flag = flag_field("")
    moment = moment_field("")
    whole = whole_field("", 5, 1, 1_000)


def load(**given: Any) -> Any:
    return Fields().load(given)


def problems(**given: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        load(**given)
    found = problems_of(caught.value)
    assert all(isinstance(problem, Problem) and problem.msg for _, problem in found)
    return [(path, problem.type) for path, problem in found]


def test_what_is_left_out_has_its_default() -> None:
    defaults = {"texts": None, "object": None, "texts_by_name": None, "flag": False, "whole": 5}
    assert load() == defaults


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", "Yes", "ON", "t", "y"])
def test_flag_is_set_by_what_pydantic_takes_for_true(value: Any) -> None:
    assert load(flag=value)["flag"] is True


@pytest.mark.parametrize("value", [False, 0, 0.0, -0.0, "0", "false", "No", "OFF", "f", "n"])
def test_flag_is_not_set_by_what_pydantic_takes_for_false(value: Any) -> None:
    assert load(flag=value)["flag"] is False


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (2, "bool_parsing"),
        ("maybe", "bool_parsing"),
        ("", "bool_parsing"),
        (0.5, "bool_type"),
        (2**63, "bool_type"),
        (1e300, "bool_type"),
        (None, "bool_type"),
        ([], "bool_type"),
    ],
)
def test_what_is_no_flag_is_refused(value: Any, type_: str) -> None:
    assert problems(flag=value) == [(("flag",), type_)]


@pytest.mark.parametrize("value", [None, 1, ["a"], {}])
def test_what_is_no_text_is_refused(value: Any) -> None:
    assert problems(text=value) == [(("text",), "string_type")]


def test_list_of_texts_may_be_empty_or_left_out() -> None:
    assert load(texts=[])["texts"] == []
    assert load(texts=None)["texts"] is None
    assert load(texts=["a", ""])["texts"] == ["a", ""]


@pytest.mark.parametrize("value", ["a", {}, 1])
def test_what_is_no_list_is_refused(value: Any) -> None:
    assert problems(texts=value) == [(("texts",), "list_type")]


def test_each_wrong_item_of_a_list_is_told_up_to_a_bound() -> None:
    assert problems(texts=["a", 1, None]) == [
        (("texts", 1), "string_type"),
        (("texts", 2), "string_type"),
    ]
    assert len(problems(texts=[1] * 10_000)) == MAX_PROBLEMS


@pytest.mark.parametrize("value", ["a", [], 1])
def test_what_is_no_object_is_refused(value: Any) -> None:
    assert problems(object=value) == [(("object",), "dict_type")]


def test_wrong_value_of_an_object_is_told_by_its_name() -> None:
    assert load(texts_by_name={"a": "b"})["texts_by_name"] == {"a": "b"}
    assert problems(texts_by_name={"key": 1, "value": None}) == [
        (("texts_by_name", "key"), "string_type"),
        (("texts_by_name", "value"), "string_type"),
    ]


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05"]
)
def test_moment_is_utc_where_it_does_not_say(text: str) -> None:
    assert load(moment=text)["moment"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01T00:00:00Z", ""])
def test_what_is_no_moment_is_refused(value: Any) -> None:
    assert problems(moment=value) == [(("moment",), "datetime_parsing")]


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("1000", 1_000), ("+7", 7)])
def test_whole_number_is_within_its_bounds(value: str, number: int) -> None:
    assert load(whole=value)["whole"] == number


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("0", "value_error"),
        ("1001", "value_error"),
        ("x", "int_parsing"),
        ("1.5", "int_parsing"),
        ("", "int_parsing"),
        ("9" * 5_000, "int_parsing"),
    ],
)
def test_what_is_no_whole_number_within_bounds_is_refused(value: str, type_: str) -> None:
    assert problems(whole=value) == [(("whole",), type_)]


def test_bounds_of_a_whole_number_are_told_and_documented() -> None:
    with pytest.raises(ValidationError) as caught:
        load(whole="0")
    [(_, problem)] = problems_of(caught.value)
    assert problem.msg == "Input should be from 1 to 1,000"
    metadata = whole_field("What.", 5, 1, 1_000).metadata
    assert metadata == {"description": "What.", "minimum": 1, "maximum": 1_000}


def test_form_of_a_text_is_documented_from_end_to_end() -> None:
    assert text_field("What.", pattern="a+").metadata == {
        "description": "What.",
        "pattern": "^a+$",
    }
    assert text_field().metadata == {}


def test_time_is_written_to_the_millisecond() -> None:
    class Answer(Schema):
        at = time_field("")

    moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone.utc)
    assert Answer().dump({"at": moment}) == {"at": "2026-01-02T03:04:05.678Z"}
    assert Answer().dump({"at": None}) == {"at": None}
