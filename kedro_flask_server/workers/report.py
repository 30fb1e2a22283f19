"""What a run in a worker process tells, on its way to the server."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from typing import IO, Any

from kedro_flask_server.runs.events import EventType
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.protocol import Channel


def _lock_file() -> IO[bytes]:
    """Return a file of this process' own, where it can be one that needs no folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("kedro-report"), "wb")
    return tempfile.TemporaryFile()


class ChannelReport:
    """Sends what is told to the server, from every thread, and from every process forked here.

    It is sent at once, so that what was told before a crash has been told.
    """

    is_shared = True

    def __init__(self, channel: Channel) -> None:
        """Tell over a channel."""
        self._channel = channel
        # To be taken twice: a finalizer that runs while a message is sent may log.
        self._threads = threading.RLock()
        # A lock of the process, which the kernel takes from one that dies (fcntl(2)). It is not
        # needed before there is another process.
        self._processes = _lock_file()
        self._has_forked = False
        self._depth = 0
        self.stop: Interruption | None = None
        """Whose interruption waits until a message is whole."""
        os.register_at_fork(
            before=self._prepare_to_fork,
            after_in_parent=self._threads.release,
            after_in_child=self._threads.release,
        )

    def expect(self, nodes: int) -> None:
        """Say how many nodes the run has."""
        self.send("expect", {"nodes": nodes})

    def tell(self, kind: EventType, data: dict[str, Any]) -> None:
        """Say what has happened."""
        self.send("event", {"type": kind.value, "time": time.time(), "data": data})

    def log(self, level: str, logger: str, message: str) -> None:
        """Add to the run's log."""
        body = {"time": time.time(), "level": level, "logger": logger, "message": message}
        self.send("log", body)

    def send(self, kind: str, body: dict[str, Any]) -> None:
        """Send a message, whole, whoever else sends."""
        stop = self.stop
        if stop is None:
            self._send_alone(kind, body)
            return
        raises = stop.hold()
        try:
            self._send_alone(kind, body)
        finally:
            stop.release(raises=raises)

    def _prepare_to_fork(self) -> None:
        self._threads.acquire()
        self._has_forked = True

    def _send_alone(self, kind: str, body: dict[str, Any]) -> None:
        with self._threads:
            self._depth += 1
            is_locked = self._depth == 1 and self._has_forked
            if is_locked:
                fcntl.lockf(self._processes, fcntl.LOCK_EX)
            try:
                self._channel.send(kind, body)
            except OSError:
                pass  # the server is gone: so is this process, in a moment
            finally:
                self._depth -= 1
                if is_locked:
                    fcntl.lockf(self._processes, fcntl.LOCK_UN)
