"""What waits for nothing is answered where it is received, and all else as ever."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers import PROJECTS, RunningServer, copy_project
from tests.test_app import python

HAS_OWN_CODE = """
from kedro_flask_server import create_http_server
from kedro_flask_server.serving.server import _has_own_code_alone
app = create_http_server("probe", executor="threads")
{change}
print(_has_own_code_alone(app))
"""


def answers_to(server: RunningServer, *paths: str) -> list[bytes]:
    """Send requests in one piece, and return the status of each answer."""
    address = urlsplit(server.url)
    lines = [f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n" for path in paths]
    lines[-1] += "Connection: close\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    return re.findall(rb"HTTP/1\.1 (\d{3})", received)


@pytest.mark.parametrize(
    "paths",
    [
        ("/health", "/runs/no", "/health", "/health/live"),
        ("/runs/no", "/health", "/runs/no"),
        ("/health", "/health", "/health"),
    ],
)
def test_requests_of_a_connection_are_answered_in_their_order(
    ours: RunningServer, paths: tuple[str, ...]
) -> None:
    expected = [b"404" if "no" in path else b"200" for path in paths]
    assert answers_to(ours, *paths) == expected


@pytest.mark.parametrize(
    ("change", "is_own"),
    [
        ("", "True"),
        ("app.before_request(lambda: None)", "False"),
        ("app.after_request(lambda response: response)", "False"),
        ("app.teardown_request(lambda error: None)", "False"),
        ("app.teardown_appcontext(lambda error: None)", "False"),
        ("app.wsgi_app = type('Middleware', (), {})()", "False"),
    ],
)
@pytest.mark.once
def test_project_s_own_code_is_never_called_where_requests_are_received(
    tmp_path: Path, change: str, is_own: str
) -> None:
    copy_project(PROJECTS / "probe", tmp_path)
    assert python(HAS_OWN_CODE.format(change=change), tmp_path) == is_own
