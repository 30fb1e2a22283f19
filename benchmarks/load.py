"""Sends a server one kind of request, over and over, and costs next to nothing itself.

Server and client share the processors, so that a client which computes is measured along with the
server. This one is a single thread over raw sockets: every client that it stands for is a
connection with one request in flight, whose bytes are made beforehand but for the tag.
"""

from __future__ import annotations

import json
import re
import secrets
import select
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

_TAG = "t-0123456789abcdef"
"""Stands in a body for the tag, and is as long as one, so that Content-Length holds."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S = 120
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent over and over; `success` is what the body of each answer should have."""

    line: str
    body: str = ""
    success: str | None = None

    def parts(self, host: str) -> list[bytes]:
        """Return the bytes before and after the tag, or all of them where there is none."""
        kind = "Content-Type: application/json\r\n" if self.body else ""
        head = f"{self.line} HTTP/1.1\r\nHost: {host}\r\n{kind}"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n{self.body}".encode().split(
            _TAG.encode()
        )


def run(pipeline: str, **params: object) -> Request:
    """Return the request for a run, which gets a tag that no other has."""
    body = json.dumps({"pipeline_names": [pipeline], "params": {"tag": _TAG, **params}})
    return Request(line="POST /run", body=body, success=r'"status": ?"success"')


def get(path: str, success: str | None = None) -> Request:
    """Return the request for a path."""
    return Request(line=f"GET {path}", success=success)


class Answer(NamedTuple):
    """When a request was sent and answered, and whether the body says success."""

    sent_at: float
    answered_at: float
    is_success: bool

    def share(self, begins_at: float, ends_at: float) -> float:
        """Return how much of it lies within a span of time, from 0 to 1."""
        inside = min(self.answered_at, ends_at) - max(self.sent_at, begins_at)
        return max(0.0, inside) / (self.answered_at - self.sent_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a load has found: of the successes, their median and rate; and what itself took."""

    median_ms: float
    p99_ms: float
    longest_ms: float
    rate: float
    answers: int
    failed: int
    client_cpu_s: float
    took_s: float


class _Connection:
    """A client: a connection that is kept, with one request in flight."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""

    def send(self, message: bytes) -> None:
        self.sent_at = time.monotonic()
        self.socket.sendall(message)

    def receive(self) -> bytes | None:
        """Return the body of an answer, or None while more is to come."""
        # A server that writes head and body apart would wait 40 ms for a delayed acknowledgement.
        if hasattr(socket, "TCP_QUICKACK"):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = self.socket.recv(_CHUNK_BYTES)
        if not data:
            raise ConnectionError(f"the server closed the connection, after {self._received!r}")
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(self._received, 0, head)
        if self._received[8:13] != b" 200 " or length is None:
            raise ValueError(f"not 200 with a Content-Length: {self._received[:2000]!r}")
        if len(self._received) < head + 4 + int(length[1]):
            return None
        body, self._received = self._received[head + 4 :], b""
        return body


class Load:
    """Clients of one server, in a ``with`` statement; each waits for its answer to send the next.

    Raises:
        ValueError: When an answer is not 200.
        ConnectionError: When the server closes a connection.
        TimeoutError: When no answer comes for two minutes.
    """

    def __init__(self, url: str, request: Request, clients: int = 1) -> None:
        address = urlsplit(url)
        self._parts = request.parts(address.netloc)
        self._success = re.compile((request.success or "").encode())
        mine = secrets.token_hex(4)
        self._tags = (f"t-{mine}{number:08x}".encode() for number in range(2**32))
        connections = [
            _Connection((str(address.hostname), int(address.port or 80))) for _ in range(clients)
        ]
        self._connections = {each.socket.fileno(): each for each in connections}
        self._poll = select.poll()
        for number in self._connections:
            self._poll.register(number, select.POLLIN)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.socket.close()

    def once(self) -> Answer:
        """Send one request, and return its answer."""
        [connection] = self._connections.values()
        self._send(connection)
        return next(self._receive())[1]

    def measure(self, seconds: float, warm_up: int = 20) -> Outcome:
        """Send for some seconds, after answers that only warm up (no longer than as long again).

        An answer counts for the part of it that lies within those seconds, and the load goes on
        until the last of them has come: so a few long runs have a rate, too.
        """
        began_at, cpu_s = time.monotonic(), time.process_time()
        for connection in self._connections.values():
            self._send(connection)
        answers = self._warm_up(seconds, warm_up)
        begins_at = time.monotonic()
        answers += self._send_until(begins_at + seconds)
        return Outcome(
            **_summary(answers, begins_at, begins_at + seconds),
            answers=len(answers),
            failed=sum(not each.is_success for each in answers),
            client_cpu_s=time.process_time() - cpu_s,
            took_s=time.monotonic() - began_at,
        )

    def _warm_up(self, seconds: float, count: int) -> list[Answer]:
        answers = []
        ends_at = time.monotonic() + seconds
        for connection, answer in self._receive():
            answers.append(answer)
            self._send(connection)
            is_late = answer.answered_at >= ends_at and len(answers) >= len(self._connections)
            if len(answers) >= count or is_late:
                break
        return answers

    def _send_until(self, ends_at: float) -> list[Answer]:
        """Keep the load up until all that was in flight at the end is answered; drain the rest."""
        answers = []
        over = set()
        for connection, answer in self._receive():
            answers.append(answer)
            if answer.answered_at >= ends_at:
                over.add(connection)
            if len(over) == len(self._connections):
                break
            self._send(connection)
        rest = self._receive()
        return answers + [next(rest)[1] for _ in range(len(self._connections) - 1)]

    def _send(self, connection: _Connection) -> None:
        tag = next(self._tags)
        connection.send(tag.join(self._parts))

    def _receive(self) -> Iterator[tuple[_Connection, Answer]]:
        """Yield each answer as it comes, without end."""
        while True:
            ready = self._poll.poll(_TIMEOUT_S * 1000)
            if not ready:
                raise TimeoutError(f"no answer for {_TIMEOUT_S} s")
            for number, _ in ready:
                connection = self._connections[number]
                body = connection.receive()
                if body is not None:
                    is_success = self._success.search(body) is not None
                    answered_at = time.monotonic()
                    yield connection, Answer(connection.sent_at, answered_at, is_success)


def _summary(answers: list[Answer], begins_at: float, ends_at: float) -> dict[str, float]:
    """Return the median and the rate of the successes within a span of time."""
    good = [each for each in answers if each.is_success and each.share(begins_at, ends_at)]
    whole = [each for each in good if each.sent_at >= begins_at] or good
    durations_ms = sorted((each.answered_at - each.sent_at) * 1000 for each in whole)
    durations_ms = durations_ms or [float("nan")]
    return {
        "median_ms": statistics.median(durations_ms),
        "p99_ms": durations_ms[int(0.99 * len(durations_ms))],
        "longest_ms": durations_ms[-1],
        "rate": sum(each.share(begins_at, ends_at) for each in good) / (ends_at - begins_at),
    }


def measure(url: str, request: Request, clients: int, seconds: float) -> Outcome:
    """Return what a load of so many clients finds in so many seconds."""
    with Load(url, request, clients) as load:
        return load.measure(seconds)


def first_success_at(url: str, request: Request) -> float:
    """Return the monotonic time at which a server that starts has answered with success."""
    ends_at = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < ends_at:
        try:
            with Load(url, request) as load:
                answer = load.once()
        except ConnectionRefusedError:
            time.sleep(0.002)
        else:
            if answer.is_success:
                return answer.answered_at
    raise TimeoutError(f"no success from {url} for {_TIMEOUT_S} s")
