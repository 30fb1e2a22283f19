"""How durations, times, numbers and states are written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import cache
from typing import Any

from markupsafe import Markup, escape

from kedro_flask_server.model.provenance import FAILED, FINISHED, INTERRUPTED, NOT_STARTED
from kedro_flask_server.text import rfc3339

NOTHING = "\N{EN DASH}"
"""What stands where there is no value."""

MARKS: Mapping[str, str] = {
    "queued": "○",
    "running": "◐",
    "success": "✓",
    "failure": "✕",
    "cancelled": "⊘",
    "lost": "?",
    "waiting": "○",
    "skipped": NOTHING,
}
"""The shape of each state: colour never stands alone."""

NODE_STATES = {FINISHED: "success", FAILED: "failure", NOT_STARTED: "waiting"}

# Bounded: a node may print any number of beginnings. A stored log has control characters spelled.
_ESCAPES = re.compile(
    r"(?:\x1b|\\x1b)"
    r"(?:\[[0-?]{0,40}[ -/]{0,10}[@-~]"
    r"|\](?:(?!\\x1b|\\x07)[^\x07\x1b]){0,200}(?:\x07|\\x07|(?:\x1b|\\x1b)\\)"
    r"|[@-Z\\-_])"
)


def duration(ms: float | None) -> str:
    """Return a duration: ``12 ms``, ``3.4 s``, ``5 min 02 s``, ``1 h 02 min``, ``3 d 04 h``."""
    if ms is None:
        return NOTHING
    if ms < 1_000:
        return f"{ms:.0f} ms"
    seconds = ms / 1_000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for size, unit, smaller, name in ((60, "min", 1, "s"), (3_600, "h", 60, "min")):
        if round(seconds) < size * (60 if unit == "min" else 24):
            whole = round(seconds / smaller)
            large, rest = divmod(whole, size // smaller)
            return f"{large} {unit} {rest:02d} {name}"
    days, hours = divmod(round(seconds / 3_600), 24)
    return f"{days} d {hours:02d} h"


def moment(time: datetime | str | None) -> Markup:
    """Return a time as HTML; a script shows it in the reader's zone."""
    if time is None:
        return escape(NOTHING)
    if isinstance(time, str):
        time = datetime.fromisoformat(time.replace("Z", "+00:00"))
    utc = time.astimezone(timezone.utc)
    shown = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    # Of digits alone, and so nothing to escape; a page may have thousands.
    html = f'<time datetime="{rfc3339(utc)}" title="{shown}">{shown}</time>'
    return Markup(html)  # noqa: S704


def size(number: int | None) -> str:
    """Return a number of bytes: ``512 B``, ``3.4 kB``."""
    if number is None:
        return NOTHING
    shown, units = float(number), ["B", "kB", "MB", "GB"]
    while shown >= 1_000 and len(units) > 1:
        shown, units = shown / 1_000, units[1:]
    return f"{shown:.0f} B" if units[0] == "B" else f"{shown:.1f} {units[0]}"


def value(content: Any) -> str:
    """Return a value as JSON in a line; a text as it is."""
    if isinstance(content, str):
        return content
    return json.dumps(content, ensure_ascii=False, default=str)


def plain(text: Any) -> str:
    """Return text without the escape sequences of terminals."""
    return _ESCAPES.sub("", str(text))


def node_state(state: str, *, run_status: str) -> str:
    """Return the state of a node as the word of a run's state.

    Args:
        state: Its state, as a summary has it.
        run_status: The status of its run.
    """
    if state == INTERRUPTED:
        if run_status == "running":
            return "running"
        return run_status if run_status in ("cancelled", "lost") else "failure"
    if state == FAILED and run_status == "cancelled":  # it was interrupted
        return run_status
    if state == NOT_STARTED and run_status not in ("queued", "running"):
        return "skipped"
    return NODE_STATES.get(state, "waiting")


def labelled(name: str, label: str) -> str:
    """Return a label as it is filtered by."""
    return name if label == "true" else f"{name}={label}"


def shape(state: Any) -> str:
    """Return the shape of a state."""
    return MARKS.get(str(state), "?")


@cache
def _marks(state: str) -> tuple[Markup, Markup]:
    sign = Markup('<i aria-hidden="true">{}</i>').format(shape(state))
    with_word = Markup('<span class="state {0}">{1} {0}</span>').format(state, sign)
    alone = Markup('<span class="state {0}">{1}<span class="unseen">{0}</span></span>')
    return with_word, alone.format(state, sign)


def mark(state: Any) -> Markup:
    """Return a state as HTML: its shape and its word, coloured by its class."""
    return _marks(str(state))[0]


def dot(state: Any) -> Markup:
    """Return a state as HTML: its shape, with the word for readers of screens."""
    return _marks(str(state))[1]


def intersects(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether two collections have something in common."""
    return not {*some}.isdisjoint(others)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "duration": duration,
    "moment": moment,
    "size": size,
    "value": value,
    "plain": plain,
    "labelled": labelled,
    "intersects": intersects,
    "shape": shape,
    "mark": mark,
    "dot": dot,
}
"""What templates have besides Jinja's own."""
