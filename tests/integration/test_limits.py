"""How many may wait, and who is always answered."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

from kedro_flask_server.open_files import allow_descriptors
from tests.servers import RunningServer, kedro_flask_server

WORKERS, WAITING = 2, 6


def send_sleeping_run(server: RunningServer, seconds: float) -> httpx.Response:
    body = {"pipeline_names": ["sleep"], "params": {"seconds": seconds}}
    return httpx.post(f"{server.url}/run", json=body, timeout=120)


@pytest.mark.once
def test_full_server_refuses_runs_and_answers_health(probe: Path) -> None:
    with (
        kedro_flask_server(
            probe, "--workers", str(WORKERS), KEDRO_SERVER_MAX_WAITING=str(WAITING)
        ) as server,
        ThreadPoolExecutor(30) as clients,
    ):
        runs = [clients.submit(send_sleeping_run, server, 2) for _ in range(20)]
        time.sleep(1)  # the time that 20 requests need to arrive; the runs take 2 s each

        durations = []
        for _ in range(50):
            started_at = time.perf_counter()
            assert httpx.get(f"{server.url}/health").status_code == 200
            durations.append(time.perf_counter() - started_at)
        assert server.client.get("/snapshot").json()["status"] == "success"
        responses = [run.result() for run in runs]

    assert max(durations) < 1  # they have a thread, and do not wait for runs, which take 2 s
    refused = [each for each in responses if each.status_code == 503]
    assert len(refused) == 20 - WORKERS - WAITING
    assert all(int(each.headers["Retry-After"]) > 0 and each.json()["detail"] for each in refused)
    served = [each.json()["status"] for each in responses if each.status_code == 200]
    assert served == ["success"] * (WORKERS + WAITING)


@pytest.mark.once
def test_two_hundred_runs_at_once_are_each_served_or_refused(probe: Path) -> None:
    with kedro_flask_server(probe) as server, ThreadPoolExecutor(200) as clients:
        responses = list(clients.map(lambda _: send_sleeping_run(server, 0.01), range(200)))
        assert {each.status_code for each in responses} <= {200, 503}
        assert server.client.get("/health").status_code == 200
        assert server.run(pipeline_names=["twenty"])["status"] == "success"


def exchange(url: str, *parts: bytes, timeout_s: float = 20) -> bytes:
    """Send bytes, and return what comes back until the server closes."""
    address = urlsplit(url)
    found = b""
    with socket.create_connection((address.hostname, address.port), timeout_s) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65_536):
                found += data
        except ConnectionError:
            pass
    return found


HEAD = (
    b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\n"
)
LIMIT = 1_048_576


def padded(size: int) -> bytes:
    """Return a request body of a size."""
    body = b'{"pipeline_names": ["one"], "params": {"tag": "%s"}}'
    return body % (b"x" * (size - len(body) + 2))


def chunked(body: bytes, size: int) -> bytes:
    """Return a body in chunks (RFC 9112, section 7.1)."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


@pytest.mark.once
def test_kedro_s_own_server_takes_what_is_too_much(kedros: RunningServer) -> None:
    size = 50 * LIMIT
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % size + padded(size)
    assert exchange(kedros.url, whole, timeout_s=60).startswith(b"HTTP/1.1 200")
    deep: object = "x"
    for _ in range(200):
        deep = [deep]
    answer = kedros.client.post("/run", json={"pipeline_names": ["one"], "params": {"deep": deep}})
    assert answer.status_code == 200


@pytest.mark.once
@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_body_is_limited_to_the_byte(ours: RunningServer, size: int) -> None:
    status = b"HTTP/1.1 200" if size == LIMIT else b"HTTP/1.1 413"
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % size + padded(size)
    assert exchange(ours.url, whole).startswith(status)
    for chunk in (100, 65_536):
        pieces = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(padded(size), chunk)
        answer = exchange(ours.url, pieces)
        assert answer.startswith(status)
        if size > LIMIT:
            assert b'{"detail": ' in answer


@pytest.mark.once
def test_body_that_is_too_large_is_refused_before_it_is_sent(ours: RunningServer) -> None:
    promised = HEAD + b"Content-Length: 1000000000000\r\n\r\n{"
    assert exchange(ours.url, promised).startswith(b"HTTP/1.1 413")
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
    assert exchange(ours.url, expecting).startswith(b"HTTP/1.1 413")


@pytest.mark.once
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 65_536 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\n" + b"X: x\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (HEAD + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1, 2\r\n\r\n{}", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 5_000 + b"\r\nx", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /runs?limit=" + b"9" * 5_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 422),
    ],
)
def test_what_is_too_much_or_malformed_is_refused_in_json(
    ours: RunningServer, request_: bytes, status: int
) -> None:
    request_ = request_.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    answer = exchange(ours.url, request_)
    assert answer.startswith(b"HTTP/1.1 %d" % status) or answer.startswith(b"HTTP/1.0 %d" % status)
    body = answer.partition(b"\r\n\r\n")[2]
    assert "detail" in json.loads(body)


@pytest.mark.once
def test_clients_that_trickle_are_cut_off_and_keep_nobody_out(
    probe: Path, kedros: RunningServer
) -> None:
    other = urlsplit(kedros.url)
    at_kedros = socket.create_connection((other.hostname, other.port))
    at_kedros.sendall(HEAD)
    with kedro_flask_server(probe, KEDRO_SERVER_RECEIVE_TIMEOUT_S="2") as server:
        address = urlsplit(server.url)
        trickling = [socket.create_connection((address.hostname, address.port)) for _ in range(500)]
        beginnings = (HEAD, b"", HEAD + b"Content-Length: 100\r\n\r\n{", b"\r\n\r\n", b"GET /")
        for number, connection in enumerate(trickling):
            connection.sendall(beginnings[number % len(beginnings)])
        ends_at = time.monotonic() + 10
        alive = trickling
        while alive and time.monotonic() < ends_at:
            began = time.monotonic()
            assert server.client.get("/health").status_code == 200
            assert time.monotonic() - began < 1
            time.sleep(0.5)
            alive = [each for each in alive if _trickle(each)]
            assert _trickle(at_kedros)
        assert not alive
        at_kedros.close()
        for connection in trickling:
            connection.close()
        # A connection that is kept open for the next request is none of these.
        with httpx.Client(base_url=server.url) as client:
            first = client.get("/health").extensions["network_stream"]
            time.sleep(4)
            assert client.get("/health").extensions["network_stream"] is first


def _trickle(connection: socket.socket) -> bool:
    """Send one more byte, and return whether the other side still is there."""
    try:
        connection.sendall(b"x")
        connection.settimeout(0.001)
        return bool(connection.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


@pytest.mark.once
def test_one_and_a_half_thousand_idle_connections_keep_nobody_out(probe: Path) -> None:
    allow_descriptors(4_096)
    with kedro_flask_server(probe) as server:
        address = urlsplit(server.url)
        idle = [socket.create_connection((address.hostname, address.port)) for _ in range(1_500)]
        for _ in range(20):
            with httpx.Client(base_url=server.url, timeout=2) as client:
                assert client.get("/health").status_code == 200
        assert server.run(pipeline_names=["one"])["status"] == "success"
        for connection in idle:
            connection.close()


def test_waitress_is_as_the_limits_need_it() -> None:
    """What `serving` builds upon is no public part of waitress: this notices a change."""
    connection, other = socket.socketpair()
    with connection, other:
        server = SimpleNamespace(active_channels={}, add_task=lambda task: None)
        adj = Adjustments(channel_request_lookahead=0)
        channel = HTTPChannel(server, connection, ("", 0), adj, map={})
        assert channel.requests == []
        assert channel.request is None
        assert channel.readable()
        channel.received(b"GET / HTTP/1.1\r\n")
        assert isinstance(channel.request, HTTPRequestParser)
        channel.received(b"Content-Length: 2\r\n\r\n{}")
        assert channel.request is None
        assert len(channel.requests) == 1
        assert not channel.readable()
        channel.will_close = True
        assert channel.writable()
        channel.handle_write()
        assert not channel.connected
    parser = HTTPRequestParser(adj)
    parser.received(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.received(b"2\r\n{}\r\n")
    assert parser.chunked
    assert len(parser.body_rcv) == 2
