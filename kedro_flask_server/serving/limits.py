"""What connections share: how long, and how many bytes, each direction may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.serving.memory import Room, Unsent
from kedro_flask_server.serving.requests import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Linger:
    """How a connection is closed after its last answer (RFC 9112, section 9.6).

    A client that still sends would lose the answer with a reset: what it sends is read and thrown
    away, within these bounds.

    Attributes:
        longest_s: For how many seconds.
        silent_s: For how many seconds of silence.
        most_bytes: How many bytes.
    """

    longest_s: float = 30.0
    silent_s: float = 5.0
    most_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What all connections of a server share.

    Attributes:
        max_body_bytes: The largest body.
        receive_timeout_s: Within how many seconds headers, and then a body, come in.
        send_timeout_s: Within how many seconds some of an answer must be taken.
        bodies: The room for bodies.
        unsent: The answers that are not taken yet.
        writers: As many threads may wait for who reads slowly.
        refuse: Returns how a request is refused by its headers; None lets it in.
        askers: As many threads may be at that, so that other requests have some.
        is_ending: Whether the server is stopping.
        quick_paths: What is answered by the thread that reads.
        linger: How connections are closed.
    """

    max_body_bytes: int
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
