"""Connections, bounded in time and bytes in each direction.

Incoming and outgoing data is bounded for each connection and for all together (docs/security.md,
"Limits"). Executing requests hold threads, slow senders and readers never do.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from kedro_flask_server.serving.limits import Limits
from kedro_flask_server.serving.peers import Peer, look_at, notice_loss
from kedro_flask_server.serving.request_parser import (
    AnswerTask,
    Refusal,
    RefusalTask,
    RequestParser,
)
from kedro_flask_server.serving.sending import AHEAD_BYTES, SendingChannel

# A small body that does not arrive with its headers is admitted or refused after this time.
_ASK_AFTER_S = 0.5

# How fast data must arrive once a request without data would be cut off.
_LEAST_DATA_BYTES_PER_S = 10_000

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(SendingChannel):
    """A connection of a client.

    Its methods override waitress', except for those of `Sender` and `Task`. One thread calls
    `readable` for each connection at least once a second, and reads and writes; other threads
    execute requests: `service`, and what that calls.
    """

    task_class = AnswerTask
    error_task_class = RefusalTask
    request: RequestParser | None

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        """Begin to read.

        Args:
            args: Those of waitress.
            limits: The limits shared with other connections.
            options: Those of waitress.
        """
        super().__init__(*args, limits=limits, **options)
        notice_loss(self.socket, limits.send_timeout_s)
        self.parser_class = partial(
            RequestParser,
            max_body_bytes=limits.max_body_bytes,
            max_data_bytes=limits.max_data_bytes,
            room=limits.bodies,
        )
        now = time.monotonic()
        # Since when a request is arriving; None if none is.
        self._receiving_since: float | None = now
        self._waits_for_room_since: float | None = None
        self._is_held_up = False  # whether reading of a body is deferred
        self._is_asking = False  # whether a thread is deciding on a request's admission
        self._is_receiving = False
        self._is_quick = False
        self._is_held_back = False

    # Receiving.

    def readable(self) -> bool:
        """Return whether to read on; cuts off overdue clients, and resumes deferred requests."""
        # This is called for each connection whenever any of them has an event.
        if self.requests and not self.total_outbufs_len:
            if self._is_held_back:
                self._is_held_back = False
                self.server.add_task(self)
            return False
        now = time.monotonic()
        if self._is_overdue(now):
            self.will_close = True
        if self.will_close or self.close_when_flushed or self.total_outbufs_len:
            return False
        request = self.request
        if self.lingers or request is None or not request.headers_finished:
            return True
        is_held_up = self._holds_back(request, now)
        if is_held_up is not self._is_held_up:
            self._is_held_up, self._receiving_since = is_held_up, now
        return not is_held_up

    def _is_overdue(self, now: float) -> bool:
        if self.total_outbufs_len:
            return self.is_send_overdue(now)
        if self.lingers:
            return self.is_linger_overdue(now)
        if self._receiving_since is None or self._is_held_up:
            return False
        late_s = now - self._receiving_since - self._limits.receive_timeout_s
        if late_s > 0 and self.request is not None and self.request.has_data:
            return self.request.received_bytes < late_s * _LEAST_DATA_BYTES_PER_S
        return late_s > 0

    def _holds_back(self, request: RequestParser, now: float) -> bool:
        """Return whether to defer a body: it is not admitted, or has no room."""
        if self._is_asking:
            return True
        if not request.is_let_in:
            since = self._receiving_since or now
            is_due = request.is_large or request.wants_continue or now - since > _ASK_AFTER_S
            if not is_due:
                return False
            if self._limits.refuse is not None:
                return self._begin_to_ask(request)
            request.is_let_in = True
        if request.is_large and not request.acquire_room():
            self._wait_for_room(request, now)
            return True
        self._waits_for_room_since = None
        if request.wants_continue:
            request.wants_continue = False
            self.send_now(_CONTINUE)
        return False

    def _begin_to_ask(self, request: RequestParser) -> bool:
        if self._limits.askers.acquire(blocking=False):
            self._is_asking = True
            self.server.add_task(self)
            return True
        return request.is_large or request.wants_continue

    def _wait_for_room(self, request: RequestParser, now: float) -> None:
        if self._waits_for_room_since is None:
            self._waits_for_room_since = now
        elif now - self._waits_for_room_since > self._limits.receive_timeout_s:
            self._waits_for_room_since = None
            self._refuse(
                request,
                Refusal.in_json(
                    "503 Service Unavailable",
                    "The server is busy with the bodies of other requests (setting "
                    "max_buffered_bytes). Try again later.",
                    ("Retry-After", "5"),
                ),
            )
            self.server.add_task(self)

    def _refuse(self, request: RequestParser, refusal: Refusal) -> None:
        with self.requests_lock:
            request.error = refusal
            request.completed = True
            self.requests.append(request)
            self.request = None

    def handle_read(self) -> None:
        """Read what has arrived."""
        if not self.lingers:
            super().handle_read()
        else:
            self.throw_away()

    def received(self, data: bytes) -> bool:
        """Consume bytes of requests."""
        if self._receiving_since is None:
            self._receiving_since = time.monotonic()
        self._is_receiving = True
        taken = bool(super().received(data))
        self._is_receiving = False
        if self.requests and self.request is None:  # all data has been consumed
            self._receiving_since = None
        if self._is_quick:
            self._is_quick = False
            self.service()
        return taken

    def is_taken_care_of(self) -> bool:
        """Return whether the request needs no thread now.

        Requests for quick paths are answered in the receiving thread, which takes less time than
        waking another. Pipelined requests of a client that does not read its responses are
        deferred.
        """
        if self._is_asking:
            return False
        if self.total_outbufs_len > AHEAD_BYTES:
            self._is_held_back = True
            return True
        request = self.requests[0]
        self._is_quick = (
            self._is_receiving
            and request.error is None
            and request.command == "GET"
            and request.path in self._limits.quick_paths
            and "AUTHORIZATION" not in request.headers
        )
        return self._is_quick

    # Executing, in other threads.

    def service(self) -> None:
        """Execute a request, or decide on its admission."""
        if self._is_asking:
            is_refused = self._ask()
            if not is_refused:
                self.server.pull_trigger()
                return
        self.begin_answer()
        super().service()
        self._receive_from_now()

    def on_all_sent(self) -> None:
        """Restart the receive timeout: until now, data was not read."""
        self._receive_from_now()

    def _receive_from_now(self) -> None:
        if self._receiving_since is not None:
            self._receiving_since = time.monotonic()

    def _ask(self) -> bool:
        request: Any = self.request
        refuse, refusal = self._limits.refuse, None
        try:
            if refuse is not None:
                refusal = refuse(self.task_class(self, request).get_environment())
            if refusal is not None:
                self._refuse(request, refusal)
        finally:
            request.is_let_in = True
            self._is_asking = False
            self._limits.askers.release()
        return refusal is not None

    def is_ending(self) -> bool:
        """Return whether the server is stopping."""
        return self._limits.is_ending()

    def has_client_finished(self) -> bool:
        """Return whether the client sends no more."""
        return not self.connected or look_at(self.socket) is not Peer.THERE

    def check_client_disconnected(self) -> bool:
        """Return whether the client is gone, not merely half-closed."""
        connection = self.socket
        if not self.connected or connection is None:
            return True
        peer = look_at(connection)
        if peer is Peer.FINISHED:
            self.send_beginning()
        return peer is Peer.GONE

    # Closing.

    def handle_write(self) -> None:
        """Send what the socket accepts, and begin to close if due."""
        if self.total_outbufs_len:
            self._flush_exception(self._flush_some_if_lockable)
        if self.close_when_flushed and not self.total_outbufs_len:
            self.linger()
        if self.will_close:
            self.handle_close()

    def is_busy(self) -> bool:
        """Return whether a request has no response yet, or a response is not read."""
        return bool(self.requests or self.total_outbufs_len or self.lingers)

    def handle_close(self) -> None:
        """Close the connection, and release its resources."""
        super().handle_close()
        if self.request is not None:
            self.request.release_room()
