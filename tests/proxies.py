"""Stands between a client and a server, and counts the round trips between them."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CountingProxy:
    """Passes on what the two sides of connections say, and counts how often the client asks.

    A round trip begins where the client says something after the server has, or at first.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.round_trips = 0
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._asked: set[socket.socket] = set()
        self._is_over = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def move_to(self, port: int) -> None:
        """Lead connections that are made from now on to another server, as a name that moves."""
        self._server = ("127.0.0.1", port)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        for each in (self._listener, self._selector, *self._peers):
            each.close()

    def _work(self) -> None:
        while not self._is_over.is_set():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._server)
        self._clients.add(client)
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        peer = self._peers.get(source)
        if peer is None:  # its peer has ended
            return
        try:
            data = source.recv(1 << 16)
            if source in self._clients and data:
                self.round_trips += source not in self._asked
                self._asked.add(source)
            else:
                self._asked.discard(peer)
            peer.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (source, peer):
                self._selector.unregister(each)
                del self._peers[each]
                each.close()


@contextmanager
def counting_proxy(port: int) -> Iterator[CountingProxy]:
    proxy = CountingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
