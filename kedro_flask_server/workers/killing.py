"""How a process is ended with all that it has started, where its parent is not there to do it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_TASKS = "/proc/self/task"

# What is killed may start more until it is dead.
_ROUNDS = 20


def kill_tree(pid: int) -> None:
    """Kill a process, its group and its descendants, those that have left the group included.

    Args:
        pid: A worker, which is the parent of descendants that lose theirs; or this process.
    """
    if pid != os.getpid():
        with suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(_ROUNDS):
            if not _kill_descendants(pid):
                break
    finally:
        with suppress(OSError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _kill_descendants(pid: int) -> bool:
    """Kill those that are there, and return whether there were any."""
    import psutil  # which takes a template as long as all else that it needs here

    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    return bool(found)


def children_of_this() -> list[int]:
    """Return the children of this process, those that have ended included."""
    try:
        tasks = [*map(int, os.listdir(_TASKS))]  # noqa: PTH208  as below
        return [int(pid) for task in tasks for pid in _content_of(f"{_TASKS}/{task}/children")]
    except OSError:  # no Linux, a kernel without CONFIG_PROC_CHILDREN, or a thread that has ended
        import psutil

        return [child.pid for child in psutil.Process().children()]


def _content_of(path: str) -> list[bytes]:
    """Return the words in a file, without the parts of Python whose memory each fork copies."""
    found = b""
    file = os.open(path, os.O_RDONLY)
    try:
        while data := os.read(file, 1 << 16):
            found += data
    finally:
        os.close(file)
    return found.split()
