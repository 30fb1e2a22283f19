"""Resources that importing the project opens or creates, and forked runs would share."""

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
from kedro_flask_server.workers.audit_hook import Audit
from kedro_flask_server.workers.killing import children_of_this

_TEMPORARY = "a temporary file"

# So many digits are a time or a random number, unique to the process.
_MANY_DIGITS = 8

_Descriptors = dict[int, tuple[int, int]]


class Footprint:
    """Records what the import of a project leaves, from its construction on.

    That is what each `kedro run` has for itself: files open for writing, connections, processes,
    and files and folders with a name unique to the process. What the import of a library creates
    does not count; what it leaves open does, since that does not survive a fork either.
    """

    def __init__(self, audit: Audit) -> None:
        """Begin to record.

        Args:
            audit: Reports what is created.
        """
        self._audit = audit
        self._calls = {
            "open": self._on_open,
            "os.mkdir": self._on_mkdir,
            "tempfile.mkdtemp": self._on_temporary,
            "tempfile.mkstemp": self._on_temporary,
        }
        self._made: dict[str, None] = {}
        self._has_temporary_file = False
        self._before = _descriptors()
        self._children = set(children_of_this())
        audit.calls |= self._calls

    def close(self) -> None:
        """Stop recording."""
        for event in self._calls:
            self._audit.calls.pop(event, None)

    def found(self, *, without: set[int]) -> list[str]:
        """Return descriptions of the resources that runs would share.

        Args:
            without: Descriptors to ignore: runs do not share them, or may.
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
        """Return the description of a descriptor; None if runs may share it."""
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

    def _on_open(self, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) or isinstance(path, int):
            return
        nameless = getattr(os, "O_TMPFILE", 0)
        if nameless and flags & nameless == nameless:
            self._has_temporary_file |= is_asked_for_by_own_code(otherwise=False)
        else:
            self._on_named(path)

    def _on_mkdir(self, arguments: tuple[Any, ...]) -> None:
        self._on_named(arguments[0])

    def _on_named(self, path: str | bytes) -> None:
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        is_new = _is_of_one_process(name) and not os.path.lexists(name)
        if is_new and is_asked_for_by_own_code(otherwise=False):
            self._made[name] = None

    def _on_temporary(self, arguments: tuple[Any, ...]) -> None:
        if is_asked_for_by_own_code(otherwise=False):
            self._made[os.path.abspath(os.fsdecode(arguments[0]))] = None  # noqa: PTH100
            self._has_temporary_file = True


def _is_of_one_process(path: str) -> bool:
    """Return whether a name is unique to the process: by its id, a time, or a UUID."""
    name = os.path.basename(path)  # noqa: PTH119
    digits = sum(map(str.isdigit, name))
    return (
        digits >= _MANY_DIGITS
        or str(os.getpid()) in re.findall(r"\d+", name)
        or re.search(r"[0-9a-f]{12}", name) is not None
    )


def _descriptors() -> _Descriptors:
    """Return the device and inode of each open descriptor."""
    found: _Descriptors = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        with suppress(OSError):  # that of the listing itself
            status = os.fstat(int(name))
            found[int(name)] = (status.st_dev, status.st_ino)
    return found


def _path_of(descriptor: int) -> str:
    if sys.platform == "darwin":
        path = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024))
        return os.fsdecode(path.rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115


def _peer_of(descriptor: int) -> str | None:
    """Return the peer of a connection; None for a connection within this process, or none."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        peer = connection.getpeername()
        if peer:
            return f"a connection to {peer[0] if isinstance(peer, tuple) else os.fsdecode(peer)}"
    return None
