"""The kinds of executors, and where they are available."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorKind:
    """A kind of executor, created by `kedro_flask_server.executors.factory`.

    Attributes:
        name: Its name in the setting ``executor``.
        meaning: Where its runs execute.
        needs_posix: Whether it is unavailable on Windows.
    """

    name: str
    meaning: str
    needs_posix: bool = False


PROCESSES = ExecutorKind(name="processes", meaning="each in a process of its own", needs_posix=True)
THREADS = ExecutorKind(name="threads", meaning="in threads of the server")

EXECUTORS = (PROCESSES, THREADS)
"""All kinds; the first available one is the default."""


def available_executors(os_name: str = os.name) -> list[str]:
    """Return the names of the executors available on a system, the default first.

    Args:
        os_name: The system, as in `os.name`; this one by default.
    """
    return [each.name for each in EXECUTORS if os_name == "posix" or not each.needs_posix]
