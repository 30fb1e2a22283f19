"""Serves an application with waitress: its limits, its signals and its end."""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from flask import Flask
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import RequestEntityTooLarge

from kedro_flask_server.app import EXTENSION, KedroServer
from kedro_flask_server.config import ServerConfig
from kedro_flask_server.descriptors import allow_descriptors
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.web.gate import TrustedProxies
from kedro_flask_server.web.health import QUICK_PATHS

DRAINED = 0
"""The exit code of a server all of whose runs came to their end."""

CUT_OFF = 1
"""The exit code of a server that ended before its runs did."""

# A terminal sends Ctrl-C to the reloader and to the server, and the reloader passes it on.
_SAME_SIGNAL_S = 0.5
_SPARE_THREADS = 4
_FLUSH_TIMEOUT_S = 2.0

# More than there can be threads, and far more than browsers and proxies keep open.
_CONNECTIONS = 4_096
_OTHER_DESCRIPTORS = 512


def waitress_settings(config: ServerConfig) -> dict[str, Any]:
    """Return waitress' settings (https://docs.pylonsproject.org/projects/waitress/).

    Args:
        config: The server's settings.

    Returns:
        Arguments for ``waitress.create_server``, each limit chosen here.
    """
    return {
        "host": config.host,
        "port": config.port,
        # Whoever runs, waits for a run, is at a snapshot or follows events holds a thread: there
        # are more.
        "threads": config.workers + 2 * config.max_waiting + config.max_streams + _SPARE_THREADS,
        # poll has no limit of its own, and those that say nothing are soon cut off.
        "connection_limit": max(
            64, allow_descriptors(_CONNECTIONS + _OTHER_DESCRIPTORS) - _OTHER_DESCRIPTORS
        ),
        "asyncore_use_poll": True,
        "backlog": 1024,
        # In seconds, for an idle connection; one that waits for its answer is not idle.
        "channel_timeout": 120,
        "cleanup_interval": 30,
        "max_request_header_size": 65_536,
        # `_RequestParser` keeps the limit to the byte. waitress counts the framing of chunks, too,
        # which for chunks of one byte is five times the body (RFC 9112, section 7.1).
        "max_request_body_size": 8 * config.max_body_bytes,
        "expose_tracebacks": False,
        # The application does so, under every WSGI server alike (`TrustedProxies`).
        "clear_untrusted_proxy_headers": False,
        "ident": None,
    }


class Server:
    """An application on a listening socket."""

    def __init__(self, app: Flask) -> None:
        """Listen; requests wait until `serve_until_signalled`.

        Args:
            app: What `create_http_server` returned.

        Raises:
            ServerSettingsError: If the address is taken or is none.
        """
        self._parts: KedroServer = app.extensions[EXTENSION]
        config = self._parts.config
        self._sockets: dict[int, Any] = {}
        if config.executor == "processes" and config.max_runs_per_worker > 1:
            _stay_on_one_processor()
        try:
            settings = waitress_settings(config)
            dispatcher = _Dispatcher()
            dispatcher.set_thread_count(settings["threads"])
            self._waitress = create_server(
                app, map=self._sockets, _dispatcher=dispatcher, **settings
            )
        except (OSError, ValueError, OverflowError) as error:
            raise ServerSettingsError(
                f"Cannot listen on {config.host}, port {config.port}: {_reason(error)}. Choose "
                "another with --host and --port."
            ) from error
        self._listeners = [
            each for each in self._sockets.values() if isinstance(each, BaseWSGIServer)
        ]
        for listener in self._listeners:
            listener.channel_class = partial(
                _Channel,
                max_body_bytes=config.max_body_bytes,
                receive_timeout_s=config.receive_timeout_s,
                quick_paths=QUICK_PATHS if _has_own_code_alone(app) else (),
            )
        try:
            self._parts.access.listen(is_loopback=all(map(_is_loopback, self._listeners)))
        except ServerSettingsError:
            for listener in self._listeners:
                listener.close()
            raise

    @property
    def url(self) -> str:
        """The address that it listens on."""
        host = self._parts.config.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._listeners[0].effective_port}"

    def serve_until_signalled(self) -> int:
        """Serve until SIGTERM or SIGINT, then let the runs under way end.

        A second signal, half a second later or more, ends the process at once, with `CUT_OFF`.

        Returns:
            `DRAINED` or `CUT_OFF`.
        """
        stop = threading.Event()

        first_at = 0.0

        def on_signal(number: int, frame: FrameType | None) -> None:
            nonlocal first_at
            if not stop.is_set():
                first_at = time.monotonic()
                stop.set()
            elif time.monotonic() - first_at > _SAME_SIGNAL_S:
                end_process(CUT_OFF)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        self._parts.runs.start()
        gc.freeze()  # what is there by now stays: no collection need look at it again
        gc.enable()
        threading.Thread(target=self._waitress.run, name="waitress", daemon=True).start()
        stop.wait()
        drained = self._parts.runs.drain(self._parts.config.drain_timeout_s)
        _wait_until(self._is_flushed, _FLUSH_TIMEOUT_S)
        if drained:
            self._parts.project.close()
        return DRAINED if drained else CUT_OFF

    def _is_flushed(self) -> bool:
        """Whether every request has its answer, and every answer is sent."""
        channels = [
            channel for each in self._listeners for channel in [*each.active_channels.values()]
        ]
        return not any(channel.requests or channel.total_outbufs_len for channel in channels)


def end_process(code: int) -> None:
    """End this process at once, whatever its threads do, and the processes that it started.

    Args:
        code: The exit code.
    """
    for child in multiprocessing.active_children():
        child.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _LastIsFirst:
    """A condition that wakes the thread which has begun to wait last."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: list[threading.Lock] = []

    def wait(self) -> None:
        turn = threading.Lock()
        turn.acquire()
        self._waiting.append(turn)
        self._lock.release()
        turn.acquire()
        self._lock.acquire()

    def notify(self) -> None:
        if self._waiting:
            self._waiting.pop().release()

    def notify_all(self) -> None:
        while self._waiting:
            self.notify()


class _Dispatcher(ThreadedTaskDispatcher):
    """Gives a request to the thread that was busy last, of those that are idle.

    There are many threads, for requests that wait for their run. By turns, each request would
    find one whose memory no processor has at hand, which costs more than to answer it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue_cv = _LastIsFirst(self.lock)

    def add_task(self, task: _Channel) -> None:
        if not task.answers_itself():
            super().add_task(task)


class _JsonErrorTask(ErrorTask):
    """Refuses in JSON, as the application does, what waitress itself refuses."""

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({"detail": f"{error.reason}: {error.body}"}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _RequestParser(HTTPRequestParser):
    """Refuses a body that is too large by its own bytes, before it is kept."""

    error: Any

    def __init__(self, adj: Any, *, max_body_bytes: int) -> None:
        super().__init__(adj)
        self._max_body_bytes = max_body_bytes

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Content-Length has more digits than Python reads
            raise ParsingError("Content-Length is invalid") from error
        except TransferEncodingNotImplemented as error:  # waitress' 501 would be the server's fault
            raise ParsingError(str(error)) from error

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        size = self.content_length
        if self.chunked and self.body_rcv is not None:
            size = len(self.body_rcv) + self.body_rcv.chunk_remainder
        if size > self._max_body_bytes and self.error is None:
            self.expect_continue = False
            self.error = RequestEntityTooLarge(
                f"The body is larger than {self._max_body_bytes} bytes (setting max_body_bytes)"
            )
            self.completed = True
        return consumed


class _Channel(HTTPChannel):
    """A connection, which is closed if a request does not come in within its time.

    It is read while its request is served if somebody asks for its client.

    waitress can read while it serves (``channel_request_lookahead``), and so finds out that a
    client is gone. But a client that has sent all may close its side and wait for the answer.
    """

    error_task_class = _JsonErrorTask
    _is_asked_for = False
    _is_receiving = False
    _is_quick = False

    def __init__(
        self,
        *args: Any,
        max_body_bytes: int,
        receive_timeout_s: float,
        quick_paths: tuple[str, ...],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.parser_class = partial(_RequestParser, max_body_bytes=max_body_bytes)
        self._receive_timeout_s = receive_timeout_s
        self._quick_paths = quick_paths
        # Since when a request is on its way; None where none is.
        self._receiving_since: float | None = time.monotonic()

    def received(self, data: bytes) -> bool:
        if self._receiving_since is None:
            self._receiving_since = time.monotonic()
        self._is_receiving = True
        taken = bool(super().received(data))
        self._is_receiving = False
        if self.requests and self.request is None:  # all that has come in is whole
            self._receiving_since = None
        if self._is_quick:
            self._is_quick = False
            self.service()
        return taken

    def answers_itself(self) -> bool:
        """Whether a request is answered where it was received, in the thread of all connections.

        What waits for nothing takes less time than to wake another thread for it.
        """
        request = self.requests[0]
        self._is_quick = (
            self._is_receiving
            and request.error is None
            and request.command == "GET"
            and request.path in self._quick_paths
            and "AUTHORIZATION" not in request.headers
        )
        return self._is_quick

    def _is_too_slow(self) -> bool:
        if self._receiving_since is None:
            return False
        now = time.monotonic()
        if self.requests:  # what follows is not read before these are answered
            self._receiving_since = now
        return now - self._receiving_since > self._receive_timeout_s

    def check_client_disconnected(self) -> bool:
        if not self._is_asked_for:
            self._is_asked_for = True
            self.server.pull_trigger()
        return bool(super().check_client_disconnected())

    def readable(self) -> bool:
        if self._is_too_slow():
            self.will_close = True
        if not self._is_asked_for:
            return bool(super().readable())
        is_ending = self.will_close or self.close_when_flushed
        return not is_ending and len(self.requests) <= 1


def _has_own_code_alone(app: Flask) -> bool:
    """Whether nothing of the project's is called for every request."""
    parts: KedroServer = app.extensions[EXTENSION]
    callbacks = (
        app.before_request_funcs,
        app.after_request_funcs,
        app.teardown_request_funcs,
        app.url_value_preprocessors,
    )
    functions = [each for found in callbacks for each in found.get(None, ())]
    return (
        isinstance(app.wsgi_app, TrustedProxies)
        and not parts.access.has_other_scheme
        and not app.teardown_appcontext_funcs
        and all(each.__module__.startswith("kedro_flask_server.") for each in functions)
    )


def _stay_on_one_processor() -> None:
    """Have this thread, and those that it starts, execute on one processor (sched_setaffinity(2)).

    One of them executes Python at a time, whatever there are. To hand that over to a thread on
    another processor takes longer than much that a short run asks of the server. Where runs do
    not end as fast as processes can be used again, it makes no difference.
    """
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        with suppress(OSError):
            os.sched_setaffinity(0, {secrets.choice(processors)})  # not where all others are


def _is_loopback(listener: BaseWSGIServer) -> bool:
    """Whether programs on this machine alone reach a listening socket."""
    address = listener.socket.getsockname()
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:  # of a Unix socket, a path
        return False


def _wait_until(is_true: Callable[[], bool], timeout_s: float) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_true() and time.monotonic() < ends_at:
        time.sleep(0.01)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
