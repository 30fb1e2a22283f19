"""Workers and their template, as the server sees them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.text import MAX_PRINTED_BYTES
from kedro_flask_server.workers.killing import ORIGIN_VARIABLE
from kedro_flask_server.workers.protocol import Channel, Message, WorkerSettings, start_program
from kedro_flask_server.workers.report import ReportReader, open_report_pipe

LOOK_EVERY_S = 1.0
"""How often is looked whether processes are there that have not said that they ended."""

_END_TIMEOUT_S = 5.0


class SuspensionAwareTimeout:
    """How long something may be late; while this process itself is paused, that does not count."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to be patient for some seconds.

        Args:
            seconds: How many.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._clock = clock
        self._seconds = seconds
        self._late_s = 0.0
        self._looked_at = self._clock()

    def is_over(self, is_late: bool) -> bool:
        """Return whether it has been late for too long. To be called at each look."""
        now = self._clock()
        passed_s = min(now - self._looked_at, LOOK_EVERY_S)
        self._looked_at = now
        self._late_s = self._late_s + passed_s if is_late else 0.0
        if self._late_s <= self._seconds:
            return False
        self._late_s = 0.0
        return True


@dataclass(eq=False, slots=True)
class WorkerHandle:
    """A worker process, seen from the server.

    Attributes:
        channel: To it.
        reports: From it: what its runs tell, which is read now and then, or when it says so.
        output: A descriptor: what it writes past Python.
        pid: Its process; None until it says so.
        is_ready: Whether it has the project, and can take a run.
        end: How it ended, if its template has not said so.
        has_printed: Whether there is something to read from `output`, when it was last waited.
        is_silent: Whether nothing more will come from `output`.
        in_flight: Descriptors of this process that are on their way to the worker.
        asked_for_at: When its template was told to start it; monotonic, in seconds.
    """

    number: int
    template: TemplateHandle
    channel: Channel
    reports: ReportReader
    output: int
    pid: int | None = None
    is_ready: bool = False
    end: str = "how is not known."
    has_printed: bool = False
    is_silent: bool = False
    in_flight: list[int] = field(default_factory=list)
    asked_for_at: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        """Whether its process is no more, whatever its template says."""
        if self.pid is None:
            return False
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def wait(self, seconds: float) -> bool:
        """Wait for a word of it, or for what it writes past Python.

        Args:
            seconds: How long to wait at most.

        Returns:
            Whether there is something.
        """
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        if not self.is_silent:
            poll.register(self.output, select.POLLIN)
        ready = poll.poll(seconds * 1000)
        self.has_printed = any(descriptor == self.output for descriptor, _ in ready)
        return bool(ready)

    def read_output(self) -> bytes:
        """Return what it has written past Python and is there, up to some kilobytes."""
        found = b""
        try:
            while not self.is_silent and len(found) < MAX_PRINTED_BYTES:
                data = os.read(self.output, MAX_PRINTED_BYTES)
                self.is_silent = not data
                found += data
        except BlockingIOError:
            pass
        return found

    def messages(self) -> list[Message]:
        """Return what it has said and is there.

        Raises:
            EOFError: If nothing more will come.
        """
        return self.channel.receive_now() or []

    def has_arrived(self) -> None:
        """Close this process's copies of what was on its way to the worker.

        Until then they are kept: macOS loses descriptors that nobody holds any more.
        """
        in_flight, self.in_flight = self.in_flight, []
        for descriptor in in_flight:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of it. One that lives ends itself, and all that it has started."""
        self.has_arrived()
        self.channel.close()
        self.reports.close()
        output, self.output = self.output, -1
        if output >= 0:
            os.close(output)


@dataclass(eq=False, slots=True)
class TemplateHandle:
    """The process from which workers come.

    Attributes:
        control: To it.
        process: It.
        origin: What names it and its server in the environment of all that it starts.
        is_ready: Whether it starts workers.
        is_loaded: Whether it could load the project's pipelines.
        pipelines: Their names; None where it could not.
        start_method: ``fork`` or ``spawn``: how it starts workers.
        modules: What it has imported beside the project.
    """

    control: Channel
    process: subprocess.Popen[bytes]
    origin: str
    is_ready: bool = False
    is_loaded: bool = False
    pipelines: list[str] | None = None
    start_method: str = ""
    modules: frozenset[str] = frozenset()
    _sending: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def start(cls, settings: WorkerSettings, secrets: set[str]) -> TemplateHandle:
        """Start one.

        Args:
            settings: What it has to know.
            secrets: The names of environment variables that it does not get.

        Raises:
            OSError: If the system gives no more processes or descriptors.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            environ = {name: value for name, value in os.environ.items() if name not in secrets}
            origin = environ[ORIGIN_VARIABLE] = f"{ServerProcess.this().process} {uuid.uuid4().hex}"
            process = start_program("template", settings, theirs.fileno(), environ=environ)
        return cls(Channel(ours), process, origin, modules=frozenset(settings.modules))

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has paused it (SIGSTOP)."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        return False

    def start_worker(self, number: int) -> WorkerHandle:
        """Have a worker started, which says itself when it is ready.

        Raises:
            OSError: If the system gives no more descriptors.
        """
        ours, theirs = socket.socketpair()
        reports, telling = open_report_pipe()
        output, writing = os.pipe()
        in_flight = [theirs.detach(), telling, writing]
        worker = WorkerHandle(number, self, Channel(ours), reports, output, in_flight=in_flight)
        os.set_blocking(output, False)
        with self._sending, suppress(OSError):
            self.control.send("start", {"number": number}, descriptors=in_flight)
        return worker

    def stop(self, worker: WorkerHandle, grace_s: float) -> None:
        """Have a worker and all that it has started stopped, and killed after a grace.

        Raises:
            OSError: If the template is gone.
        """
        with self._sending:
            self.control.send("stop", {"number": worker.number, "grace_s": grace_s})

    def renew_lease(self, seconds: float | None) -> None:
        """Have it end, and with it its workers, after some seconds; after None, never."""
        with self._sending:
            self.control.try_to_send("lease", {"seconds": seconds})

    def read(self, params: Sequence[str]) -> None:
        """Have it read the configuration again, so that the workers to come need not.

        Args:
            params: The runtime parameters that runs have.
        """
        with self._sending:
            self.control.try_to_send("read", {"params": [*params]})

    def retire(self) -> None:
        """Have it end when the last of its workers has."""
        with self._sending, suppress(OSError):
            self.control.send("retire", {})

    def end(self) -> int:
        """Have it end, and with it its workers, and return its exit code."""
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_TIMEOUT_S)
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what the project started at import, too
        return self.process.wait()


def how_it_ended(body: dict[str, Any]) -> str:
    """Return how a process ended, for a person.

    Args:
        body: Of the message ``ended``: the exit code, negative for a signal; or a reason.
    """
    code = body.get("code")
    if not isinstance(code, int):
        return str(body.get("reason") or "how is not known.")
    if code >= 0:
        return f"exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = ", as the kernel does where memory runs out" if name == "SIGKILL" else ""
    return f"signal {-code} ({name}){hint}."
