"""How a process is ended with all that it has started, where its parent is not there to do it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress

_TASKS = "/proc/self/task"

# What is killed may start more until it is dead.
_ROUNDS = 20

_PR_SET_PDEATHSIG = 1

# How long to wait until what was killed is gone.
_GONE_WITHIN_S = 2.0

ORIGIN_VARIABLE = "_KEDRO_FLASK_SERVER_ORIGIN"
"""In the environment of a template, and of all that it starts: its server's process, and itself."""


def be_signalled_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent ends (Linux, prctl(2)).

    SIGKILL needs nothing of this process, which may hold Python's lock, or be stopped. The end
    counts of the parent's thread that has forked it, and not of the parent.

    Args:
        parent: The parent's process id. Where that has ended by now, so does this process.
        number: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def end_children_with_this() -> None:
    """Have the kernel kill the processes that this thread forks when this process ends.

    One that another thread forks may outlive that thread, and is left alone.
    """
    pid, thread = os.getpid(), threading.get_ident()

    def in_child() -> None:
        if os.getppid() == pid and threading.get_ident() == thread:
            be_signalled_with_parent(pid, signal.SIGKILL)

    os.register_at_fork(after_in_child=in_child)


def kill_what_is_left(origin: str) -> None:
    """Kill the processes that a server or a template here has left behind, and wait for their end.

    Args:
        origin: With what `ORIGIN_VARIABLE` begins in their environment, up to a blank.
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
