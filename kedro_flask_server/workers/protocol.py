"""How the server, the template and the workers speak: JSON, a line each, over a socket.

=========  ====================  =========================================================
from       to                    messages
=========  ====================  =========================================================
server     template              ``start`` with three descriptors, ``stop``, ``retire``,
                                 ``lease``, ``read``
template   server                ``ready``: also what is secret, and the project's names
server     worker                ``run``, ``snapshot``
worker     server                ``ready``; ``told``: there is much to read in the pipe
worker     server, by a pipe     ``started``, ``expect``, ``event``, ``log``, ``left_out``,
                                 ``secrets``, ``outcome``, ``snapshot``: what its runs tell and come
                                 to, which is read from time to time (`report`)
template   server                ``ended``, on the worker's channel, after all that it has said
=========  ====================  =========================================================

No pickle: what a run's code may write must not be executed by the server.
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

# Above every message that is meant: texts are bounded, and so are requests.
_MAX_LINE_BYTES = 1 << 27


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What the template and the workers have to know.

    Attributes:
        project_path: The project's folder.
        env: The configuration environment; None for the project's default.
        conf_source: Where the configuration is; None for the project's own folder.
        resolves_params: Whether OmegaConf resolves what runtime parameters hold.
        start_method: ``auto``, ``fork`` or ``spawn``: how the template starts workers.
        max_runs: How many runs a worker executes before it ends.
        max_rss_mb: With how much memory (resident, in MB) it ends after a run; None for any.
        log_format: How log records are written.
        memory_limit_mb: How much memory (MB) it may take; None for any.
        python_path: ``sys.path`` of the server.
        modules: What the template imports beside the project: what runs have imported before.
    """

    project_path: str
    env: str | None
    conf_source: str | None
    resolves_params: bool
    start_method: str
    max_runs: int
    max_rss_mb: int | None
    log_format: str
    memory_limit_mb: int | None
    python_path: list[str]
    modules: list[str] = field(default_factory=list)


class Channel:
    """One end of a conversation. One thread receives; who sends sees to it that one does."""

    def __init__(self, connection: socket.socket) -> None:
        """Speak over a connected socket, which belongs to the channel from then on."""
        self._socket = connection
        self._received = bytearray()
        self.descriptors: list[int] = []
        """The file descriptors that came with the messages and are not taken yet."""

    @classmethod
    def of(cls, descriptor: int) -> Channel:
        """Speak over a socket that was handed to this process."""
        os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self._socket.fileno()

    def send(self, kind: str, body: Mapping[str, Any], *, descriptors: Sequence[int] = ()) -> None:
        """Send a message; wait for room if there is none.

        Args:
            kind: What message it is.
            body: What it says.
            descriptors: File descriptors that go with it.

        Raises:
            OSError: If the other end is gone.
        """
        line = line_of(kind, body)
        if descriptors:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
            line = line[sent:]
        self._socket.sendall(line)

    def try_to_send(self, kind: str, body: Mapping[str, Any]) -> bool:
        """Send a short message, whatever was sent before it, if that needs no waiting.

        Returns:
            Whether it is sent, or the other end gone.
        """
        try:
            self._socket.send(line_of(kind, body), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def receive(self) -> list[Message]:
        """Wait until something has come, and return the messages that are whole.

        What is no message is left out: a run's code can write to this channel, too.

        Raises:
            EOFError: If nothing more will come, or what comes has no end.
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
        """Return the messages that are whole by now, as `receive` does; no descriptors come.

        Returns:
            The messages; None where nothing has come.

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
        """End the conversation, whichever process holds the other end. From any thread."""
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
    """Start a program of this package, in a session of its own, out of the terminal's reach.

    Args:
        program: ``template`` or ``worker``.
        settings: What it has to know.
        descriptors: Those that it gets, which its arguments name.
        environ: Its environment; None for this process's.

    Returns:
        The process.

    Raises:
        OSError: If the system gives no more processes.
    """
    command = _command(program, os.getpid(), *descriptors)
    process = subprocess.Popen(  # it is this program
        command, stdin=subprocess.PIPE, pass_fds=descriptors, start_new_session=True, env=environ
    )
    assert process.stdin is not None  # noqa: S101
    with suppress(OSError), process.stdin:  # one that has ended already shows where it is missed
        process.stdin.write(json.dumps(asdict(settings)).encode())
    return process


def replace_program(
    program: str, settings: WorkerSettings, *descriptors: int, environ: Mapping[str, str]
) -> NoReturn:
    """Have this process, as it is known to others, execute another program of this package.

    Args:
        program: ``starter``.
        settings: What it has to know, short enough for a pipe.
        descriptors: Those that it keeps, which its arguments name.
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
    """Return a message as it is sent."""
    # The first line feed ends a line that its writer did not come to end.
    return b"\n" + json.dumps([kind, body]).encode() + b"\n"


def messages_in(lines: Sequence[bytes | bytearray]) -> list[Message]:
    """Return the messages among some lines, which are not empty."""
    found: list[Any] = []
    with suppress(ValueError, RecursionError):
        if all(line.startswith(b'["') and line.endswith(b"}]") for line in lines):
            found = json.loads(b"[%s]" % b",".join(lines))  # which is faster than one by one
    if len(found) != len(lines):  # some are no messages, and must not make others part of them
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
