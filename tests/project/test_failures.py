"""What a project raises becomes data that can be kept, logged and sent."""

from __future__ import annotations

import time

import pytest
from kedro.io.core import _redact_url_credentials

from kedro_flask_server.project.failures import describe, safe, safe_name, trace


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


LINK = "see https://docs.kedro.org/en/stable/data/#versioning for more"


def test_link_keeps_its_place_in_a_log_and_not_in_the_message_that_kedro_s_server_would_send() -> (
    None
):
    assert safe(LINK) == LINK
    assert LINK in trace(ValueError(LINK))
    message = describe(ValueError(LINK)).message
    assert message == _redact_url_credentials(LINK) != LINK


@pytest.mark.parametrize("text", ["issue#12", "why?yes", "me@home/x", "KeyError:sales#csv"])
def test_what_is_no_url_stays_in_a_log(text: str) -> None:
    assert safe(text) == text
    assert describe(ValueError(text)).message == _redact_url_credentials(text)


def test_names_are_names_whatever_they_look_like() -> None:
    for name in ("sales#csv", "why?", "password=x", "https://me@host/#x"):
        assert safe_name(name) == name
    assert safe_name("\ud800").isprintable()
    assert len(safe_name("x" * 100_000)) < 10_000


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
