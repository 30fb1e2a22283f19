"""The protocol between server, template and workers: JSON, one message a line, over a socket.

=========  ====================  =========================================================
from       to                    messages
=========  ====================  =========================================================
server     template              ``start`` with three descriptors, ``stop``, ``retire``,
                                 ``lease``, ``read``
template   server                ``ready``: with the known secrets and the project's names
server     worker                ``run``, ``snapshot``, ``access``, ``data``, ``retry``,
                                 ``answer``
worker     server                ``ready``; ``told``: there is much to read in the pipe
worker     server, by a pipe     ``started``, ``provenance``, ``link``, ``expect``, ``event``,
                                 ``log``, ``output``, ``left_out``, ``secrets``, ``outcome``,
                                 ``snapshot``, ``access``, ``data``, ``retry``: reports and
                                 results of its runs, which are read periodically (`report`);
                                 ``acquire``, ``executing``, ``statuses``, ``warn``: about its data
template   server                ``ended``, on the worker's channel, after the worker's messages
=========  ====================  =========================================================

No pickle: the server must not execute what a run's code may write.
"""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

Message = tuple[str, dict[str, Any]]

_CHUNK_BYTES = 1 << 16
_MAX_DESCRIPTORS = 16

# More than any message needs: texts and requests are bounded.
_MAX_LINE_BYTES = 1 << 27


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The settings of the template and the workers.

    Attributes:
        project_path: The project's folder.
        env: The configuration environment; None for the project's default.
        conf_source: The configuration source; None for the project's own folder.
        resolves_params: Whether OmegaConf resolves interpolations in runtime parameters.
        shared_paths: Folders that are the same on all machines.
        data_url: Where the data of runs is.
        allows_excel: Whether workbooks are read that a request gives.
        has_locks: Whether runs keep out of each other's way.
        start_method: How the template starts workers: ``auto``, ``fork`` or ``spawn``.
        max_runs: How many runs a worker executes before it ends.
        max_rss_mb: The resident memory (MB) above which it ends after a run; None for no limit.
        log_format: The format of log records.
        memory_limit_mb: The memory (MB) that it may allocate; None for no limit.
        python_path: ``sys.path`` of the server.
        modules: Modules that earlier runs imported, and the template imports ahead.
        revision: The revision of the project; None to ask git.
        made_with: What all runs are made of (`model.provenance`), once the template knows.
        preload: What a generation of a served pipeline loads (`Preload.dump`); None where workers
            execute any run.
        niceness: By how much the priority of template and workers is lower (nice(2)).
    """

    project_path: str
    env: str | None
    conf_source: str | None
    resolves_params: bool
    shared_paths: list[str]
    data_url: str
    allows_excel: bool
    has_locks: bool
    start_method: str
    max_runs: int
    max_rss_mb: int | None
    log_format: str
    memory_limit_mb: int | None
    python_path: list[str]
    modules: list[str] = field(default_factory=list)
    revision: str | None = None
    made_with: dict[str, Any] = field(default_factory=dict)
    preload: dict[str, Any] | None = None
    niceness: int = 0


class Channel:
    """One end of a connection. One thread receives; senders must serialize among themselves."""

    def __init__(self, connection: socket.socket) -> None:
        """Use a connected socket, which the channel owns from then on."""
        self._socket = connection
        self._received = bytearray()
        self.descriptors: list[int] = []
        """The file descriptors that came with messages and are not claimed yet."""

    @classmethod
    def of(cls, descriptor: int) -> Channel:
        """Return the channel of a socket that this process has inherited."""
        os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def send(self, kind: str, body: Mapping[str, Any], *, descriptors: Sequence[int] = ()) -> None:
        """Send a message, blocking while the socket's buffer is full.

        Args:
            kind: The kind of message.
            body: Its content.
            descriptors: File descriptors to send with it.

        Raises:
            OSError: If the other end is closed.
        """
        line = line_of(kind, body)
        if descriptors:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
            line = line[sent:]
        self._socket.sendall(line)

    def try_to_send(self, kind: str, body: Mapping[str, Any]) -> bool:
        """Send a short message without blocking.

        Returns:
            False if the buffer is full; True if it was sent or the other end is closed.
        """
        try:
            self._socket.send(line_of(kind, body), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def receive(self) -> list[Message]:
        """Wait for data, and return the complete messages.

        Lines that are not messages are ignored: a run's code can write to this channel, too.

        Raises:
            EOFError: If the other end is closed, or a line exceeds the limit.
        """
        try:
            data, found, _, _ = socket.recv_fds(self._socket, _CHUNK_BYTES, _MAX_DESCRIPTORS)
        except OSError as error:
            raise EOFError from error
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        self.descriptors += found
        return self._messages_with(data)

    def receive_now(self) -> list[Message] | None:
        """Return the complete messages, as `receive` does, without blocking or descriptors.

        Returns:
            The messages; None if no data has arrived.

        Raises:
            EOFError: As for `receive`.
        """
        try:
            data = self._socket.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError from error
        return self._messages_with(data)

    def _messages_with(self, data: bytes) -> list[Message]:
        self._received += data
        if not data or len(self._received) > _MAX_LINE_BYTES:
            raise EOFError
        if b"\n" not in data:
            return []
        *lines, self._received = self._received.split(b"\n")
        return messages_in([line for line in lines if line])

    def hang_up(self) -> None:
        """Shut the connection down, whichever process holds the other end. Thread-safe."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self.descriptors = []


def start_program(
    program: str,
    settings: WorkerSettings,
    *descriptors: int,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program of this package, in its own session and without a controlling terminal.

    Args:
        program: ``template`` or ``worker``.
        settings: Its settings.
        descriptors: The descriptors that it inherits, and its arguments name.
        environ: Its environment; None for this process's.

    Returns:
        The process.

    Raises:
        OSError: If the system refuses another process.
    """
    command = _command(program, os.getpid(), *descriptors)
    process = subprocess.Popen(  # it is this program
        command, stdin=subprocess.PIPE, pass_fds=descriptors, start_new_session=True, env=environ
    )
    assert process.stdin is not None  # noqa: S101
    with suppress(OSError), process.stdin:  # its absence is found elsewhere
        process.stdin.write(json.dumps(asdict(settings)).encode())
    return process


def replace_program(
    program: str, settings: WorkerSettings, *descriptors: int, environ: Mapping[str, str]
) -> NoReturn:
    """Replace the program of this process, which keeps its id, by another of this package.

    Args:
        program: ``starter``.
        settings: Its settings, short enough for a pipe.
        descriptors: The descriptors that it keeps, and its arguments name.
        environ: Its environment.
    """
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    reading, writing = os.pipe()
    os.write(writing, json.dumps(asdict(settings)).encode())
    os.close(writing)
    os.dup2(reading, 0)
    command = _command(program, os.getppid(), *descriptors)
    os.execve(command[0], command, dict(environ))  # noqa: S606  it is this program


def _command(program: str, parent: int, *descriptors: int) -> list[str]:
    executable = os.fsdecode(multiprocessing.spawn.get_executable())
    return [
        executable,
        "-m",
        "kedro_flask_server.workers",
        program,
        *map(str, (parent, *descriptors)),
    ]


def line_of(kind: str, body: Mapping[str, Any]) -> bytes:
    """Return the encoded message."""
    # The leading line feed ends a line whose writer died before it was complete.
    return b"\n" + json.dumps([kind, body]).encode() + b"\n"


def messages_in(lines: Sequence[bytes | bytearray]) -> list[Message]:
    """Return the messages among non-empty lines."""
    found: list[Any] = []
    with suppress(ValueError, RecursionError):
        if all(line.startswith(b'["') and line.endswith(b"}]") for line in lines):
            found = json.loads(b"[%s]" % b",".join(lines))  # faster than one by one
    if len(found) != len(lines):  # some are not messages, and must not be joined with others
        found = [*map(_parsed_alone, lines)]
    return [(each[0], each[1]) for each in found if _is_message(each)]


def _parsed_alone(line: bytes | bytearray) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_message(content: Any) -> bool:
    return (
        isinstance(content, list)
        and len(content) == 2
        and isinstance(content[0], str)
        and isinstance(content[1], dict)
    )
