"""The colours of the pages: contrasts of WCAG 2.2, which axe does not look for in SVG."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from kedro_flask_server.web.pages.formats import MARKS

_STATIC = Path(__file__).parents[2] / "kedro_flask_server" / "web" / "static" / "pages"
_TOKENS = (_STATIC / "tokens.css").read_text()

STATES = ("queued", "running", "success", "failure", "cancelled", "lost")


def colours(scheme: str) -> dict[str, str]:
    light, dark = _TOKENS.split("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([a-z-]+): (#\w{6});", dark))


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (https://www.w3.org/TR/WCAG22/)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"), product(("text", "quiet", *STATES), ("ground", "raised"))
)
def test_text_can_be_read(scheme: str, text: str, ground: str) -> None:
    found = colours(scheme)
    assert contrast(found[text], found[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("mark", ["edge", "text", *STATES])
def test_marks_and_focus_can_be_seen(scheme: str, mark: str) -> None:
    found = colours(scheme)
    assert contrast(found[mark], found["ground"]) >= 3


def test_each_state_has_a_shape_of_its_own() -> None:
    shapes = [MARKS[state] for state in STATES]
    assert len({*shapes}) == len(STATES)


def test_all_colours_and_sizes_are_tokens() -> None:
    styles = (_STATIC / "pages.css").read_text()
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", re.sub(r"#[a-z-]+[ ,{]", "", styles))
    assert not re.findall(r"font-size: *\d", styles)


def test_policy_is_not_asked_for_what_it_refuses() -> None:
    templates = _STATIC.parents[1] / "templates" / "pages"
    for path in templates.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"\bstyle=|\bon[a-z]+=|hx-on|js:|<script>|javascript:", text), path
        for trigger in re.findall(r'hx-trigger="([^"]*)"', text):
            assert "[" not in trigger, path  # a filter needs eval
