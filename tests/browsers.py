"""Real Chromium for tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import require

_TIMEOUT_MS = 30_000
expect.set_options(timeout=_TIMEOUT_MS)

OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--no-first-run", "--disable-component-update", "--disable-quic"),
)


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Start the system's browser."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*OPTIONS, *options])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, with what it asks for and complains of."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Assert that it asks one host alone, and complains of nothing but what is expected."""
        own = urlsplit(self.page.url).netloc
        others = {each for each in self.asked if urlsplit(each).netloc not in (own, "")}
        assert not others, others
        left = [each for each in self.complaints if not any(part in each for part in self.expected)]
        assert not left, left


@contextmanager
def watch(browser: Browser, url: str = "", **options: Any) -> Iterator[Watched]:
    """Open a page in a context of its own; options are those of Playwright's contexts."""
    options = {"viewport": {"width": 1280, "height": 900}, **options}
    context = browser.new_context(base_url=url or None, **options)
    page = context.new_page()
    page.set_default_timeout(_TIMEOUT_MS)
    watched = Watched(page)
    page.on("request", lambda request: watched.asked.append(request.url))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("console", lambda message: _note(watched, message))
    try:
        yield watched
    finally:
        context.close()


def _note(watched: Watched, message: Any) -> None:
    if message.type in ("error", "warning"):
        watched.complaints.append(message.text)
