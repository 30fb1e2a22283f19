"""Limits that connections share, in time and in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.serving.memory import Room, Unsent
from kedro_flask_server.serving.request_parser import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Linger:
    """How a connection is closed after its last response (RFC 9112, section 9.6).

    A client that still sends would lose the response by a reset: its data is read and dropped,
    within these bounds.

    Attributes:
        longest_s: The longest time, in seconds.
        silent_s: The longest silence, in seconds.
        most_bytes: The maximum number of bytes.
    """

    longest_s: float = 30.0
    silent_s: float = 5.0
    most_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of all connections of a server.

    Attributes:
        max_body_bytes: The largest body.
        max_data_bytes: The largest body of a request with data.
        receive_timeout_s: Within how many seconds headers, and then a body, must arrive.
        send_timeout_s: Within how many seconds the client must read part of a response.
        bodies: The memory for bodies.
        unsent: The responses that are not read yet.
        writers: Limits the threads that wait for slow readers.
        refuse: Returns the refusal of a request, from its headers; None admits it.
        askers: Limits the threads that call `refuse`, so that other requests find some.
        is_ending: Returns whether the server is stopping.
        quick_paths: The paths that the reading thread answers itself.
        linger: How connections are closed.
    """

    max_body_bytes: int
    max_data_bytes: int
    receive_timeout_s: float
    send_timeout_s: float
    bodies: Room
    unsent: Unsent
    writers: threading.Semaphore
    refuse: Callable[[dict[str, Any]], Refusal | None] | None
    askers: threading.Semaphore
    is_ending: Callable[[], bool]
    quick_paths: tuple[str, ...]
    linger: Linger = Linger()
