"""Which server processes live: who one is, and whether another still is there."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

# How far two readings of when a process started may be apart: the system's clock is set at times.
_SAME_START_S = 2.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A server, told apart from all others.

    Attributes:
        server_id: Its id, made anew at each start.
        machine: The boot of the machine, and the namespace of process ids there.
        pid: The id of its process.
        pid_started_at: When the process started, in seconds since 1970-01-01T00:00:00Z; a
            process id comes again.
    """

    server_id: str
    machine: str
    pid: int
    pid_started_at: float

    @classmethod
    def this(cls) -> ServerProcess:
        """Return this process, as a server of its own."""
        return cls(
            server_id=uuid.uuid4().hex,
            machine=_machine(),
            pid=os.getpid(),
            pid_started_at=psutil.Process().create_time(),
        )

    def is_dead(self, seen_from: ServerProcess, *, is_lease_over: bool) -> bool:
        """Whether this server cannot execute anything any more.

        On the machine of who asks, the process tells; elsewhere the lease does, before whose
        end a server stops that could not renew it.

        Args:
            seen_from: The server that asks.
            is_lease_over: Whether this server's lease has ended.
        """
        if self.machine != seen_from.machine:
            return is_lease_over
        return not self._is_alive()

    def _is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.pid_started_at) < _SAME_START_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # somebody else's, and there
            return True


def _machine() -> str:
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {round(psutil.boot_time())}"
