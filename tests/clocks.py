"""A clock that a test sets, for what takes one by its constructor."""

from __future__ import annotations


class Clock:
    """Says what a test has set, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
