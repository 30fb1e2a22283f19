"""What a worker receives from the server: orders, and answers to what its runs ask.

The worker dies with the server, whatever it executes: a thread notices that.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections import deque
from typing import Any, Protocol

from kedro_flask_server.workers.killing import kill_tree
from kedro_flask_server.workers.protocol import Channel, Message


class Inbox(Protocol):
    """Orders and answers, each in turn."""

    def open(self) -> None:
        """Begin to receive."""

    def next_order(self) -> Message:
        """Return the next order, as soon as there is one."""

    def next_answer(self) -> dict[str, Any]:
        """Return the next answer, as soon as there is one."""


class ListeningInbox:
    """Has a thread receive, so that the end of the server is noticed at once."""

    def __init__(self, channel: Channel) -> None:
        """Receive from a channel."""
        self._channel = channel
        self._orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def open(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._listen, name="kedro-worker-orders", daemon=True).start()

    def next_order(self) -> Message:
        """Return the next order, as for `Inbox`."""
        return self._orders.get()

    def next_answer(self) -> dict[str, Any]:
        """Return the next answer, as for `Inbox`."""
        return self._answers.get()

    def _listen(self) -> None:
        while True:
            try:
                for kind, body in self._channel.receive():
                    if kind == "answer":
                        self._answers.put(body)
                    else:
                        self._orders.put((kind, body))
            except EOFError:
                kill_tree(os.getpid())


class DirectInbox:
    """Receives where the messages are wanted: a call wakes one thread less (0.1 ms of 3)."""

    def __init__(self, channel: Channel) -> None:
        """Receive from a channel."""
        self._channel = channel
        self._orders: deque[Message] = deque()
        self._answers: deque[dict[str, Any]] = deque()

    def open(self) -> None:
        """Start the thread that waits for the end of the server."""
        threading.Thread(target=self._watch, name="kedro-worker-orders", daemon=True).start()

    def next_order(self) -> Message:
        """Return the next order, as for `Inbox`."""
        while not self._orders:
            self._receive()
        return self._orders.popleft()

    def next_answer(self) -> dict[str, Any]:
        """Return the next answer, as for `Inbox`."""
        while not self._answers:
            self._receive()
        return self._answers.popleft()

    def _receive(self) -> None:
        try:
            for kind, body in self._channel.receive():
                if kind == "answer":
                    self._answers.append(body)
                else:
                    self._orders.append((kind, body))
        except EOFError:
            kill_tree(os.getpid())

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._channel, 0)  # hang-up alone
        poll.poll()
        kill_tree(os.getpid())
