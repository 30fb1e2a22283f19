"""What this process is about to do, as Python announces it (PEP 578)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Audit:
    """Calls functions when events are announced. There is one in a process.

    A hook cannot be removed: it stays, and in all processes that are forked. Without a function
    for an event it costs next to nothing.
    """

    def __init__(self) -> None:
        """Listen."""
        self.calls: dict[str, Callable[[tuple[Any, ...]], None]] = {}
        """What to call with an event's arguments, by the event."""
        calls = self.calls

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            if event in calls:
                with suppress(Exception):  # or what was announced would fail
                    calls[event](arguments)

        sys.addaudithook(hear)
