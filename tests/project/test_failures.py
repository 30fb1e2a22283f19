"""What a project raises becomes data that can be kept, logged and sent."""

from __future__ import annotations

import time

from kedro_flask_server.project.failures import describe, safe, trace


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_description_has_the_qualified_name_and_the_message() -> None:
    described = describe(UnprintableError())
    assert described.type == "UnprintableError"
    assert "RuntimeError" in described.message
    assert describe(ValueError("why")).message == "why"


class UnspeakableError(BaseException):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_exception_that_raises_whatever_it_is_asked_is_described() -> None:
    assert describe(UnspeakableError()).type == "UnspeakableError"
    assert "KeyboardInterrupt" in describe(UnspeakableError()).message
    assert trace(UnspeakableError())


def test_credentials_of_urls_are_taken_out() -> None:
    text = "cannot read https://user:canary@host/path?canary#canary, sorry"
    assert safe(text) == "cannot read https://<redacted>@host/path?<redacted>#<redacted> sorry"


def test_credentials_at_the_cut_are_taken_out() -> None:
    for offset in range(0, 60, 4):
        text = "x" * (8_192 - offset) + " https://user:canary@host/path?token=canary"
        assert "canary" not in safe(text)


def test_time_is_bounded_whatever_the_text() -> None:
    started_at = time.monotonic()
    safe("x" * 8_000 + "://" + "x" * 5_000_000)
    assert time.monotonic() - started_at < 2


def test_trace_is_bounded_and_shows_the_frames() -> None:
    try:
        raise ValueError("7" * 1_000_000 + "\ud800")
    except ValueError as error:
        shown = trace(error)
    assert "test_failures.py" in shown
    assert len(shown) < 20_000
    assert shown.encode()
