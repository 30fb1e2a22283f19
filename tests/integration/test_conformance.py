"""Ours answers what Kedro's own server answers, to the same request on the same project."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.conformance import DIFFERENCES, EXCHANGES, Exchange
from tests.servers import RunningServer

pytestmark = pytest.mark.once

RUN_ID = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")


def _send(server: RunningServer, exchange: Exchange) -> httpx.Response:
    # The URL is sent as it is written: httpx would tidy it up.
    return httpx.request(
        exchange.method,
        server.url + exchange.path,
        content=exchange.body,
        headers=exchange.headers,
        timeout=120,
    )


def _contracted(response: httpx.Response) -> Any:
    """Return the part of an answer that clients may rely on."""
    if response.is_redirect:
        target = urlsplit(response.headers["location"])
        return "redirect", target.path, target.query
    body = response.json()
    headers = response.headers.get("retry-after"), bool(response.headers.get("allow"))
    if response.status_code == 422:
        assert all({"type", "loc", "msg", "input"} <= set(each) for each in body["detail"])
        return 422, headers, sorted((each["type"], each["loc"]) for each in body["detail"])
    if isinstance(body, dict) and "run_id" in body:
        assert RUN_ID.fullmatch(body["run_id"])
        assert isinstance(body["duration_ms"], float)
        error = body.get("error")
        kind = error and (error["type"], sorted(error))
        return response.status_code, headers, sorted(body), body["status"], kind
    if isinstance(body, dict) and body.get("status") == "failure":
        return response.status_code, headers, sorted(body), body["error"]["type"]
    return response.status_code, headers, body


@pytest.mark.parametrize("name", sorted(set(EXCHANGES) - set(DIFFERENCES)))
def test_answers_as_kedros_own_server(
    name: str, ours: RunningServer, kedros: RunningServer
) -> None:
    assert _contracted(_send(ours, EXCHANGES[name])) == _contracted(_send(kedros, EXCHANGES[name]))


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_differs_only_as_listed(name: str, ours: RunningServer) -> None:
    difference = DIFFERENCES[name]
    assert difference.reason
    response = _send(ours, EXCHANGES[name])
    assert response.status_code == difference.status
    assert difference.says in response.text
