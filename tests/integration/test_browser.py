"""The API reference in a real browser, on a closed network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from tests.browsers import OPTIONS
from tests.conftest import require
from tests.integration.test_hosting import nginx_before
from tests.servers import PROJECTS, RunningServer, copy_project, kedro_flask_server

pytestmark = pytest.mark.once

# A name that is not loopback's; the browser is told that it is here.
HOST = "kedro.example"

KEY = create_secret()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that is reached under a name, with a key."""
    folder = tmp_path_factory.mktemp("browser")
    keys = folder / "keys.yml"
    entry = {"name": "me", "sha256": hash_secret(KEY.encode()), "scopes": ["run"]}
    keys.write_text(yaml.safe_dump([entry]))
    env = {
        "KEDRO_SERVER_API_KEYS_FILE": str(keys),
        "KEDRO_SERVER_ALLOWED_HOSTS": f'["{HOST}", "127.0.0.1"]',
        "KEDRO_SERVER_TRUSTED_PROXIES": '["127.0.0.1"]',
    }
    with kedro_flask_server(copy_project(PROJECTS / "probe", folder), **env) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        yield server


@contextmanager
def browse() -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open a page, and record each URL that it asks for and each complaint of its console."""
    program = require("chromium")
    options = [*OPTIONS, f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            # The browser asks its user when the server does, with HTTP's Basic.
            page = browser.new_page(http_credentials={"username": "me", "password": KEY})
            asked: list[str] = []
            complaints: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.on(
                "console",
                lambda message: (
                    complaints.append(message.text) if message.type == "error" else None
                ),
            )
            page.on("pageerror", lambda error: complaints.append(str(error)))
            yield page, asked, complaints
        finally:
            browser.close()


def try_it_out(page: Page, operation: str) -> str:
    """Open an operation, press "Try it out" and "Execute", and return what the server said."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    if operation.startswith("pipeline"):
        block.locator("textarea").fill('{"pipeline_names": ["twenty"]}')
    block.get_by_role("button", name="Execute").click()
    response = block.locator(".live-responses-table .highlight-code").first
    response.wait_for()
    return response.inner_text()


def check_the_page(url: str) -> None:
    with browse() as (page, asked, complaints):
        page.goto(f"{url}/docs")
        page.locator("#operations-health-health_health_get").wait_for()
        assert "healthy" in try_it_out(page, "health-health_health_get")
        assert re.search(r'"run_id"', try_it_out(page, "pipeline-run_pipeline_run_post"))
    assert complaints == []
    assert {urlsplit(each).hostname for each in asked if not each.startswith("data:")} == {HOST}


def test_reference_works_and_asks_nobody_else(served: RunningServer) -> None:
    check_the_page(served.url.replace("127.0.0.1", HOST))


def test_reference_works_behind_nginx_under_a_prefix(served: RunningServer, tmp_path: Path) -> None:
    with nginx_before(served, tmp_path) as url:
        check_the_page(url.replace("127.0.0.1", HOST) + "/kedro")


def test_reference_prefills_a_body_that_runs_and_nothing_else(served: RunningServer) -> None:
    with browse() as (page, _, _):
        page.goto(f"{served.url.replace('127.0.0.1', HOST)}/docs")
        block = page.locator("#operations-pipeline-run_pipeline_run_post")
        block.locator(".opblock-summary").click()
        block.get_by_role("button", name="Try it out").click()
        fields = block.locator(".parameters input")
        assert [fields.nth(each).input_value() for each in range(fields.count())] == [""] * 4
        run_ids = []
        for _ in range(2):
            with page.expect_response("**/run") as answered:
                block.get_by_role("button", name="Execute").click()
            run_ids.append(answered.value.json()["run_id"])
    assert run_ids[0] != run_ids[1]


FOLLOW = """path => new Promise(done => {
    const told = [];
    const events = new EventSource(path);
    const types = ["run.queued", "run.started", "node.finished", "run.finished"];
    for (const type of types) {
        events.addEventListener(type, event => told.push([type, Number(event.lastEventId)]));
    }
    // Where the server answers 204, the browser asks no more.
    events.onerror = () => events.readyState === EventSource.CLOSED && done(told);
})"""


def test_browser_follows_a_run_once_and_stops_at_its_end(served: RunningServer) -> None:
    run_id = served.submit(pipeline_names=["slow"], params={"seconds": 0.1})
    path = f"/runs/{run_id}/events"
    with browse() as (page, asked, _):
        page.goto(f"{served.url}/docs")
        told = page.evaluate(FOLLOW, path)
    events = served.client.get(path, params={"limit": 1000}).json()["events"]
    types = {"run.queued", "run.started", "node.finished", "run.finished"}
    assert told == [[each["type"], each["id"]] for each in events if each["type"] in types]
    assert sum(url.endswith(path) for url in asked) <= 2
