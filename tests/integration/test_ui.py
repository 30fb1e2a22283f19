"""The pages, in a real browser."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from kedro_flask_server.web.pages.blueprint import POLICY
from tests.browsers import Watched, chromium, watch
from tests.integration.test_hosting import nginx_before
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    eventually,
    kedro_flask_server,
)

pytestmark = pytest.mark.once

KEYS = {name: create_secret() for name in ("read", "run", "admin")}

AXE = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    },
    "resultTypes": ["violations"],
}
"""The default of axe-core leaves WCAG 2.2 out."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server on the loopback interface, where nobody needs a key."""
    project = copy_project(PROJECTS / "shown", tmp_path_factory.mktemp("ui"))
    with kedro_flask_server(project, "--workers", "2") as server:
        good = server.run(pipeline_names=["training"])
        bad = server.run(pipeline_names=["training"], params={"options": {"share": 2}})
        server.good, server.bad = good["run_id"], bad["run_id"]  # type: ignore[attr-defined]
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that knows callers by their keys."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.yml"
    keys.write_text(yaml.safe_dump(_key_entries(*KEYS)))
    env = {
        "KEDRO_SERVER_API_KEYS_FILE": str(keys),
        "KEDRO_SERVER_TRUSTED_PROXIES": '["127.0.0.1"]',
    }
    with kedro_flask_server(copy_project(PROJECTS / "shown", folder), **env) as server:
        server.keys = keys  # type: ignore[attr-defined]
        server.client.headers["Authorization"] = f"Bearer {KEYS['admin']}"
        server.good = server.run(pipeline_names=["training"])["run_id"]  # type: ignore[attr-defined]
        yield server


def _key_entries(*names: str) -> list[dict[str, object]]:
    return [
        {"name": name, "sha256": hash_secret(KEYS[name].encode()), "scopes": [name]}
        for name in names
    ]


@pytest.fixture
def watched(browser: Browser, served: RunningServer) -> Iterator[Watched]:
    """Return a page of the server, which must complain of nothing and ask nobody else."""
    with watch(browser, served.url) as opened:
        yield opened
        opened.check()


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def gate(tmp_path: Path, served: RunningServer) -> Iterator[Path]:
    """Return the file that lets a training go on; in the end it is there."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def start_held(served: RunningServer, gate: Path) -> str:
    """Start a training that stops in the node ``train``, and wait until it is there."""
    run_id = served.submit(pipeline_names=["training"], params={"gate": str(gate)})
    eventually(lambda: served.show(run_id)["progress"] == {"done": 2, "total": 4})
    return run_id


def row_of(page: Page, run_id: str) -> Locator:
    return page.locator(f'[id="run-{run_id}"]')


def paths(served: RunningServer) -> dict[str, str]:
    good, bad = served.good, served.bad  # type: ignore[attr-defined]
    return {
        "now": "/ui",
        "runs": "/ui/runs",
        "run": f"/ui/runs/{good}",
        "failed run": f"/ui/runs/{bad}",
        "compare": f"/ui/runs/{good}/compare/{bad}",
        "compare with": f"/ui/runs/{good}/compare",
        "retry": f"/ui/runs/{bad}/retry",
        "pipelines": "/ui/pipelines",
        "pipeline": "/ui/pipelines/training",
        "namespaces": "/ui/pipelines/namespaced",
        "start": "/ui/start?pipeline=training",
        "start on data": "/ui/start?pipeline=scoring",
        "datasets": "/ui/datasets",
        "dataset": "/ui/datasets/score",
        "access": "/ui/access",
        "nothing": "/ui/nothing",
    }


PAGES = (
    *("now", "runs", "run", "failed run", "compare", "compare with", "retry", "pipelines"),
    *("pipeline", "namespaces", "start", "start on data", "datasets", "dataset", "access"),
    "nothing",
)


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_fits(browser: Browser, served: RunningServer, name: str) -> None:
    with watch(browser, served.url) as watched:
        page = watched.page
        response = page.goto(paths(served)[name])
        assert response is not None
        assert response.status == (404 if name == "nothing" else 200)
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "same-origin"
        if page.locator("[data-graph]").count():
            page.locator("details#which").evaluate_all("all => all.map(one => one.open = true)")
            page.locator(".graph svg .node").first.wait_for()
        for width, scheme in product((1280, 360), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = Axe().run(page, options=AXE)
            assert not found.response["violations"], (width, scheme, found.generate_report())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        watched.expected += ["404"] if name == "nothing" else []
        watched.check()


def test_pages_at_twice_the_size_need_no_scrolling_aside(
    browser: Browser, served: RunningServer
) -> None:
    # Zoom of 200 % is half as many of CSS's pixels.
    options = {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2}
    for path in paths(served).values():
        with watch(browser, served.url, **options) as watched:
            watched.page.goto(path)
            assert watched.page.evaluate("document.documentElement.scrollWidth") <= 640, path


def test_browser_is_led_to_the_pages_and_others_are_not(served: RunningServer) -> None:
    led = served.client.get("/", headers={"Accept": "text/html"})
    assert (led.status_code, led.headers["Location"]) == (303, "/ui")
    assert served.client.get("/").status_code == 404


def test_run_is_followed_from_the_queue_to_its_end(
    served: RunningServer, page: Page, gate: Path
) -> None:
    served.client.post("/queue/pause", json={"pipeline": "training"})
    try:
        run_id = served.submit(pipeline_names=["training"], params={"gate": str(gate)})
        page.goto(f"/ui/runs/{run_id}")
        expect(page.locator("#run-head h1")).to_contain_text("queued")
        expect(page.locator("#run-head")).to_contain_text("training is paused")
        expect(page.locator(".banner:visible")).to_contain_text("Paused")
    finally:
        served.client.post("/queue/resume", json={"pipeline": "training"})
    expect(page.locator("#run-head h1")).to_contain_text("running")
    row = page.locator('tr[data-node="train"]')
    expect(row).to_have_attribute("data-state", "running")
    expect(page.locator('tr[data-node="split"]')).to_have_attribute("data-state", "success")
    expect(page.locator('tr[data-node="score"]')).to_have_attribute("data-state", "waiting")
    expect(page.locator("#run-head")).to_contain_text("Now: train")
    expect(page.locator("#run-head")).to_contain_text("2 of 4")
    expect(page.locator("#run-head")).to_contain_text("usually")
    expect(page).to_have_title(re.compile(r"^◐ training 2/4 · shown$"))
    expect(page.locator("#run-timeline")).to_contain_text("training is paused")
    expect(page.locator(".graph .node.running")).to_contain_text("train")
    expect(page.locator("#log")).to_contain_text("training on 5 rows")
    assert page.locator("#log [aria-live], #log[aria-live]").count() == 0
    assert page.locator('link[rel="icon"]').get_attribute("href").startswith("data:image/svg+xml")  # type: ignore[union-attr]
    gate.touch()
    expect(page.locator("#run-head h1")).to_contain_text("success")
    expect(page.locator("#run-news")).to_have_text("The run has ended: success.")
    expect(page.locator('tr[data-node="score"]')).to_have_attribute("data-state", "success")
    expect(page.locator(".graph .node.success")).to_have_count(4)
    expect(page).to_have_title(re.compile(r"^✓ training · shown$"))
    expect(page.locator("#log")).to_contain_text("succeeded in")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    # The stream is over, and nothing is asked for again.
    with page.expect_event("close", timeout=60_000) as _:
        page.close()


def test_page_asks_again_and_again_where_there_is_no_stream(
    browser: Browser, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    project = copy_project(PROJECTS / "shown", tmp_path)
    with (
        kedro_flask_server(project, KEDRO_SERVER_MAX_PAGE_STREAMS="0") as server,
        watch(browser, server.url) as watched,
    ):
        run_id = start_held(server, gate)
        watched.page.goto(f"/ui/runs/{run_id}")
        gate.touch()
        expect(watched.page.locator("#run-head h1")).to_contain_text("success")
        expect(watched.page.locator("#log")).to_contain_text("succeeded in")
        watched.check()


def test_run_is_cancelled(served: RunningServer, page: Page, gate: Path) -> None:
    run_id = start_held(served, gate)
    page.goto(f"/ui/runs/{run_id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#run-head h1")).to_contain_text("cancelled")
    expect(page.locator('tr[data-node="train"]')).to_have_attribute("data-state", "cancelled")
    expect(page.locator('tr[data-node="score"]')).to_have_attribute("data-state", "skipped")
    assert served.show(run_id)["status"] == "cancelled"


def test_failure_that_is_watched_is_explained_without_a_reload(
    served: RunningServer, page: Page
) -> None:
    pause = {"pipeline": "training"}
    served.client.post("/queue/pause", json=pause)
    try:
        run_id = served.submit(pipeline_names=["training"], params={"options": {"share": 7}})
        page.goto(f"/ui/runs/{run_id}")
        expect(page.locator("#run-head h1")).to_contain_text("queued")
        expect(page.locator("#run-made-of")).to_contain_text("recorded once the run begins")
    finally:
        served.client.post("/queue/resume", json=pause)
    failure = page.locator("#run-failure")
    expect(failure).to_contain_text("split: ValueError")
    expect(failure).to_contain_text("raise ValueError")
    expect(failure).to_contain_text("splitting 10 rows")
    expect(failure).to_contain_text("The last success was")
    expect(failure).to_contain_text("options.share")
    expect(page.locator("tr[data-node]")).to_have_count(4)
    expect(page.locator("#run-made-of")).to_contain_text("kedro run")
    expect(page.locator("#log-node option")).to_have_count(5)
    expect(page).to_have_title(re.compile(r"^✕ training · split · shown$"))


def test_failure_is_explained_on_the_first_screen(served: RunningServer, page: Page) -> None:
    page.goto(f"/ui/runs/{served.bad}")  # type: ignore[attr-defined]
    expect(page).to_have_title(re.compile(r"^✕ training · split · shown$"))
    for text in (
        "split: ValueError",
        "share is 2, and should be between 0 and 1",
        "in split",
        "splitting 10 rows",
        "Changes since the last success",
    ):
        box = page.get_by_text(text).first.bounding_box()
        assert box is not None, text
        assert box["y"] + box["height"] <= 900, text
    frame = page.get_by_role("region", name="the project's own frame")
    expect(frame).to_contain_text("pipeline_registry.py")
    expect(frame).to_contain_text("raise ValueError")
    assert not page.get_by_text("site-packages").first.is_visible()
    changed = page.locator("#run-failure")
    expect(changed).to_contain_text("options.share")
    page.get_by_role("link", name="Everything that differs").click()
    expect(page.locator("h1")).to_have_text("What differs")
    expect(page.locator("main")).to_contain_text("options.share")


def test_retry_says_what_runs_and_goes_on_from_the_failure(
    served: RunningServer, page: Page
) -> None:
    page.goto(f"/ui/runs/{served.bad}")  # type: ignore[attr-defined]
    page.get_by_role("link", name="Retry from the failure").click()
    expect(page.locator("main")).to_contain_text("Why")
    expect(page.get_by_role("row", name=re.compile("^yes split"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Retry 4 of 4")).click()
    expect(page.locator("#run-head h1")).to_contain_text("failure")
    expect(page.locator("#run-head")).to_contain_text(served.bad)  # type: ignore[attr-defined]


def test_run_that_cannot_be_retried_says_why(served: RunningServer, page: Page) -> None:
    page.goto(f"/ui/runs/{served.good}/retry")  # type: ignore[attr-defined]
    expect(page.locator("main")).to_contain_text("It cannot be retried")
    expect(page.get_by_role("button", name=re.compile("^Retry"))).to_have_count(0)


def test_run_is_started_with_what_was_changed_alone(
    served: RunningServer, watched: Watched
) -> None:
    page = watched.page
    watched.expected.append("422")  # of the wrong value
    page.goto("/ui")
    page.get_by_role("link", name="Start a run").first.click()
    page.get_by_label("__default__", exact=True).click()
    expect(page.get_by_text("Choose one or more.")).to_be_visible()
    page.get_by_label("training", exact=True).click()
    share = page.get_by_label("options.share")
    expect(share).to_have_value("0.5")
    share.fill("often")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_text("It takes a number.").last).to_be_visible()
    expect(page.get_by_label("options.share")).to_have_value("often")
    expect(page.get_by_label("options.share")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("options.share").fill("0.2")
    page.get_by_label("options.shuffle").select_option("true")
    expect(page.locator("#plan")).to_contain_text("options.share = 0.2")
    page.get_by_text("Labels and priority").click()
    page.get_by_label("Labels").fill("team=fraud, nightly")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#run-head h1")).to_contain_text("success")
    [run] = served.client.get("/runs?label=team=fraud&include=request").json()["runs"]
    assert run["request"] == {
        "pipeline_names": ["training"],
        "params": {"options": {"share": 0.2, "shuffle": True}},
    }
    assert run["labels"] == {"team": "fraud", "nightly": "true"}
    # Again, with what it was sent with.
    page.get_by_role("link", name="Run again …").click()
    expect(page.get_by_label("options.share")).to_have_value("0.2")
    page.get_by_label("options.share").fill("0.3")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#run-head h1")).to_contain_text("success")
    newest, _ = served.client.get("/runs?label=team=fraud&include=request").json()["runs"]
    assert newest["request"]["params"] == {"options": {"share": 0.3, "shuffle": True}}


def test_nodes_are_picked_in_the_graph_and_shown_before_they_run(
    served: RunningServer, page: Page
) -> None:
    page.goto("/ui/start?pipeline=training")
    page.get_by_text("Nodes and runner").click()
    page.get_by_label("ends with it").check()
    page.locator(".graph .node", has_text="split").click()
    expect(page.get_by_label("To nodes")).to_have_value("split")
    expect(page.locator("#plan")).to_contain_text("Runs 2 nodes")
    expect(page.locator(".graph .node.left-out")).to_have_count(2)
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#run-head h1")).to_contain_text("success")
    expect(page.locator("tr[data-node]")).to_have_count(2)


def test_pipeline_takes_data_that_is_typed(served: RunningServer, watched: Watched) -> None:
    page = watched.page
    watched.expected.append("422")  # without data
    page.goto("/ui/start?pipeline=scoring")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_text("given_rows: Field required")).to_be_visible()
    page.locator('[name="data:given_rows"]').fill("[1, 2, 3]")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#run-head h1")).to_contain_text("success")
    expect(page.locator("main")).to_contain_text("score")


def test_what_a_project_says_is_text(served: RunningServer, page: Page) -> None:
    text = "</pre><script>window.hacked = true</script>"
    run_id = served.submit(pipeline_names=["markup"], params={"text": text})
    page.goto(f"/ui/runs/{run_id}")
    expect(page.locator("#run-head h1")).to_contain_text("failure")
    page.reload()
    for part in ("#run-failure", "#log", "main"):
        expect(page.locator(part)).to_contain_text("<script>window.hacked = true</script>")
    expect(page.locator("#log")).to_contain_text("and red")  # without the terminal's colours
    page.goto("/ui/runs")
    page.goto(f"/ui/runs?label={text}")
    page.goto(f"/ui/start?run={run_id}")
    expect(page.get_by_label("text", exact=False).first).to_have_value(text)
    assert page.evaluate("window.hacked") is None


def test_secret_is_not_shown(served: RunningServer, page: Page) -> None:
    for path in paths(served).values():
        if "nothing" not in path:
            page.goto(path)
            assert "very-secret-value" not in page.content(), path


def test_namespaces_of_a_large_graph_are_opened_by_a_click(
    served: RunningServer, page: Page
) -> None:
    page.goto("/ui/pipelines/namespaced")
    expect(page.locator(".graph .node.namespace")).to_have_count(4)
    page.locator(".graph .node", has_text="part_1").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".graph .node.task")).to_have_count(60)
    expect(page.locator(".graph .node.namespace")).to_have_count(3)
    expect(page.locator('tr[data-node="part_3.step_60"]')).to_be_visible()


def test_grid_shows_the_last_runs_node_by_node(served: RunningServer, page: Page) -> None:
    page.goto("/ui/pipelines/training")
    good = page.locator(f'.grid td a[href*="{served.good}"]')  # type: ignore[attr-defined]
    assert good.count() == 5
    bad = page.locator(f'.grid td a[href*="{served.bad}#node=split"]')  # type: ignore[attr-defined]
    expect(bad).to_contain_text("failure")
    bad.click()
    expect(page.locator("tr.aimed")).to_contain_text("split")


def test_list_changes_by_itself_and_keeps_its_filter(
    served: RunningServer, page: Page, gate: Path
) -> None:
    page.goto("/ui/runs?status=running")
    expect(page.locator("#live")).to_contain_text("No run matches")
    run_id = start_held(served, gate)
    expect(row_of(page, run_id)).to_be_visible()
    gate.touch()
    expect(page.locator("#live")).to_contain_text("No run matches")
    page.goto("/ui/runs?since=yesterday")
    expect(page.get_by_role("alert")).to_contain_text("a time is written as")


def test_list_that_has_not_changed_is_not_sent(served: RunningServer) -> None:
    first = served.client.get("/ui/runs", headers={"HX-Request": "true"})
    [etag] = re.findall(r'data-etag="([^"]+)"', first.text)
    headers = {"HX-Request": "true", "If-None-Match": f'"{etag}"'}
    again = served.client.get("/ui/runs", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    served.run(pipeline_names=["training"])
    # What changed is looked for once a second.
    eventually(lambda: served.client.get("/ui/runs", headers=headers).status_code == 200)


def test_chain_of_retries_is_one_line(served: RunningServer, page: Page) -> None:
    bad = served.run(pipeline_names=["training"], params={"options": {"share": 3}})["run_id"]
    retried = served.client.post(f"/runs/{bad}/retry", headers={"Prefer": "wait=30"}).json()
    page.goto("/ui/runs")
    row = row_of(page, retried["run_id"])
    expect(row).to_contain_text("attempt 2")
    expect(row_of(page, bad)).to_have_count(0)
    page.goto("/ui/runs?retried=1")
    expect(row_of(page, bad)).to_be_visible()


def test_pause_is_seen_everywhere_and_ended_there(served: RunningServer, page: Page) -> None:
    page.goto("/ui/pipelines/scoring")
    page.get_by_role("button", name="Pause").click()
    for path in ("/ui", "/ui/datasets"):
        page.goto(path)
        expect(page.locator(".banner:visible").first).to_contain_text("scoring")
    page.get_by_role("button", name="Resume").first.click()
    expect(page).to_have_url(re.compile("/ui/datasets$"))
    expect(page.get_by_text("Paused:")).to_have_count(0)


def test_log_is_searched_and_a_line_has_an_address(served: RunningServer, page: Page) -> None:
    page.goto(f"/ui/runs/{served.good}")  # type: ignore[attr-defined]
    page.get_by_label("Contains").fill("splitting")
    expect(page.locator("#log .line")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?q=splitting$"))
    page.reload()
    expect(page.locator("#log .line")).to_have_count(1)
    line = page.locator("#log .line:visible")
    expect(line).to_contain_text("splitting 10 rows")
    address = line.get_attribute("id")
    page.goto(f"/ui/runs/{served.good}#{address}")  # type: ignore[attr-defined]
    page.reload()
    expect(page.locator(f"#{address}")).to_have_class(re.compile("aimed"))
    page.locator("#log-node").select_option("train")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#log .line").first).to_contain_text("Loading data from fitted")


def test_search_and_help_have_keys(served: RunningServer, page: Page) -> None:
    page.goto("/ui/datasets")
    page.keyboard.press("/")
    page.keyboard.type("held")
    expect(page.locator("#live tbody tr:visible")).to_have_count(1)
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page).to_have_url(re.compile("/ui/runs$"))


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("API key").fill(KEYS[name])
    page.get_by_role("button", name="Sign in").click()


def test_link_leads_to_the_form_and_back(browser: Browser, guarded: RunningServer) -> None:
    with watch(browser, guarded.url) as watched:
        page = watched.page
        address = f"/ui/runs/{guarded.good}?tab=1"  # type: ignore[attr-defined]
        page.goto(address)
        assert page.url.startswith(f"{guarded.url}/ui/sign-in?next=")
        page.get_by_label("API key").fill("kfs_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert").first).to_contain_text("unknown, expired or revoked")
        sign_in(page, "admin")
        expect(page).to_have_url(f"{guarded.url}{address}")
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/ui")
        assert cookie["name"].startswith("kedro-shown-local-")
        assert not any(key in cookie["value"] for key in KEYS.values())
        # It counts for pages alone.
        jar = {cookie["name"]: cookie["value"]}
        for path in ("/run", "/ui/../run"):
            sent = httpx.post(f"{guarded.url}{path}", json={}, cookies=jar)
            assert sent.status_code == 401
        assert httpx.get(f"{guarded.url}/runs", cookies=jar).status_code == 401
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.goto("/ui")
        expect(page.get_by_label("API key")).to_be_visible()
        watched.expected += ["401"]
        watched.check()


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/runs", "/ui\\..//x"])
def test_form_leads_nowhere_else(browser: Browser, guarded: RunningServer, back: str) -> None:
    with watch(browser, guarded.url) as watched:
        watched.page.goto(f"/ui/sign-in?next={back}")
        sign_in(watched.page, "read")
        expect(watched.page).to_have_url(f"{guarded.url}/ui")


def test_scopes_decide_what_is_shown(browser: Browser, guarded: RunningServer) -> None:
    seen = {}
    for name in KEYS:
        with watch(browser, guarded.url) as watched:
            page = watched.page
            page.goto("/ui/sign-in")
            sign_in(page, name)
            page.goto("/ui/pipelines/training")
            seen[name] = {
                "access": page.get_by_role("link", name="Access").count(),
                "start": page.get_by_role("link", name="Start a run").count(),
                "pause": page.get_by_role("button", name="Pause").count(),
                "status": page.goto("/ui/access").status,  # type: ignore[union-attr]
            }
            page.goto(f"/ui/runs/{guarded.good}")  # type: ignore[attr-defined]
            seen[name]["again"] = page.get_by_role("link", name="Run again …").count()
    assert seen["read"] == {"access": 0, "start": 0, "pause": 0, "status": 403, "again": 0}
    # Another's run is not seen by a key that may run alone.
    assert seen["run"] == {"access": 0, "start": 1, "pause": 0, "status": 403, "again": 0}
    assert seen["admin"] == {"access": 1, "start": 1, "pause": 1, "status": 200, "again": 1}


def test_revoked_key_ends_its_sessions(browser: Browser, guarded: RunningServer) -> None:
    with watch(browser, guarded.url) as watched:
        page = watched.page
        page.goto("/ui/sign-in")
        sign_in(page, "read")
        expect(page.locator("h1")).to_have_text("Now")
        keys = guarded.keys  # type: ignore[attr-defined]
        before = keys.read_text()
        try:
            keys.write_text(yaml.safe_dump(_key_entries("run", "admin")))
            # The list asks, is refused, and the page leads to the form.
            expect(page.get_by_label("API key")).to_be_visible()
        finally:
            keys.write_text(before)


def test_form_without_its_token_is_refused(guarded: RunningServer) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        client.get("/ui/sign-in")
        refused = client.post("/ui/sign-in", data={"key": KEYS["admin"]})
        assert refused.status_code == 403
        headers = {"Authorization": f"Bearer {KEYS['admin']}"}
        for path in ("/ui/start", f"/ui/runs/{guarded.good}/cancel", "/ui/queue/pause"):  # type: ignore[attr-defined]
            assert client.post(path, headers=headers, data={}).status_code == 403


@contextmanager
def foreign_site(folder: Path, content: str) -> Iterator[str]:
    """Serve another site's page."""
    (folder / "index.html").write_text(content)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_page_of_another_site_starts_and_frames_nothing(
    browser: Browser, served: RunningServer, tmp_path: Path
) -> None:
    before = len(served.all_runs())
    content = (
        f'<form method="post" action="{served.url}/ui/start"><input name="pipeline" '
        f'value="training"><button>Go</button></form><iframe src="{served.url}/ui"></iframe>'
    )
    with foreign_site(tmp_path, content) as url, watch(browser) as watched:
        page = watched.page
        page.goto(url)
        assert "frame-ancestors" in " ".join(watched.complaints)
        with page.expect_navigation() as went:
            page.get_by_role("button", name="Go").click()
        assert went.value is not None
        assert went.value.status == 403
    assert len(served.all_runs()) == before


def test_pages_work_behind_nginx_under_a_prefix(
    browser: Browser, guarded: RunningServer, tmp_path: Path
) -> None:
    with nginx_before(guarded, tmp_path) as url, watch(browser) as watched:
        page = watched.page
        page.goto(f"{url}/kedro/ui/pipelines/training")
        sign_in(page, "admin")
        expect(page).to_have_url(f"{url}/kedro/ui/pipelines/training")
        page.locator(".graph svg .node").first.wait_for()
        page.get_by_role("link", name="Run …").click()
        page.get_by_role("button", name="Start the run").click()
        expect(page.locator("#run-head h1")).to_contain_text("success")
        expect(page.locator("#log")).to_contain_text("succeeded in")
        assert all(urlsplit(each).path.startswith("/kedro/") for each in watched.asked)
        watched.check()


def test_page_says_when_nobody_answers_and_goes_on_by_itself(
    browser: Browser, tmp_path: Path
) -> None:
    project = copy_project(PROJECTS / "shown", tmp_path)
    with kedro_flask_server(project) as server, watch(browser, server.url) as watched:
        page = watched.page
        page.goto("/ui")
        port = urlsplit(server.url).port
        assert server.stop() == 0
        expect(page.locator("#unreachable")).to_be_visible()
        expect(page.locator("h1")).to_have_text("Now")  # what was there stays
        with kedro_flask_server(project, "--port", str(port)):
            expect(page.locator("#unreachable")).to_be_hidden()


def test_pages_are_turned_off(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "shown", tmp_path)
    with kedro_flask_server(project, "--no-ui") as server:
        for path in ("/ui", "/ui/runs", "/ui/files/pages/pages.css"):
            assert server.client.get(path).status_code == 404
        assert server.client.get("/", headers={"Accept": "text/html"}).status_code == 404
        assert server.client.get("/docs").status_code == 200


def test_walk_by_keyboard_alone(browser: Browser, served: RunningServer) -> None:
    with watch(browser, served.url) as watched:
        page = watched.page
        page.goto("/ui")

        def focus(name: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                shown = page.evaluate(
                    "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"
                )
                if name in " ".join(shown.split()):
                    return
            raise AssertionError(f"{name} is not reached by Tab")

        focus("Skip to the content")
        focus("Start a run")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Start a run")
        focus("__default__")
        page.keyboard.press("Space")
        expect(page.get_by_label("__default__")).not_to_be_checked()
        focus("training")
        page.keyboard.press("Space")
        expect(page.get_by_label("training", exact=True)).to_be_checked()
        focus("options.share")
        page.keyboard.press("Control+a")
        page.keyboard.type("7")
        focus("Start the run")
        page.keyboard.press("Enter")
        expect(page.locator("#run-head h1")).to_contain_text("failure")
        focus("Retry from the failure")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Retry training")
        focus("Back")
        page.keyboard.press("Enter")
        expect(page.locator("#run-head h1")).to_contain_text("failure")
        focus("Run again")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Start a run")
        focus("options.share")
        page.keyboard.press("Control+a")
        page.keyboard.type("0.4")
        focus("Start the run")
        page.keyboard.press("Enter")
        expect(page.locator("#run-head h1")).to_contain_text("success")
        watched.check()


def test_page_of_a_project_is_in_the_menu_as_the_docs_have_it(
    browser: Browser, tmp_path: Path
) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    section = documented.split("## A page in the menu")[1].split("\n## ")[0]
    [program] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    [template] = re.findall(r"```html\n(.*?)```", section, re.DOTALL)
    project = copy_project(PROJECTS / "shown", tmp_path)
    package = project / "src" / "shown"
    counted = '\n\n@blueprint.post("/ui/costs")\ndef count():\n    return "counted"\n'
    (package / "costs.py").write_text(program + counted)
    (package / "templates").mkdir()
    (package / "templates" / "costs.html").write_text(template)
    (package / "settings.py").write_text('SERVER_BLUEPRINTS = ["shown.costs:blueprint"]\n')
    with kedro_flask_server(project) as server, watch(browser, server.url) as watched:
        page = watched.page
        page.goto("/ui")
        page.get_by_role("link", name="Costs").click()
        expect(page.locator("h1")).to_have_text("Costs")
        expect(page.get_by_role("link", name="Costs")).to_have_attribute("aria-current", "page")
        page.get_by_role("button", name="Count").click()
        expect(page.locator("body")).to_have_text("counted")
        watched.expected.append("404")  # the icon of that bare page
        watched.check()
        assert server.client.post("/ui/costs").status_code == 403


def test_command_signs_everybody_out(browser: Browser, tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "shown", tmp_path)

    def keys(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kedro", "server", "keys", *arguments],
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip().splitlines()[-1]

    secret = keys("create", "me", "--scope", "read")
    with kedro_flask_server(project) as server, watch(browser, server.url) as watched:
        page = watched.page
        page.goto("/ui")
        page.get_by_label("API key").fill(secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("Now")
        keys("sign-out")
        expect(page.get_by_label("API key")).to_be_visible(timeout=30_000)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ui/runs?endpoint=x&_external=1&cursor=nope", 200),
        ("GET", "/ui/runs/{run}/log?before=" + "9" * 30, 200),
        ("GET", "/ui/runs/{run}/changes?poll=1&after=-" + "9" * 30, 200),
        ("GET", "/ui/start?run=nope&pipeline=nope", 404),
        ("PUT", "/ui/runs", 403),
        ("HEAD", "/ui/sign-in", 303),
        ("GET", "/ui/files/..%2f..%2fapp.py", 404),
        ("GET", "/ui/pipelines/nope", 404),
        ("GET", "/ui/datasets/nope", 404),
        ("GET", "/ui/runs/2020-01-01T00.00.00.000Z", 404),
    ],
)
def test_garbage_gets_a_page_and_no_500(
    served: RunningServer, method: str, path: str, status: int
) -> None:
    here = path.format(run=served.good)  # type: ignore[attr-defined]
    answer = served.client.request(method, here)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("priority", "-99999", "It takes a number from -100 to 100."),
        ("labels", "Team Fraud=1", "labels"),
        ("runner", "os.system()", "runner"),
        ("from_nodes", "nope", "nope"),
        ("param:rows", "[" * 100_000, "nests too deep"),
        ("param:tag", "${oc.env:HOME}", "tag"),
        ("param:tag", "<redacted>", "A secret is given as it is"),
        ("data:nope", "{}", "nope"),
    ],
)
def test_form_with_a_wrong_value_starts_nothing_and_says_where(
    served: RunningServer, field: str, value: str, says: str
) -> None:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        form = client.get("/ui/start?pipeline=training").text
        [token, *_] = re.findall(r'name="token" value="(\w+)"', form)
        before = len(served.all_runs())
        sent = {"token": token, "pipeline": "training", field: value}
        answer = client.post("/ui/start", data=sent)
    assert answer.status_code == 422
    assert says in answer.text
    assert len(served.all_runs()) == before


def test_data_of_some_megabytes_is_given_by_the_form(served: RunningServer) -> None:
    rows = "[" + ",".join(["1"] * 1_500_000) + "]"
    with httpx.Client(base_url=served.url, timeout=60) as client:
        form = client.get("/ui/start?pipeline=scoring").text
        [token, *_] = re.findall(r'name="token" value="(\w+)"', form)
        answer = client.post(
            "/ui/start",
            data={"token": token, "pipeline": "scoring"},
            files={"file:given_rows": ("rows.json", rows, "application/json")},
        )
    assert answer.status_code == 303, answer.text[:2000]
    run_id = answer.headers["Location"].rsplit("/", 1)[1]
    assert served.show(run_id, wait=60)["status"] == "success"
