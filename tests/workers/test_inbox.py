"""Orders and answers come in turn, and a worker dies with its server."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from kedro_flask_server.workers.inbox import DirectInbox, Inbox, ListeningInbox
from kedro_flask_server.workers.protocol import Channel


def work(create: type[DirectInbox] | type[ListeningInbox], ours: socket.socket) -> None:
    """Execute orders until there are no more."""
    channel = Channel(ours)
    inbox: Inbox = create(channel)
    inbox.open()
    while True:
        kind, body = inbox.next_order()
        if kind == "sleep":
            signal.pause()
        answer = inbox.next_answer() if kind == "ask" else body
        channel.send(kind, answer)


@pytest.mark.parametrize("create", [DirectInbox, ListeningInbox])
@pytest.mark.parametrize("is_busy", [True, False])
def test_orders_and_answers_come_in_turn_until_the_server_ends(
    create: type[DirectInbox] | type[ListeningInbox], is_busy: bool
) -> None:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.close()
        os.setpgid(0, 0)
        work(create, ours)
    ours.close()
    server = Channel(theirs)
    server.send("ask", {})
    server.send("run", {"number": 2})
    server.send("answer", {"number": 1})
    received = []
    while len(received) < 2:
        received += server.receive()
    assert received == [("ask", {"number": 1}), ("run", {"number": 2})]
    if is_busy:
        server.send("sleep", {})
    server.close()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
