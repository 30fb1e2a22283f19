"""Killing a process with its descendants, where its parent is not there to do it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress

_TASKS = "/proc/self/task"

# Processes may start more until they are dead.
_ROUNDS = 20

_PR_SET_PDEATHSIG = 1

# How long to wait for the end of killed processes.
_GONE_WITHIN_S = 2.0

ORIGIN_VARIABLE = "_KEDRO_FLASK_SERVER_ORIGIN"
"""The environment variable that names the server's process and the template, for all their
descendants."""


def be_signalled_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent ends (Linux, prctl(2)).

    SIGKILL works even if this process holds the GIL or is stopped. What counts is the end of the
    parent's thread that has forked this process.

    Args:
        parent: The parent's process id. If it has ended already, this process is killed.
        number: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def end_children_with_this() -> None:
    """Have the kernel kill the processes forked by this thread when this process ends.

    Processes forked by other threads are exempt: they may outlive their thread.
    """
    pid, thread = os.getpid(), threading.get_ident()

    def in_child() -> None:
        if os.getppid() == pid and threading.get_ident() == thread:
            be_signalled_with_parent(pid, signal.SIGKILL)

    os.register_at_fork(after_in_child=in_child)


def kill_what_is_left(origin: str) -> None:
    """Kill the processes left behind by a server or a template, and wait for their end.

    Args:
        origin: The beginning of `ORIGIN_VARIABLE` in their environment, up to a blank.
    """
    import psutil

    ends_at = time.monotonic() + _GONE_WITHIN_S
    while time.monotonic() < ends_at:
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # gone, or another user's
                if f"{process.environ().get(ORIGIN_VARIABLE)} ".startswith(f"{origin} "):
                    process.kill()
                    left.append(process)
        if not left:
            break
        psutil.wait_procs(left, timeout=max(0.0, ends_at - time.monotonic()))


def kill_tree(pid: int) -> None:
    """Kill a process, its group and its descendants, including those that have left the group.

    Args:
        pid: A worker, which is the subreaper of its descendants; or this process.
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
    """Kill the current descendants, and return whether there were any."""
    import psutil  # imported late: it would take the template as long as all its other imports

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
    """Return the children of this process, including zombies."""
    try:
        tasks = [*map(int, os.listdir(_TASKS))]  # noqa: PTH208  as below
        return [int(pid) for task in tasks for pid in _content_of(f"{_TASKS}/{task}/children")]
    except OSError:  # not Linux, a kernel without CONFIG_PROC_CHILDREN, or a thread that has ended
        import psutil

        return [child.pid for child in psutil.Process().children()]


def _content_of(path: str) -> list[bytes]:
    """Return the words in a file, avoiding Python's I/O classes, whose memory each fork copies."""
    found = b""
    file = os.open(path, os.O_RDONLY)
    try:
        while data := os.read(file, 1 << 16):
            found += data
    finally:
        os.close(file)
    return found.split()
