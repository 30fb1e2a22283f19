"""Command lines that do the same as a request."""

from __future__ import annotations

import json
import shlex

import pytest
from kedro.framework.cli.project import run as kedro_run

from kedro_flask_server.model.command_lines import curl_command, kedro_command
from kedro_flask_server.model.run import RunRequest


def parsed(line: str) -> dict[str, object]:
    """Return what ``kedro run`` makes of a line."""
    program, command, *arguments = shlex.split(line)
    assert (program, command) == ("kedro", "run")
    context = kedro_run.make_context("run", arguments)
    return {name: value for name, value in context.params.items() if value}


def test_kedro_takes_the_line_for_the_request() -> None:
    request = RunRequest(
        pipeline_names=["training", "reporting"],
        from_nodes=["a node"],
        to_nodes=["b"],
        node_names=["c", "d([x]) -> [y]"],
        tags=["t"],
        runner="ThreadRunner",
        is_async=True,
        only_missing_outputs=True,
        load_versions={"model": "2026-01-01T00.00.00.000Z"},
        params={"a": {"b": 1.5, "c": -2}, "flag": True, "text": "two words", "none": "x/y.z"},
    )
    line = kedro_command(request, env="prod")
    assert line is not None
    found = parsed(line)
    assert found["env"] == "prod"
    assert found["pipelines"] == ["training", "reporting"]
    assert [*found["from_nodes"]] == ["a node"]
    assert [*found["node_names"]] == ["c", "d([x]) -> [y]"]
    assert [*found["tags"]] == ["t"]
    assert (found["runner"], found["is_async"]) == ("ThreadRunner", True)
    assert found["only_missing_outputs"] is True
    assert found["load_versions"] == request.load_versions
    assert found["params"] == request.params


@pytest.mark.parametrize(
    "value", ["1", "true", "null", "1e3", "a,b", "a=b", "", " x", "é", [1], None, {}, float("nan")]
)
def test_parameter_that_the_option_cannot_take_leaves_no_line(value: object) -> None:
    assert kedro_command(RunRequest(params={"p": value}), env="local") is None
    assert kedro_command(RunRequest(params={"a.b": 1}), env="local") is None


def test_curl_sends_the_request() -> None:
    request = RunRequest(params={"text": 'it\'s "quoted"'})
    url = "http://127.0.0.1:8000/run"
    program, address, option, body = shlex.split(curl_command(request, url))
    assert (program, address, option) == ("curl", url, "--json")
    assert json.loads(body) == request.given()
