"""A server: its limits, its signals and its shutdown."""

from __future__ import annotations

import gc
import ipaddress
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from flask import Flask
from waitress import create_server
from waitress.server import BaseWSGIServer

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.open_files import allow_descriptors
from kedro_flask_server.serving.connections import Connection
from kedro_flask_server.serving.limits import Limits
from kedro_flask_server.serving.memory import Room, Unsent, give_memory_back, prepare_memory
from kedro_flask_server.serving.request_parser import Refusal
from kedro_flask_server.serving.request_threads import RequestThreads
from kedro_flask_server.serving.sending import AHEAD_BYTES
from kedro_flask_server.web.health import QUICK_PATHS
from kedro_flask_server.web.kedro_server import EXTENSION, KedroServer
from kedro_flask_server.web.middleware import TrustedProxies

DRAINED = 0
"""The exit code of a server whose runs have all ended."""

CUT_OFF = 1
"""The exit code of a server that ended before its runs."""

# A terminal sends Ctrl-C to the reloader and to the server, and the reloader forwards it.
_SAME_SIGNAL_S = 0.5
_SPARE_THREADS = 4
_FLUSH_TIMEOUT_S = 2.0

# More than the possible number of threads, and far more than browsers and proxies keep open.
_CONNECTIONS = 4_096
_OTHER_DESCRIPTORS = 512
_ACCEPT_AT_A_TIME = 64
_GIVE_BACK_EVERY_S = 10.0


def threads_needed(config: ServerConfig) -> int:
    """Return the maximum number of threads for concurrent requests.

    A thread is held by each request that waits for a run, requests a snapshot, follows events, or
    sends its response in pieces to a slow reader.
    """
    waiting = config.workers + config.max_waiting
    calls = sum(each.workers + each.max_waiting for each in config.served_pipelines.values())
    streams = 2 * config.max_streams + config.max_page_streams
    others = config.max_waiting + streams + 2 * _SPARE_THREADS
    return 2 * waiting + calls + others


def waitress_settings(config: ServerConfig) -> dict[str, Any]:
    """Return waitress' settings (https://docs.pylonsproject.org/projects/waitress/).

    Args:
        config: The server's settings.

    Returns:
        Arguments for ``waitress.create_server``, with each limit set explicitly.
    """
    return {
        "host": config.host,
        "port": config.port,
        "threads": threads_needed(config),
        # poll has no limit of its own, and silent connections are soon cut off.
        "connection_limit": max(
            64, allow_descriptors(_CONNECTIONS + _OTHER_DESCRIPTORS) - _OTHER_DESCRIPTORS
        ),
        "asyncore_use_poll": True,
        "backlog": 1024,
        # In seconds, for an idle connection; one that waits for its response is not idle.
        "channel_timeout": max(120, config.send_timeout_s),
        "cleanup_interval": 30,
        "max_request_header_size": 65_536,
        # `RequestParser` enforces the exact limit. waitress counts the framing of chunks, too,
        # which for chunks of one byte is five times the body (RFC 9112, section 7.1).
        "max_request_body_size": 8 * max(config.max_body_bytes, config.max_data_bytes),
        # No temporary files, for which a container may have no room: buffers in memory are bounded
        # for all connections together.
        "inbuf_overflow": sys.maxsize,
        "outbuf_overflow": sys.maxsize,
        "outbuf_high_watermark": AHEAD_BYTES,
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
            app: The result of `create_http_server`.

        Raises:
            ServerSettingsError: If the address is taken or not valid.
        """
        self._parts: KedroServer = app.extensions[EXTENSION]
        config = self._parts.config
        self._sockets: dict[int, Any] = {}
        self._is_ending = threading.Event()
        prepare_memory()
        try:
            settings = waitress_settings(config)
            dispatcher = RequestThreads(settings["threads"])
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
        limits = self._limits(app)
        for listener in self._listeners:
            listener.channel_class = partial(Connection, limits=limits)
            listener.handle_accept = partial(_accept_all, listener, listener.handle_accept)
        try:
            self._parts.access.listen(is_loopback=all(map(_is_loopback, self._listeners)))
        except ServerSettingsError:
            for listener in self._listeners:
                listener.close()
            raise

    def _limits(self, app: Flask) -> Limits:
        config = self._parts.config
        buffered = max(config.max_buffered_bytes, config.max_body_bytes)
        return Limits(
            max_body_bytes=config.max_body_bytes,
            max_data_bytes=config.max_data_bytes,
            receive_timeout_s=config.receive_timeout_s,
            send_timeout_s=config.send_timeout_s,
            bodies=Room(buffered),
            unsent=Unsent(buffered),
            writers=threading.Semaphore(max(1, config.max_streams)),
            # The project's own middleware may authenticate callers that are unknown before it.
            refuse=self._refuse if isinstance(app.wsgi_app, TrustedProxies) else None,
            askers=threading.Semaphore(_SPARE_THREADS),
            is_ending=self._is_ending.is_set,
            quick_paths=QUICK_PATHS if _has_own_code_alone(app) else (),
        )

    def _refuse(self, environ: dict[str, Any]) -> Refusal | None:
        answer = self._parts.refuse(environ)
        if answer is None:
            return None
        headers = [*answer.headers]
        return Refusal(status=answer.status, headers=headers, body=answer.get_data())

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        host = self._parts.config.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._listeners[0].effective_port}"

    def serve_until_signalled(self) -> int:
        """Serve until SIGTERM or SIGINT and through the shutdown delay, then drain the runs.

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
        gc.freeze()  # existing objects stay: collections need not visit them again
        gc.enable()
        threading.Thread(target=self._waitress.run, name="waitress", daemon=True).start()
        while not stop.wait(_GIVE_BACK_EVERY_S):
            give_memory_back()
        self._is_ending.set()
        self._parts.runs.begin_to_stop()
        time.sleep(self._parts.config.shutdown_delay_s)
        drained = self._parts.runs.drain(self._parts.config.drain_timeout_s)
        _wait_until(self._is_flushed, _FLUSH_TIMEOUT_S)
        if drained:
            self._parts.project.close()
        return DRAINED if drained else CUT_OFF

    def _is_flushed(self) -> bool:
        """Return whether every request has its response, and every response is sent."""
        channels = [
            channel for each in self._listeners for channel in [*each.active_channels.values()]
        ]
        return not any(channel.is_busy() for channel in channels)


def end_process(code: int) -> NoReturn:
    """End this process and its child processes at once, whatever its threads do.

    Args:
        code: The exit code.
    """
    for child in multiprocessing.active_children():
        child.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _has_own_code_alone(app: Flask) -> bool:
    """Return whether requests execute no code of the project."""
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


def _accept_all(listener: BaseWSGIServer, accept_one: Callable[[], None]) -> None:
    """Accept several waiting clients at once: waitress would poll all connections after each."""
    for _ in range(_ACCEPT_AT_A_TIME):
        before = len(listener.active_channels)
        accept_one()
        if len(listener.active_channels) == before or listener.in_connection_overflow:
            return


def _is_loopback(listener: BaseWSGIServer) -> bool:
    """Return whether only programs on this machine can reach a listening socket."""
    address = listener.socket.getsockname()
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:  # a path, for a Unix socket
        return False


def _wait_until(is_true: Callable[[], bool], timeout_s: float) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_true() and time.monotonic() < ends_at:
        time.sleep(0.01)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
