"""Audit events of Python in this process (PEP 578)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Audit:
    """Dispatches audit events to functions. One per process.

    A hook cannot be removed, and forks inherit it. An event without a function costs next to
    nothing.
    """

    def __init__(self) -> None:
        """Install the audit hook."""
        self.calls: dict[str, Callable[[tuple[Any, ...]], None]] = {}
        """The function to call with an event's arguments, by event."""
        calls = self.calls

        def dispatch(event: str, arguments: tuple[Any, ...]) -> None:
            if event in calls:
                with suppress(Exception):  # an exception would fail the audited operation
                    calls[event](arguments)

        sys.addaudithook(dispatch)
