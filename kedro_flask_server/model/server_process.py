"""The identity of a server process, and whether it is still alive."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/stat")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A server process, uniquely identified.

    Attributes:
        server_id: Its id, different at each start.
        machine: The boot of its machine, and the namespace of process ids there.
        pid: Its process id.
        pid_started_at: When the process started, as process ids are reused: on Linux in clock ticks
            since the boot, which setting the clock does not change; elsewhere in seconds since
            1970-01-01T00:00:00Z.
    """

    server_id: str
    machine: str
    pid: int
    pid_started_at: float

    @classmethod
    def this(cls) -> ServerProcess:
        """Return this process, with a new server id."""
        return cls(
            server_id=uuid.uuid4().hex,
            machine=machine_id(),
            pid=os.getpid(),
            pid_started_at=_started_at(os.getpid()) or 0.0,
        )

    @property
    def process(self) -> str:
        """The name of its process, unique on its machine."""
        return f"{self.pid} {self.pid_started_at}"

    def is_dead(self, seen_from: ServerProcess, *, is_lease_over: bool) -> bool:
        """Return whether this server can no longer execute anything.

        On the machine of `seen_from`, its process decides; elsewhere its lease does: a server that
        cannot renew it stops before it ends.

        Args:
            seen_from: The server that asks.
            is_lease_over: Whether this server's lease has ended.
        """
        if self.machine != seen_from.machine:
            return is_lease_over
        return not self._is_alive()

    def _is_alive(self) -> bool:
        return _started_at(self.pid) == self.pid_started_at


def _started_at(pid: int) -> float | None:
    """Return when a process started; None if it has ended."""
    if _PROCESSES.exists():
        try:
            # The fields after the name, which may hold anything: state is the 3rd of all, starttime
            # the 22nd (proc_pid_stat(5)).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    try:
        process = psutil.Process(pid)
        is_there = process.status() != psutil.STATUS_ZOMBIE
        return process.create_time() if is_there else None
    except psutil.NoSuchProcess:
        return None


@cache
def machine_id() -> str:
    """Return the boot of this machine, and the namespace of process ids there."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {round(psutil.boot_time())}"
