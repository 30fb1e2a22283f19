"""What importing the project has opened or made, and runs would share that are forked from it."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from typing import Any

from kedro_flask_server.origins import is_asked_for_by_own_code
from kedro_flask_server.workers.audit import Audit
from kedro_flask_server.workers.killing import children_of_this

_TEMPORARY = "a temporary file"

# As many digits are a time or a random number in a name that is another in each process.
_MANY_DIGITS = 8

_Descriptors = dict[int, tuple[int, int]]


class Footprint:
    """Takes down what the import of a project leaves, from the moment that it is made.

    That is what each `kedro run` has for itself: files that are open to be written, connections,
    processes, and files and folders with a name that is another in each process. What the import
    of a library makes does not count; what it leaves open does, since that bears no fork either.
    """

    def __init__(self, audit: Audit) -> None:
        """Begin.

        Args:
            audit: Tells of what is made.
        """
        self._audit = audit
        self._calls = {
            "open": self._hear_open,
            "os.mkdir": self._hear_mkdir,
            "tempfile.mkdtemp": self._hear_temporary,
            "tempfile.mkstemp": self._hear_temporary,
        }
        self._made: dict[str, None] = {}
        self._has_temporary_file = False
        self._before = _descriptors()
        self._children = set(children_of_this())
        audit.calls |= self._calls

    def close(self) -> None:
        """Take nothing more down."""
        for event in self._calls:
            self._audit.calls.pop(event, None)

    def found(self, *, without: set[int]) -> list[str]:
        """Return what there is that runs would share, for a person.

        Args:
            without: Descriptors that runs do not share, or may.
        """
        found = [path for path in self._made if os.path.lexists(path)]
        for descriptor, identity in _descriptors().items():
            if self._before.get(descriptor) != identity and descriptor not in without:
                shown = self._shown(descriptor)
                if shown is not None:
                    found.append(shown)
        helpers = {
            resource_tracker._resource_tracker._pid,  # type: ignore[attr-defined]
            forkserver._forkserver._forkserver_pid,  # type: ignore[attr-defined]
        }
        children = set(children_of_this()) - self._children - helpers
        return [*dict.fromkeys(found), *(f"the process {pid}" for pid in sorted(children))]

    def _shown(self, descriptor: int) -> str | None:
        """Return what an open descriptor is; None if runs may share it."""
        with suppress(OSError):
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode):
                return _peer_of(descriptor)
            access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            if not stat.S_ISREG(status.st_mode) or access == os.O_RDONLY:
                return None
            if status.st_nlink:
                return _path_of(descriptor)
            return _TEMPORARY if self._has_temporary_file else None
        return None

    def _hear_open(self, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) or isinstance(path, int):
            return
        nameless = getattr(os, "O_TMPFILE", 0)
        if nameless and flags & nameless == nameless:
            self._has_temporary_file |= is_asked_for_by_own_code(otherwise=False)
        else:
            self._hear_named(path)

    def _hear_mkdir(self, arguments: tuple[Any, ...]) -> None:
        self._hear_named(arguments[0])

    def _hear_named(self, path: str | bytes) -> None:
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        is_new = _is_of_one_process(name) and not os.path.lexists(name)
        if is_new and is_asked_for_by_own_code(otherwise=False):
            self._made[name] = None

    def _hear_temporary(self, arguments: tuple[Any, ...]) -> None:
        if is_asked_for_by_own_code(otherwise=False):
            self._made[os.path.abspath(os.fsdecode(arguments[0]))] = None  # noqa: PTH100
            self._has_temporary_file = True


def _is_of_one_process(path: str) -> bool:
    """Return whether a name differs in each process: it has its id, a time, a UUID."""
    name = os.path.basename(path)  # noqa: PTH119
    digits = sum(map(str.isdigit, name))
    return (
        digits >= _MANY_DIGITS
        or str(os.getpid()) in re.findall(r"\d+", name)
        or re.search(r"[0-9a-f]{12}", name) is not None
    )


def _descriptors() -> _Descriptors:
    """Return what is open, by its number."""
    found: _Descriptors = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        with suppress(OSError):  # that of the list itself
            status = os.fstat(int(name))
            found[int(name)] = (status.st_dev, status.st_ino)
    return found


def _path_of(descriptor: int) -> str:
    if sys.platform == "darwin":
        path = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024))
        return os.fsdecode(path.rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115


def _peer_of(descriptor: int) -> str | None:
    """Return to where a connection leads; None for one to this process, and for none."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        peer = connection.getpeername()
        if peer:
            return f"a connection to {peer[0] if isinstance(peer, tuple) else os.fsdecode(peer)}"
    return None
