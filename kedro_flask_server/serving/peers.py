"""Detects whether the peer of a connection is still there, without data from it."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from enum import Enum, auto

# For a peer that vanishes silently: seconds of silence before the first probe, seconds between
# probes, and number of probes (tcp(7)).
_KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

_HAS_FINISHED = getattr(select, "POLLRDHUP", 0)  # Linux


class Peer(Enum):
    """The state of the peer."""

    THERE = auto()
    FINISHED = auto()
    """It sends no more: it waits for its response, or is gone."""
    GONE = auto()


def look_at(connection: socket.socket) -> Peer:
    """Return the state of the peer, without reading data.

    Args:
        connection: A connected, non-blocking socket.
    """
    try:
        return _poll(connection) if _HAS_FINISHED else _peek(connection)
    except (OSError, ValueError):  # closed on this side
        return Peer.GONE


def _poll(connection: socket.socket) -> Peer:
    poller = select.poll()
    poller.register(connection, _HAS_FINISHED)
    flags = dict(poller.poll(0)).get(connection.fileno(), 0)
    if flags & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        return Peer.GONE
    return Peer.FINISHED if flags & _HAS_FINISHED else Peer.THERE


def _peek(connection: socket.socket) -> Peer:
    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return Peer.GONE
    try:
        return Peer.THERE if connection.recv(1, socket.MSG_PEEK) else Peer.FINISHED
    except BlockingIOError:
        return Peer.THERE


def notice_loss(connection: socket.socket, timeout_s: float) -> None:
    """Make the system close a connection whose peer has vanished silently.

    Args:
        connection: A connected socket.
        timeout_s: How many seconds sent data may stay unacknowledged, where the system supports
            that (Linux).
    """
    with suppress(OSError):  # a Unix socket
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_ms = max(1, int(timeout_s * 1000))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
