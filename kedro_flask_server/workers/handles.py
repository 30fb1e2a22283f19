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
"""How often to look for processes that have ended without a report."""

_END_TIMEOUT_S = 5.0

# The environment of served workers, unless it is set: they share the processors, and a process in
# which a library has started threads cannot be forked.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class SuspensionAwareTimeout:
    """A timeout that does not count the time while this process is suspended."""

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
        channel: The channel to it.
        reports: The reports of its runs, read periodically or on request of the worker.
        output: The descriptor of its output that bypasses Python.
        pid: Its process id; None until it reports it.
        is_ready: Whether it has loaded the project, and can execute a run.
        preparation: What it has prepared (`Preparation.dump`); None where it executes any run.
        end: How it ended, unless its template reports that.
        has_printed: Whether `output` was readable at the last `wait`.
        is_silent: Whether `output` has reached its end.
        in_flight: Descriptors of this process that are being sent to the worker.
        asked_for_at: When its template was asked to start it; monotonic, in seconds.
    """

    number: int
    template: TemplateHandle
    channel: Channel
    reports: ReportReader
    output: int
    pid: int | None = None
    is_ready: bool = False
    preparation: dict[str, Any] | None = None
    end: str = "how is not known."
    has_printed: bool = False
    is_silent: bool = False
    in_flight: list[int] = field(default_factory=list)
    asked_for_at: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended, whatever its template reports."""
        if self.pid is None:
            return False
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def wait(self, seconds: float) -> bool:
        """Wait for a message or for output that bypasses Python.

        Args:
            seconds: How long to wait at most.

        Returns:
            Whether there is something to read.
        """
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        if not self.is_silent:
            poll.register(self.output, select.POLLIN)
        ready = poll.poll(seconds * 1000)
        self.has_printed = any(descriptor == self.output for descriptor, _ in ready)
        return bool(ready)

    def read_output(self) -> bytes:
        """Return the available output that bypasses Python, up to some kilobytes."""
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
        """Return the available messages.

        Raises:
            EOFError: If the connection has ended.
        """
        return self.channel.receive_now() or []

    def has_arrived(self) -> None:
        """Close this process's copies of descriptors that were sent to the worker.

        They stay open until it has received them: macOS loses descriptors that no process holds.
        """
        in_flight, self.in_flight = self.in_flight, []
        for descriptor in in_flight:
            os.close(descriptor)

    def close(self) -> None:
        """Close the connections. A live worker then ends itself and its descendants."""
        self.has_arrived()
        self.channel.close()
        self.reports.close()
        output, self.output = self.output, -1
        if output >= 0:
            os.close(output)


@dataclass(eq=False, slots=True)
class TemplateHandle:
    """The process that starts workers, seen from the server.

    Attributes:
        control: The channel to it.
        process: The process.
        origin: The value that names it and its server in the environment of its descendants.
        is_ready: Whether it can start workers.
        is_loaded: Whether it could load the project's pipelines.
        pipelines: Their names; None if they could not be loaded.
        start_method: How it starts workers: ``fork`` or ``spawn``.
        modules: The modules that it has imported beside the project.
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
        """Start a template.

        Args:
            settings: Its settings.
            secrets: The names of environment variables to withhold from it.

        Raises:
            OSError: If the system refuses another process or descriptor.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            environ = {name: value for name, value in os.environ.items() if name not in secrets}
            if settings.preload is not None:
                environ = {**_ONE_THREAD, **environ}
            origin = environ[ORIGIN_VARIABLE] = f"{ServerProcess.this().process} {uuid.uuid4().hex}"
            process = start_program("template", settings, theirs.fileno(), environ=environ)
        return cls(Channel(ours), process, origin, modules=frozenset(settings.modules))

    @property
    def is_stopped(self) -> bool:
        """Whether it is suspended (SIGSTOP)."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        return False

    def start_worker(self, number: int) -> WorkerHandle:
        """Have a worker started, which reports when it is ready.

        Raises:
            OSError: If the system refuses another descriptor.
        """
        ours, theirs = socket.socketpair()
        reports, reports_end = open_report_pipe()
        output, output_end = os.pipe()
        in_flight = [theirs.detach(), reports_end, output_end]
        worker = WorkerHandle(number, self, Channel(ours), reports, output, in_flight=in_flight)
        os.set_blocking(output, False)
        with self._sending, suppress(OSError):
            self.control.send("start", {"number": number}, descriptors=in_flight)
        return worker

    def stop(self, worker: WorkerHandle, grace_s: float) -> None:
        """Stop a worker and all its processes; kill them after a grace period in seconds.

        Raises:
            OSError: If the template has ended.
        """
        with self._sending:
            self.control.send("stop", {"number": worker.number, "grace_s": grace_s})

    def renew_lease(self, seconds: float | None) -> None:
        """End it and its workers after some seconds; None for never."""
        with self._sending:
            self.control.try_to_send("lease", {"seconds": seconds})

    def read(self, params: Sequence[str]) -> None:
        """Make it read the configuration again, for the workers to come.

        Args:
            params: The names of the runtime parameters of runs.
        """
        with self._sending:
            self.control.try_to_send("read", {"params": [*params]})

    def retire(self) -> None:
        """Make it end once its last worker has ended."""
        with self._sending, suppress(OSError):
            self.control.send("retire", {})

    def end(self) -> int:
        """End it and its workers, and return its exit code."""
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_TIMEOUT_S)
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)  # including the project's processes
        return self.process.wait()


def how_it_ended(body: dict[str, Any]) -> str:
    """Return how a process ended, in words for a person.

    Args:
        body: The body of the message ``ended``: an exit code, negative for a signal, or a reason.
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
