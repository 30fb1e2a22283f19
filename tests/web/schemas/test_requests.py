"""The bodies and queries of requests, and what they become."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from kedro_flask_server.model.retry import RetryOptions
from kedro_flask_server.model.run import RunFilter, RunPart, RunRequest, RunStatus
from kedro_flask_server.web.schemas.fields import problems_of
from kedro_flask_server.web.schemas.requests import (
    EventQuerySchema,
    LogQuerySchema,
    RetrySchema,
    RunQuerySchema,
    RunRequestSchema,
)


def problems(schema: Schema, given: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        schema.load(given)
    return [(path, problem.type) for path, problem in problems_of(caught.value)]


def test_every_field_of_a_run_request_can_be_sent_and_no_other() -> None:
    names = {field.name for field in fields(RunRequest)} - {"data"}
    assert RunRequestSchema().fields.keys() == names
    assert problems(RunRequestSchema(), {"pipeline": "a"}) == [(("pipeline",), "extra_forbidden")]


def test_empty_body_is_a_run_of_the_default_pipeline() -> None:
    assert RunRequestSchema().load({}) == RunRequest()


def test_run_request_is_what_was_sent() -> None:
    given = {
        "pipeline_names": ["train"],
        "from_inputs": ["a"],
        "to_outputs": ["b"],
        "from_nodes": ["c"],
        "to_nodes": ["d"],
        "node_names": ["e"],
        "tags": ["f"],
        "namespaces": ["g"],
        "runner": "my_package.runners.MyRunner",
        "is_async": True,
        "only_missing_outputs": True,
        "load_versions": {"h": "2026-01-01T00.00.00.000Z"},
        "params": {"i": {"j": [1, None]}},
    }
    assert RunRequestSchema().load(given).given() == given


@pytest.mark.parametrize("name", ["", "a b", "1a", "a.", ".a", "a..b", "a\n", "os;system"])
def test_runner_is_a_name_or_a_dotted_path(name: str) -> None:
    assert problems(RunRequestSchema(), {"runner": name}) == [(("runner",), "value_error")]


@pytest.mark.parametrize("version", ["2026-01-01T00.00.00.000Z", "v1", "a+b:c_d", "x" * 128])
def test_version_is_a_part_of_a_path(version: str) -> None:
    loaded = RunRequestSchema().load({"load_versions": {"a": version}})
    assert loaded.load_versions == {"a": version}


@pytest.mark.parametrize("version", ["", "..", "a/../b", "/a", "a..b", ".a", "x" * 129, "a\n"])
def test_version_leads_nowhere_else(version: str) -> None:
    found = problems(RunRequestSchema(), {"load_versions": {"a": version}})
    assert found == [(("load_versions", "a"), "value_error")]


def test_query_of_runs_is_a_filter_and_a_page() -> None:
    wanted, page = RunQuerySchema().load({})
    assert wanted == RunFilter(has_retried=False)
    assert page == {"limit": 50, "cursor": None, "include": frozenset()}
    wanted, page = RunQuerySchema().load(
        {
            "status": ["queued", "lost"],
            "pipeline": "train",
            "since": "2026-01-01T00:00:00Z",
            "idempotency_key": "k",
            "label": ["team=fraud", "nightly", "note=a=b"],
            "limit": "7",
            "cursor": "2026-01-01T00.00.00.000Z",
        }
    )
    assert wanted == RunFilter(
        statuses=(RunStatus.QUEUED, RunStatus.LOST),
        pipeline="train",
        since=datetime(2026, 1, 1, tzinfo=timezone.utc),
        idempotency_key="k",
        labels=(("team", "fraud"), ("nightly", None), ("note", "a=b")),
    )
    assert page == {"limit": 7, "cursor": "2026-01-01T00.00.00.000Z", "include": frozenset()}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (["request"], {RunPart.REQUEST}),
        (["request,traceback"], {RunPart.REQUEST, RunPart.TRACEBACK}),
        (["request", " traceback , request,"], {RunPart.REQUEST, RunPart.TRACEBACK}),
        ([""], set()),
    ],
)
def test_parts_are_given_with_commas_or_again(given: list[str], parts: set[RunPart]) -> None:
    _, page = RunQuerySchema().load({"include": given})
    assert page["include"] == parts


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"status": ["queued", "done"]}, (("status", 1), "enum")),
        ({"include": ["request", "log,request"]}, (("include", 1), "enum")),
        ({"cursor": "next"}, (("cursor",), "value_error")),
        ({"limit": "0"}, (("limit",), "value_error")),
        ({"limit": "201"}, (("limit",), "value_error")),
        ({"until": "soon"}, (("until",), "datetime_parsing")),
        ({"submitted_by": "bob"}, (("submitted_by",), "extra_forbidden")),
        ({"within": "train"}, (("within",), "extra_forbidden")),
    ],
)
def test_query_of_runs_that_is_wrong_is_told_where(given: dict[str, Any], problem: Any) -> None:
    assert problems(RunQuerySchema(), given) == [problem]


def test_query_of_events_and_log_says_where_they_begin() -> None:
    assert EventQuerySchema().load({}) == (0, 200)
    assert EventQuerySchema().load({"after": "7", "limit": "1000"}) == (7, 1_000)
    assert LogQuerySchema().load({"after": str(2**31 - 1)}) == 2**31 - 1


@pytest.mark.parametrize(
    ("schema", "given", "name"),
    [
        (EventQuerySchema(), {"limit": "1001"}, "limit"),
        (EventQuerySchema(), {"after": str(2**31)}, "after"),
        (LogQuerySchema(), {"after": "-1"}, "after"),
    ],
)
def test_query_of_events_beyond_the_bounds_is_refused(
    schema: Schema, given: dict[str, str], name: str
) -> None:
    assert problems(schema, given) == [((name,), "value_error")]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"from": "middle"}, ("from",)),
        ({"from": None}, ("from",)),
        ({"from": 1}, ("from",)),
        ({"params": [1]}, ("params",)),
        ({"force": "append"}, ("force",)),
        ({"force": [1]}, ("force", 0)),
        ({"force": ["append", "run_active"]}, ("force", 1)),
        ({"start": "failure"}, ("start",)),
    ],
)
def test_retry_that_is_not_understood_is_refused(body: dict, where: tuple) -> None:
    [(found, _)] = problems(RetrySchema(), body)
    assert found == where


def test_retry_is_from_the_failure_unless_it_is_said() -> None:
    assert RetrySchema().load({"force": None, "params": None}) == RetryOptions()
    given = {"from": "start", "params": {"a": 1}, "force": ["append", "node_gone"]}
    expected = RetryOptions(
        start="start", params={"a": 1}, force=frozenset({"append", "node_gone"})
    )
    assert RetrySchema().load(given) == expected
