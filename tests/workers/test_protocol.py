"""What passes between the server and its workers."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from kedro_flask_server.model.run import StopReason
from kedro_flask_server.model.stop import RunInterrupted
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.protocol import Channel

Channels = tuple[Channel, Channel]


@pytest.fixture
def channels() -> Iterator[Channels]:
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def receive(channel: Channel, count: int) -> list[tuple[str, dict]]:
    found: list[tuple[str, dict]] = []
    while len(found) < count:
        found += channel.receive()
    return found


@pytest.mark.parametrize("value", ["plain", "\ud800 \x00 é\n", 10**30, float("inf"), {"a": [None]}])
def test_messages_come_as_they_were_sent(channels: Channels, value: object) -> None:
    ours, theirs = channels
    ours.send("run", {"value": value})
    assert theirs.receive() == [("run", {"value": value})]


def test_message_larger_than_the_channel_comes_whole(channels: Channels) -> None:
    ours, theirs = channels
    text = "x" * 3_000_000
    sender = threading.Thread(target=ours.send, args=("snapshot", {"text": text}))
    sender.start()
    assert receive(theirs, 1) == [("snapshot", {"text": text})]
    sender.join()


def test_what_is_no_message_is_left_out(channels: Channels) -> None:
    ours, theirs = channels
    for garbage in (
        b"\xff\xfe\n",
        b"{}\n",
        b"[1, 2]\n",
        b'["a"]\n',
        b"[" * 5000 + b"\n",
        b"\n",
        b"7\n",
    ):
        ours._socket.sendall(garbage)
    ours._socket.sendall(b'["cut o')
    assert ours.try_to_send("ended", {"code": 3})
    assert receive(theirs, 1) == [("ended", {"code": 3})]
    ours.close()
    with pytest.raises(EOFError):
        theirs.receive()


def test_garbage_makes_no_message_part_of_it(channels: Channels) -> None:
    ours, theirs = channels
    ours._socket.sendall(b'[0\n["log", {}]\n["event", {}]\n0]\n["log", {}],["started", {}]\n')
    ours.send("log", {"message": "x"})
    found = [("log", {}), ("event", {}), ("log", {"message": "x"})]
    assert receive(theirs, 3) == found


def test_descriptors_come_in_the_order_of_their_messages(channels: Channels) -> None:
    ours, theirs = channels
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writing) in enumerate(pipes):
        ours.send("start", {"number": number}, descriptors=[writing])
        os.close(writing)
    assert [body["number"] for _, body in receive(theirs, 3)] == [0, 1, 2]
    for number, (reading, _) in enumerate(pipes):
        received = theirs.descriptors.pop(0)
        assert not os.get_inheritable(received)
        os.write(received, str(number).encode())
        os.close(received)
        assert os.read(reading, 10) == str(number).encode()
        os.close(reading)


def test_short_message_is_not_sent_where_that_needs_waiting(channels: Channels) -> None:
    ours, theirs = channels
    while ours.try_to_send("ended", {"code": 0, "reason": "x" * 10_000}):
        pass
    theirs.receive()
    for _ in range(100):
        if ours.try_to_send("ended", {"code": 1}):
            break
        theirs.receive()
    else:
        pytest.fail("there was room, and it was not sent")
    theirs.close()
    assert ours.try_to_send("ended", {"code": 2})  # nobody is there to be told


def test_signal_that_comes_as_a_message_begins_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        interruption = InterruptedAsItLooks()
        with interruption.enforced(), pytest.raises(RunInterrupted):
            send_as_sigterm_comes(interruption)
    finally:
        signal.signal(signal.SIGTERM, before)


def send_as_sigterm_comes(interruption: InterruptedAsItLooks) -> None:
    interruption.is_armed = True
    interruption.release(raises=interruption.hold())


class InterruptedAsItLooks(Interruption):
    is_armed = False

    @property
    def reason(self) -> StopReason | None:
        if self.is_armed:
            self.is_armed = False
            signal.raise_signal(signal.SIGTERM)
        return super().reason
