"""The executors: their names, and where they are available."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorKind:
    """A kind of executor, which `kedro_flask_server.executors.factory` makes.

    Attributes:
        name: What the setting ``executor`` calls it.
        meaning: Where its runs execute.
        needs_posix: Whether Windows lacks what it needs.
    """

    name: str
    meaning: str
    needs_posix: bool = False


PROCESSES = ExecutorKind(name="processes", meaning="each in a process of its own", needs_posix=True)
THREADS = ExecutorKind(name="threads", meaning="in threads of the server")

EXECUTORS = (PROCESSES, THREADS)
"""All of them; the first that is available is the default."""


def available_executors(os_name: str = os.name) -> list[str]:
    """Return the names of the executors that a system has, the default first.

    Args:
        os_name: The system, as `os.name` has it; by default this one.
    """
    return [each.name for each in EXECUTORS if os_name == "posix" or not each.needs_posix]
