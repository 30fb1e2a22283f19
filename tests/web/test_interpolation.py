"""What OmegaConf would resolve is found, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from kedro_flask_server.web.interpolation import has_interpolation, interpolations_in


@pytest.mark.parametrize(
    ("params", "places"),
    [
        ({"a": "${b}"}, [("a",)]),
        ({"a": r"\${b}"}, []),
        ({"a": r"\\${b}"}, [("a",)]),
        ({"a": r"\\\${b}"}, []),
        ({"a": "???"}, [("a",)]),
        ({"a": "what???"}, []),
        ({r"\${a}": 1}, [(r"\${a}",)]),
        ({"a": [{"b": "${c}"}, "${d}"]}, [("a", 0, "b"), ("a", 1)]),
        (None, []),
        ({"a": "$b {c} $", "d": 1.5}, []),
    ],
)
def test_places_of_interpolations(params: Any, places: list[tuple[str | int, ...]]) -> None:
    assert [*interpolations_in(params)] == places


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=${b}", True),
        (r"a=\${b}", False),
        (r"\${a}=1", True),
        ("???=1", True),
        ("a.???=1", True),
        ("a=1,b=???", True),
        ("a=what???", False),
        ("a=1,b.c=x y", False),
        ("", False),
    ],
)
def test_interpolation_in_the_format_of_the_command_line(text: str, found: bool) -> None:
    assert has_interpolation(text) is found
