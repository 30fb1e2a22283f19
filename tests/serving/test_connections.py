"""Connections, without a server around them: what is bounded, and by how much."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from waitress.adjustments import Adjustments

from kedro_flask_server.serving.connections import Connection
from kedro_flask_server.serving.limits import Limits, Linger
from kedro_flask_server.serving.memory import Room, Unsent
from kedro_flask_server.serving.peers import Peer, look_at

LIMITS = Limits(
    max_body_bytes=100_000,
    max_data_bytes=200_000,
    receive_timeout_s=10,
    send_timeout_s=10,
    bodies=Room(150_000),
    unsent=Unsent(1_000_000),
    writers=threading.Semaphore(1),
    refuse=None,
    askers=threading.Semaphore(1),
    is_ending=lambda: False,
    quick_paths=(),
)


@dataclass
class Ends:
    """A connection of the server, driven by the test, and its client."""

    connection: Connection
    client: socket.socket

    def turn(self) -> None:
        """Do what the loop does for this connection."""
        if self.connection.readable():
            self.connection.handle_read()
        if self.connection.socket is not None and self.connection.writable():
            self.connection.handle_write()


@dataclass
class Pairs:
    """Makes connections."""

    open: list[socket.socket] = field(default_factory=list)

    def make(self, limits: Limits) -> Ends:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        accepted, address = listener.accept()
        listener.close()
        server = SimpleNamespace(
            adj=SimpleNamespace(ident=None, url_prefix=""),
            effective_port=0,
            server_name="localhost",
            active_channels={},
            add_task=lambda task: None,
            pull_trigger=lambda: None,
        )
        adj = Adjustments(channel_request_lookahead=0)
        self.open += [accepted, client]
        return Ends(Connection(server, accepted, address, adj, map={}, limits=limits), client)


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    pairs = Pairs()
    yield pairs
    for each in pairs.open:
        each.close()


def turn_until_closed(ends: Ends, feed: bytes = b"") -> float:
    """Turn until the connection is closed, with a client that sends; return how long it took."""
    began = time.monotonic()
    ends.client.setblocking(False)
    while ends.connection.socket is not None:
        assert time.monotonic() - began < 20
        with suppress(OSError):
            if feed:
                ends.client.send(feed)
        ends.turn()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("linger", "feed"),
    [
        (Linger(longest_s=0.3), b"x"),
        (Linger(silent_s=0.3), b""),
        (Linger(most_bytes=1_000_000), b"x" * 50_000),
    ],
)
def test_client_that_sends_on_after_its_answer_is_read_for_a_while(
    pairs: Pairs, linger: Linger, feed: bytes
) -> None:
    ends = pairs.make(replace(LIMITS, linger=linger))
    ends.connection.write_soon(b"HTTP/1.1 413 \r\n\r\n")
    ends.connection.close_when_flushed = True
    ends.turn()
    assert ends.client.recv(1000) == b"HTTP/1.1 413 \r\n\r\n"
    assert ends.client.recv(1) == b""  # there is no more
    assert turn_until_closed(ends, feed) < 10


def test_client_that_takes_nothing_or_next_to_nothing_is_cut_off(pairs: Pairs) -> None:
    for taken in (0, 1):
        ends = pairs.make(replace(LIMITS, send_timeout_s=0.5, unsent=Unsent(100_000_000)))
        ends.connection.write_soon(b"x" * 50_000_000)
        began = time.monotonic()
        while ends.connection.socket is not None:
            ends.client.recv(taken) if taken else None
            ends.turn()
            assert time.monotonic() - began < 20
        assert time.monotonic() - began >= 0.5


@pytest.mark.once
def test_client_that_reads_on_is_not(pairs: Pairs) -> None:
    ends = pairs.make(replace(LIMITS, send_timeout_s=2, unsent=Unsent(1_000_000_000)))
    for end in (ends.connection.socket, ends.client):  # so that what is read shows at once
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
    ends.connection.write_soon(b"x" * 60_000_000)
    ends.client.setblocking(False)
    began, taken = time.monotonic(), 0
    while ends.connection.total_outbufs_len:
        if taken < 20_000_000 * (time.monotonic() - began):  # so that all takes 3 s
            with suppress(BlockingIOError):
                taken += len(ends.client.recv(50_000))
        ends.turn()
        assert ends.connection.socket is not None


def test_answers_beyond_the_bound_cost_the_connection_that_has_held_most_for_longest(
    pairs: Pairs,
) -> None:
    limits = replace(LIMITS, unsent=Unsent(30_000_000))
    large, small, newest = (pairs.make(limits) for _ in range(3))
    for ends, size in ((large, 20_000_000), (small, 8_000_000), (newest, 20_000_000)):
        ends.connection.write_soon(b"x" * size)
    for ends in (large, small, newest):
        ends.turn()
    assert large.connection.socket is None
    assert small.connection.socket is not None
    assert newest.connection.socket is not None


def test_large_body_waits_for_room_and_small_ones_do_not(pairs: Pairs) -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    first, second, small = (pairs.make(LIMITS) for _ in range(3))
    for ends, size in ((first, 90_000), (second, 90_000), (small, 10_000)):
        ends.client.sendall(head % size + b"x" * 20)
        ends.turn()
    assert first.connection.readable()
    assert not second.connection.readable()
    assert small.connection.readable()
    first.connection.handle_close()
    assert second.connection.readable()
    second.connection.handle_close()
    assert LIMITS.bodies.acquire(150_000)
    LIMITS.bodies.release(150_000)


def test_time_in_which_a_body_is_held_up_is_not_its_client_s(pairs: Pairs) -> None:
    limits = replace(
        LIMITS, refuse=lambda environ: None, receive_timeout_s=0.2, bodies=Room(200_000)
    )
    first, second = pairs.make(limits), pairs.make(limits)
    for ends in (first, second):  # there is one asker, which is at the first
        ends.client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n")
        ends.turn()
        assert not ends.connection.readable()
    time.sleep(0.5)  # more than there is for a body, between two looks at the connection
    for ends in (first, second):
        assert not ends.connection.readable()
        ends.connection.service()
        assert ends.connection.readable()


def test_body_that_finds_no_room_is_refused_in_time(pairs: Pairs) -> None:
    limits = replace(LIMITS, bodies=Room(0), receive_timeout_s=0.3)
    ends = pairs.make(limits)
    ends.client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n")
    began = time.monotonic()
    while not ends.connection.requests:
        assert time.monotonic() - began < 10
        ends.turn()
    ends.connection.service()
    ends.turn()
    assert ends.client.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_peer_is_looked_at_without_a_word(pairs: Pairs) -> None:
    ends = pairs.make(LIMITS)
    assert look_at(ends.connection.socket) is Peer.THERE
    ends.client.sendall(b"more")
    assert look_at(ends.connection.socket) is Peer.THERE
    assert ends.connection.socket.recv(10) == b"more"
    ends.client.shutdown(socket.SHUT_WR)
    while look_at(ends.connection.socket) is Peer.THERE:
        pass
    assert look_at(ends.connection.socket) is Peer.FINISHED
    ends.client.close()
    assert not ends.connection.check_client_disconnected()  # this sends the answer's beginning
    while look_at(ends.connection.socket) is Peer.FINISHED:
        pass
    assert ends.connection.check_client_disconnected()
