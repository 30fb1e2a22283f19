"""How durations, times, numbers and states are written."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from kedro_flask_server.web.pages.formats import duration, mark, moment, node_state, plain, size


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 ms"),
        (12.4, "12 ms"),
        (999.4, "999 ms"),
        (3_400, "3.4 s"),
        (59_900, "59.9 s"),
        (59_960, "1 min 00 s"),
        (302_000, "5 min 02 s"),
        (3_599_400, "59 min 59 s"),
        (3_599_600, "1 h 00 min"),
        (3_720_000, "1 h 02 min"),
        (273_600_000, "3 d 04 h"),
    ],
)
def test_duration_has_the_units_that_fit(ms: float | None, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "\N{EN DASH}"), (512, "512 B"), (3_400, "3.4 kB"), (2_000_000_000, "2.0 GB")],
)
def test_size_has_the_unit_that_fits(number: int | None, text: str) -> None:
    assert size(number) == text


def test_time_is_in_utc_until_a_script_shows_it() -> None:
    shown = moment(datetime(2026, 1, 31, 12, tzinfo=timezone.utc))
    assert shown == moment("2026-01-31T12:00:00.000Z")
    assert 'datetime="2026-01-31T12:00:00.000Z" title="2026-01-31 12:00:00 UTC"' in shown


def test_state_is_a_shape_and_a_word() -> None:
    assert mark("success").striptags() == "✓ success"
    assert "&lt;b&gt;" in mark("<b>")


@pytest.mark.parametrize(
    ("state", "run_status", "shown"),
    [
        ("finished", "running", "success"),
        ("failed", "failure", "failure"),
        ("failed", "cancelled", "cancelled"),
        ("interrupted", "running", "running"),
        ("interrupted", "lost", "lost"),
        ("interrupted", "cancelled", "cancelled"),
        ("interrupted", "failure", "failure"),
        ("not_started", "queued", "waiting"),
        ("not_started", "running", "waiting"),
        ("not_started", "failure", "skipped"),
    ],
)
def test_state_of_a_node_is_told_by_its_run(state: str, run_status: str, shown: str) -> None:
    assert node_state(state, run_status=run_status) == shown


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        r"\x1b[1;31mred\x1b[0m",
        "\x1b]8;;http://x\x07red\x1b]8;;\x07",
        r"\x1b]8;;http://x\x07red\x1b]8;;\x1b\\".replace("\\\\", "\\"),
    ],
)
def test_commands_for_terminals_are_left_out(text: str) -> None:
    assert plain(text) == "red"


@pytest.mark.parametrize("beginning", ["\x1b]", r"\x1b]", r"\x1b[", "\x1b[0;"])
def test_beginnings_without_an_end_take_no_time(beginning: str) -> None:
    # Where each looks for its end in all that follows, this takes minutes.
    assert plain(beginning * 50_000 + "end").endswith("nd")
