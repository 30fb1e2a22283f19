"""The API reference in a real browser, on a closed network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.conftest import require
from tests.integration.test_hosting import nginx_before
from tests.servers import RunningServer

pytestmark = pytest.mark.once

# A name that is not loopback's; the browser is told that it is here.
HOST = "kedro.example"


@contextmanager
def browse() -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open a page, and record each URL that it asks for and each complaint of its console."""
    program = require("chromium")
    options = [
        *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
        *("--no-first-run", "--disable-component-update", "--disable-quic"),
        f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            page = browser.new_page()
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


def test_reference_works_and_asks_nobody_else(ours: RunningServer) -> None:
    check_the_page(ours.url.replace("127.0.0.1", HOST))


def test_reference_works_behind_nginx_under_a_prefix(ours: RunningServer, tmp_path: Path) -> None:
    with nginx_before(ours, tmp_path) as url:
        check_the_page(url.replace("127.0.0.1", HOST) + "/kedro")


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


def test_browser_follows_a_run_once_and_stops_at_its_end(ours: RunningServer) -> None:
    run_id = ours.submit(pipeline_names=["slow"], params={"seconds": 0.1})
    path = f"/runs/{run_id}/events"
    with browse() as (page, asked, _):
        page.goto(f"{ours.url}/docs")
        told = page.evaluate(FOLLOW, path)
    events = ours.client.get(path, params={"limit": 1000}).json()["events"]
    types = {"run.queued", "run.started", "node.finished", "run.finished"}
    assert told == [[each["type"], each["id"]] for each in events if each["type"] in types]
    assert sum(url.endswith(path) for url in asked) <= 2
