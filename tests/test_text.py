"""Text from elsewhere is bounded and printable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kedro_flask_server.text import bounded, printable

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_short_text_stays_as_it_is() -> None:
    assert bounded("short", 5) == "short"


def test_long_text_is_cut_and_says_how_long_it_was() -> None:
    cut = bounded("7" * 2_000_000, 100)
    assert cut.startswith("7" * 100)
    assert "2,000,000 characters" in cut
    assert len(cut) < 200


def test_url_at_the_cut_loses_its_credentials() -> None:
    text = "see https://user:password@host/path"
    for max_chars in range(len(text)):
        assert "pass" not in bounded(text, max_chars)


@given(ANY_TEXT)
def test_printable_text_can_be_written_as_utf8(text: str) -> None:
    printable(text).encode("utf-8")


@given(st.text())
def test_what_can_be_written_already_is_left_alone(text: str) -> None:
    assert printable(text) == text
