"""Slow, silent and vanishing peers: what they may take, and that others notice nothing."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.conftest import require
from tests.integration.test_access import KEYS, key_file
from tests.servers import PROJECTS, RunningServer, copy_project, eventually, kedro_flask_server

pytestmark = pytest.mark.once

LIMIT = 1_048_576


@contextmanager
def connected(server: RunningServer, *, buffer_bytes: int | None = None) -> Iterator[socket.socket]:
    """Return a connection; with a small buffer, a client that does not read holds nothing up."""
    address = urlsplit(server.url)
    with socket.socket() as connection:
        if buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.settimeout(30)
        connection.connect((address.hostname, address.port))
        yield connection


def head(method: str, path: str, *lines: str, host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def posting(size: int, *lines: str) -> bytes:
    kind = "Content-Type: application/json"
    return head("POST", "/run", kind, f"Content-Length: {size}", *lines)


def read_head(connection: socket.socket) -> bytes:
    """Return the beginning of an answer, up to its body."""
    found = b""
    while b"\r\n\r\n" not in found and (data := connection.recv(65_536)):
        found += data
    return found


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# What is refused is told to those who send all of it first.


def ask_with_http_client(url: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("POST", "/run", body, headers)
    with connection.getresponse() as response:
        assert json.load(response)["detail"]
        return response.status


def ask_with_urllib(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(f"{url}/run", body, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as answer:
        assert json.load(answer)["detail"]
        return answer.status


def ask_with_httpx(url: str, body: bytes, headers: dict[str, str]) -> int:
    response = httpx.post(f"{url}/run", content=body, headers=headers, timeout=60)
    assert response.json()["detail"]
    return response.status_code


def ask_with_curl(url: str, body: bytes, headers: dict[str, str]) -> int:
    command = [require("curl"), "-sS", "-w", "\n%{http_code}", "--data-binary", "@-", f"{url}/run"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    result = subprocess.run(command, input=body, capture_output=True, check=True, timeout=60)
    answer, _, status = result.stdout.rpartition(b"\n")
    assert json.loads(answer)["detail"]
    return int(status)


@pytest.mark.parametrize(
    "ask", [ask_with_http_client, ask_with_urllib, ask_with_httpx, ask_with_curl]
)
def test_refusals_are_read_by_clients_that_send_all_first(
    ours: RunningServer, ask: Callable[[str, bytes, dict[str, str]], int]
) -> None:
    kind = {"Content-Type": "application/json"}
    for size in (LIMIT + 1, 30 * LIMIT):
        assert ask(ours.url, b"x" * size, kind) == 413
    assert ask(ours.url, b"x" * 5 * LIMIT, {**kind, "X-Large": "x" * 100_000}) == 431
    assert ask(ours.url, b"x" * 900_000, {**kind, "Host": "elsewhere.example.com"}) == 403
    assert ask(ours.url, b"x" * 2 * LIMIT, {**kind, "Expect": "100-continue"}) == 413


# Who sends a request is looked at before its body is.


@pytest.fixture(scope="module")
def guarded(probe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that knows some keys."""
    keys = key_file(tmp_path_factory.mktemp("keys"), "reader", "runner")
    with kedro_flask_server(probe, KEDRO_SERVER_API_KEYS_FILE=str(keys)) as server:
        yield server


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], b"401"),
        (["Expect: 100-continue"], b"401"),
        ([f"Authorization: Bearer {KEYS['reader']}"], b"403"),
        ([f"Authorization: Bearer {KEYS['runner']}", "Origin: http://example.com"], b"403"),
        ([f"Authorization: Bearer {KEYS['runner']}", "Expect: 100-continue"], b"100"),
    ],
)
@pytest.mark.parametrize("size", [LIMIT, 100])
def test_caller_is_looked_at_before_the_body_comes(
    guarded: RunningServer, size: int, lines: list[str], status: bytes
) -> None:
    with connected(guarded) as connection:
        connection.sendall(posting(size, *lines))
        began = time.monotonic()
        assert read_head(connection).split()[1] == status
        assert time.monotonic() - began < 5  # receive_timeout_s is 10


def test_caller_who_is_let_in_is_asked_for_the_body(guarded: RunningServer) -> None:
    body = json.dumps({"pipeline_names": ["one"], "params": {"tag": "x" * 100_000}}).encode()
    key = f"Authorization: Bearer {KEYS['runner']}"
    with connected(guarded) as connection:
        connection.sendall(posting(len(body), key, "Expect: 100-continue", "Connection: close"))
        assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    answer = guarded.client.post(
        "/run",
        content=body,
        headers={"Content-Type": "application/json", "Authorization": key[15:]},
    )
    assert answer.json()["status"] == "success"


def test_bodies_share_memory_and_leave_none_behind(probe: Path, tmp_path: Path) -> None:
    """Bodies of those who are let in wait for room, and are refused after a time."""
    settings = {
        "KEDRO_SERVER_MAX_BUFFERED_BYTES": str(8 * LIMIT),
        "KEDRO_SERVER_RECEIVE_TIMEOUT_S": "3",
        "TMPDIR": str(tmp_path / "missing"),
    }
    with ExitStack() as stack, kedro_flask_server(probe, **settings) as server:
        server.run(pipeline_names=["one"])
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        peers = [stack.enter_context(connected(server)) for _ in range(200)]
        for peer in peers:
            peer.setblocking(False)
            peer.sendall(posting(500_000))
        most = before
        sent = dict.fromkeys(peers, 0)
        ends_at = time.monotonic() + 2.5
        while time.monotonic() < ends_at:
            for peer in peers:
                with suppress(OSError):
                    # Never the whole: what is held is held until it is cut off.
                    sent[peer] += peer.send(b" " * min(20_000, 499_999 - sent[peer]))
            most = max(most, process.memory_info().rss)
        assert server.client.get("/health/ready").status_code == 200
        server.run(pipeline_names=["one"])  # a small body needs no room
        most = max(most, process.memory_info().rss)
        for peer in peers:
            peer.settimeout(20)
        answers = [_status_or_nothing(peer) for peer in peers]
        assert set(answers) == {b"", b"503"}
        large = {"pipeline_names": ["one"], "params": {"tag": "x" * 900_000}}
        assert server.run(**large)["status"] == "success"
        after = process.memory_info().rss
    assert most - before < 60 * LIMIT
    assert after - before < 20 * LIMIT


def _status_or_nothing(peer: socket.socket) -> bytes:
    try:
        return (read_head(peer).split() or [b"", b""])[1]
    except OSError:
        return b""


# Who does not read holds neither threads nor places.


VIEWS = """
from flask import Blueprint, Response
bp = Blueprint("api", __name__)

@bp.get("/flood")
def flood():
    def pieces():
        while True:
            yield b"x" * 65_536
    return Response(pieces(), mimetype="text/plain")

@bp.get("/large")
def large():
    return Response(b"x" * 30_000_000, mimetype="text/plain")
"""


@pytest.fixture(scope="module")
def small(session_folder: Path) -> Iterator[RunningServer]:
    """Return a server that has few threads and little patience."""
    project = copy_project(PROJECTS / "probe", session_folder / "small")
    (project / "src/probe/api.py").write_text(VIEWS)
    settings = {
        "KEDRO_SERVER_WORKERS": "1",
        "KEDRO_SERVER_MAX_WAITING": "1",
        "KEDRO_SERVER_MAX_STREAMS": "2",
        "KEDRO_SERVER_SEND_TIMEOUT_S": "3",
        "PROBE_BLUEPRINTS": "probe.api:bp",
    }
    with kedro_flask_server(project, **settings) as server:
        server.run(pipeline_names=["one"])  # it is ready
        yield server


@pytest.mark.parametrize("path", ["/large", "/flood"])
def test_clients_that_do_not_read_keep_nobody_out_and_are_cut_off(
    small: RunningServer, path: str
) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(small, buffer_bytes=4096)) for _ in range(30)]
        for peer in peers:
            peer.sendall(head("GET", path) * 20)
        for _ in range(3):
            assert httpx.get(f"{small.url}/health/ready", timeout=30).status_code == 200
            assert small.run(pipeline_names=["one"])["status"] == "success"
            assert httpx.get(f"{small.url}/runs", timeout=30).status_code == 200
        eventually(lambda: _connections(small) < 5)
    assert _status_of(small, "/large") == b"200"


def _connections(server: RunningServer) -> int:
    """Return how many clients a server is connected to."""
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return len([each for each in found if each.raddr])


def _status_of(server: RunningServer, path: str) -> bytes:
    with connected(server) as connection:
        connection.sendall(head("GET", path, "Connection: close"))
        return read_all(connection).split()[1]


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_client_that_is_gone_gives_its_place_back(
    small: RunningServer, leave: Callable[[socket.socket], None]
) -> None:
    run_id = small.submit(pipeline_names=["sleep"], params={"seconds": 60})
    body = json.dumps({"pipeline_names": ["sleep"], "params": {"seconds": 60}}).encode()
    waiting = head("GET", f"/runs/{run_id}", "Prefer: wait=60")
    following = head("GET", f"/runs/{run_id}/events", "Accept: text/event-stream")
    try:
        for request, places, status in (
            (waiting, 2, None),
            (following, 2, b"503"),
            (posting(len(body)) + body, 2, b"503"),
        ):
            with ExitStack() as stack:
                peers = [stack.enter_context(connected(small)) for _ in range(places)]
                for peer in peers:
                    peer.sendall(request)
                eventually(lambda r=request, s=status: _is_full(small, r, s))
                for peer in peers:
                    leave(peer)
                began = time.monotonic()
                eventually(lambda r=request, s=status: not _is_full(small, r, s))
                assert time.monotonic() - began < 5  # a second, and what a busy machine takes
    finally:
        for run in small.all_runs():
            if run["status"] in {"queued", "running"}:
                small.client.post(f"/runs/{run['run_id']}/cancel")


def _is_full(server: RunningServer, request: bytes, status: bytes | None) -> bool:
    """Whether a request finds no place: it is refused, or answered at once instead of waiting."""
    with connected(server) as connection:
        connection.settimeout(1)
        connection.sendall(request)
        try:
            answer = read_head(connection)
        except TimeoutError:
            return False
        return status is None or answer.split()[1] == status


def test_watchers_take_no_places_of_those_who_send_runs(small: RunningServer) -> None:
    run_id = small.submit(pipeline_names=["sleep"], params={"seconds": 8})
    waiting = head("GET", f"/runs/{run_id}", "Prefer: wait=60")
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(small)).sendall(waiting)
        eventually(lambda: _is_full(small, waiting, None))
        assert small.run(pipeline_names=["one"])["status"] == "success"


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_client_that_has_closed_its_side_alone_is_waited_for(
    small: RunningServer, version: str
) -> None:
    body = json.dumps({"pipeline_names": ["sleep"], "params": {"seconds": 2}}).encode()
    whole = (posting(len(body)) + body).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)
    with connected(small) as connection:
        connection.sendall(whole)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert answer.startswith(f"HTTP/{version} 200 ".encode())
    assert b'"success"' in answer
    run_id = small.submit(pipeline_names=["sleep"], params={"seconds": 2})
    with connected(small) as connection:
        connection.sendall(head("GET", f"/runs/{run_id}/events", "Accept: text/event-stream"))
        connection.shutdown(socket.SHUT_WR)
        assert b"run.finished" in read_all(connection)
