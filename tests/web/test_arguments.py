"""What a request brings, and how it is told what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Request
from marshmallow import RAISE, Schema, fields
from werkzeug.test import EnvironBuilder

from kedro_flask_server.web.arguments import (
    MAX_DEPTH,
    load_body,
    load_idempotency_key,
    load_last_event_id,
    load_query,
    load_snapshot_params,
    load_submission,
    refuse_interpolation,
)
from kedro_flask_server.web.errors import InvalidRequestError, UnreadableBodyError
from kedro_flask_server.web.schemas.fields import (
    MAX_PROBLEMS,
    UNKNOWN_FIELD,
    object_field,
    text_field,
    texts_field,
    whole_field,
)
from kedro_flask_server.web.schemas.requests import SubmissionQuerySchema


class Body(Schema):
    """A body of a few kinds of fields."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    tags = texts_field("")
    params = object_field("")


class Query(Schema):
    """A query with a list, and a number."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    limit = whole_field("", 5, 1, 9)
    status = fields.List(text_field())


def request(body: bytes = b"", mimetype: str = "application/json", **more: Any) -> Request:
    builder = EnvironBuilder(method="POST", data=body, content_type=mimetype, **more)
    return Request(builder.get_environ())


def problems(call: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
    with pytest.raises(InvalidRequestError) as caught:
        call(*args, **options)
    json.dumps(caught.value.problems)  # it goes to the client
    return caught.value.problems


def in_body(content: Any) -> list[dict[str, Any]]:
    return problems(load_body, request(json.dumps(content).encode()), Body())


@pytest.mark.parametrize("mimetype", ["application/json", "application/vnd.kedro+json"])
def test_body_is_what_the_schema_makes_of_it(mimetype: str) -> None:
    loaded = load_body(request(b'{"tags": ["a"]}', mimetype), Body())
    assert loaded == {"tags": ["a"], "params": None}


def test_body_that_is_missing_is_required() -> None:
    assert problems(load_body, request(), Body()) == [
        {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
    ]


@pytest.mark.parametrize("mimetype", ["text/plain", "text/json", "application/jsonp", ""])
def test_body_that_is_not_sent_as_json_is_not_read(mimetype: str) -> None:
    [problem] = problems(load_body, request(b"{}", mimetype), Body())
    assert (problem["type"], problem["input"]) == ("model_attributes_type", "(2 bytes)")


@pytest.mark.parametrize(
    ("content", "outline"),
    [([1, 2], "(a list of 2 items)"), ("ab", "(a string of 2 characters)"), (None, None), (3, 3)],
)
def test_body_that_is_no_object_is_refused(content: Any, outline: Any) -> None:
    [problem] = in_body(content)
    assert (problem["type"], problem["loc"]) == ("model_attributes_type", ["body"])
    assert problem["input"] == outline


def test_body_that_is_no_json_is_told_where() -> None:
    [problem] = problems(load_body, request(b'{"a": }'), Body())
    assert (problem["type"], problem["loc"]) == ("json_invalid", ["body", 6])
    assert problem["ctx"] == {"error": "Expecting value"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"params": ' + b'{"a": ' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}",
    ],
)
def test_body_that_cannot_be_parsed_at_all_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        load_body(request(body), Body())


def test_body_may_be_as_deep_as_it_may() -> None:
    inner = MAX_DEPTH - 1
    body = b'{"params": ' + b'{"a": ' * inner + b"1" + b"}" * inner + b"}"
    assert load_body(request(body), Body())["params"]


@pytest.mark.parametrize(
    ("value", "outline"),
    [
        (True, True),
        (7, 7),
        (1.5, 1.5),
        (2**53, "(a number)"),
        ("secret", "(a string of 6 characters)"),
        ({"secret": 1}, "(an object of 1 fields)"),
    ],
)
def test_value_that_is_wrong_is_not_repeated_where_it_may_be_secret_or_large(
    value: Any, outline: Any
) -> None:
    assert in_body({"tags": value}) == [
        {
            "type": "list_type",
            "loc": ["body", "tags"],
            "msg": "Input should be a valid list",
            "input": outline,
        }
    ]


def test_items_of_a_list_are_told_by_their_index() -> None:
    locations = [each["loc"] for each in in_body({"tags": ["a", 1, "b", None]})]
    assert locations == [["body", "tags", 1], ["body", "tags", 3]]


def test_no_more_problems_are_told_than_a_few() -> None:
    assert len(in_body({f"x{number}": 1 for number in range(500)})) == MAX_PROBLEMS


def test_name_that_is_wrong_is_told_in_short_and_printable() -> None:
    [problem] = in_body({"x" * 5_000 + "\x1b": 1})
    assert problem["type"] == "extra_forbidden"
    assert len(problem["loc"][1]) < 250
    assert problem["loc"][1].isprintable()


def query(text: str) -> Any:
    return load_query(request(query_string=text), Query())


def test_query_takes_the_last_of_a_parameter_and_all_of_a_list() -> None:
    assert query("limit=2&limit=3&status=a&status=b") == {"limit": 3, "status": ["a", "b"]}
    assert query("") == {"limit": 5}


def test_query_that_is_wrong_is_told_where() -> None:
    found = problems(load_query, request(query_string="limit=x&more=1"), Query())
    assert [(each["type"], each["loc"]) for each in found] == [
        ("int_parsing", ["query", "limit"]),
        ("extra_forbidden", ["query", "more"]),
    ]


def test_parameters_that_would_be_resolved_are_refused_with_their_places() -> None:
    found = problems(refuse_interpolation, {"a": [1, {"b": "${c}"}], "d": "???", "e": "x"})
    paths = [each["loc"] for each in found]
    assert paths == [["body", "params", "a", 1, "b"], ["body", "params", "d"]]
    assert [each["input"] for each in found] == [None, None]
    refuse_interpolation({"a": [1, {"b": "c"}]})
    refuse_interpolation(None)


def test_parameters_of_a_snapshot_are_the_last_that_were_given() -> None:
    assert load_snapshot_params(request(), allow_interpolation=False) is None
    given = request(query_string="params=a=1&params=b=2")
    assert load_snapshot_params(given, allow_interpolation=False) == "b=2"


def test_parameters_of_a_snapshot_that_would_be_resolved_are_refused_unless_allowed() -> None:
    given = request(query_string={"params": "a=${b}"})
    [problem] = problems(load_snapshot_params, given, allow_interpolation=False)
    assert (problem["loc"], problem["input"]) == (["query", "params"], "(a string of 6 characters)")
    assert load_snapshot_params(given, allow_interpolation=True) == "a=${b}"


@pytest.mark.parametrize("key", [None, "a", '"quoted"', "x" * 255])
def test_key_is_taken_as_it_comes(key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    assert load_idempotency_key(request(headers=headers)) == key


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
def test_key_that_is_none_is_refused(key: str) -> None:
    given = request(headers={"Idempotency-Key": key})
    [problem] = problems(load_idempotency_key, given)
    assert problem["loc"] == ["header", "Idempotency-Key"]


@pytest.mark.parametrize(("given", "id_"), [(None, 4), ("", 4), ("0", 0), ("17", 17)])
def test_last_event_is_that_of_the_header_or_the_default(given: str | None, id_: int) -> None:
    headers = {} if given is None else {"Last-Event-ID": given}
    assert load_last_event_id(request(headers=headers), default=4) == id_


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "1" * 10, "\xb2"])
def test_last_event_that_is_no_number_is_refused(given: str) -> None:
    [problem] = problems(load_last_event_id, request(headers={"Last-Event-ID": given}), default=0)
    assert (problem["type"], problem["loc"]) == ("int_parsing", ["header", "Last-Event-ID"])


def labels_of(header: str | None, query: str = "") -> dict[str, str]:
    headers = {} if header is None else {"Run-Labels": header}
    environ = EnvironBuilder(query_string=query, headers=headers).get_environ()
    labels: dict[str, str] = load_submission(Request(environ), SubmissionQuerySchema())["labels"]
    return labels


def test_labels_come_in_a_header_and_in_the_query_which_counts() -> None:
    assert labels_of(None) == {}
    header = 'team=fraud, nightly, note="two words", n=5, d=1.5, off=?0'
    expected = {"team": "fraud", "nightly": "true", "note": "two words", "n": "5", "d": "1.5"}
    assert labels_of(header) == {**expected, "off": "false"}
    assert labels_of("team=fraud;x=1, a", "label=team=risk&label=b") == {
        "team": "risk",
        "a": "true",
        "b": "true",
    }


@pytest.mark.parametrize(
    "header",
    ["team=", "Team=x", "a=(1 2)", "a=:YQ==:", "a=b c", "ü=1", ",".join("abcdefghijklmnopq")],
)
def test_header_of_labels_that_is_not_valid_is_refused(header: str) -> None:
    [problem] = problems(labels_of, header)
    assert problem["loc"] == ["header", "Run-Labels"]


def test_label_of_the_query_that_is_not_valid_is_refused() -> None:
    [problem] = problems(labels_of, None, "label=Team=x")
    assert problem["loc"] == ["query", "label"]
