"""Whatever a project's code does is the failure of one run, and the server goes on."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.servers import RunningServer, kedro_flask_server


@pytest.mark.parametrize(
    ("what", "error_type"),
    [
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator_exit", "GeneratorExit"),
        ("unprintable", "RuntimeError"),
        ("surrogate", "ValueError"),
        ("markup", "ValueError"),
        ("recursion", "RecursionError"),
        ("anything", "ValueError"),
    ],
)
@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner"])
def test_what_a_node_raises_is_a_failure(
    ours: RunningServer, what: str, error_type: str, runner: str
) -> None:
    answer = ours.run(pipeline_names=["fail"], params={"what": what}, runner=runner)
    assert answer["status"] == "failure"
    assert answer["error"]["type"] == error_type  # type: ignore[index]


@pytest.mark.once
def test_huge_message_neither_slows_the_server_nor_fills_answer_and_log(probe: Path) -> None:
    with kedro_flask_server(probe) as server:
        started_at = time.monotonic()
        answer = server.run(pipeline_names=["fail"], params={"what": "long"})
        assert time.monotonic() - started_at < 10
        assert len(answer["error"]["message"]) < 10_000  # type: ignore[index]
        assert "2,000,000 characters" in answer["error"]["message"]  # type: ignore[index]
        server.wait_for_line(f"Run {answer['run_id']} failed")
        assert len(server.log) < 200_000


@pytest.mark.once
def test_lone_surrogate_does_not_break_the_log(probe: Path) -> None:
    with kedro_flask_server(probe) as server:
        failed = server.run(pipeline_names=["fail"], params={"what": "surrogate"})
        assert "\\ud800" in failed["error"]["message"]  # type: ignore[index]
        after = server.run(pipeline_names=["twenty"])
        server.wait_for_line(f"Run {after['run_id']} succeeded")
        assert "Logging error" not in server.log


def test_credentials_of_urls_are_in_no_answer_and_no_log(probe: Path) -> None:
    with kedro_flask_server(probe) as server:
        answer = server.run(pipeline_names=["fail"], params={"what": "url"})
        assert "https://<redacted>@example.invalid/x" in answer["error"]["message"]  # type: ignore[index]
        server.run(pipeline_names=["secret"])
        snapshot = server.client.get("/snapshot").text
        server.stop()
    assert "canary" not in snapshot
    assert "canary" not in server.log


@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])
def test_what_a_node_logs_is_safe_whatever_runs_it(probe: Path, runner: str) -> None:
    with kedro_flask_server(probe) as server:
        answer = server.run(pipeline_names=["log"], runner=runner)
        assert answer["status"] == "success"
        server.wait_for_line("lone \\ud800")
        server.stop()
    assert "canary" not in server.log
    assert "Logging error" not in server.log
    assert len(server.log) < 300_000


def test_broken_registry_is_told_and_tried_again(probe: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('not today')")
    with kedro_flask_server(probe, PROBE_BROKEN=str(broken)) as server:
        server.wait_for_line("pipelines cannot be loaded")
        assert server.client.get("/health").status_code == 200
        snapshot = server.client.get("/snapshot").json()
        assert snapshot == {
            "status": "failure",
            "error": {"type": "ImportError", "message": "not today"},
        }
        run = server.run(pipeline_names=["twenty"])
        assert run["error"] == {"type": "ImportError", "message": "not today"}
        broken.write_text("raise SystemExit(2)")
        assert server.run()["error"]["type"] == "SystemExit"  # type: ignore[index]
        broken.unlink()
        assert server.run(pipeline_names=["twenty"])["status"] == "success"
        assert server.client.get("/snapshot").json()["status"] == "success"


def test_forbidden_runner_module_is_never_imported(probe: Path, tmp_path: Path) -> None:
    with kedro_flask_server(probe, PROBE_IMPORTED=str(tmp_path)) as server:
        for module in ("permitted_runners", "formerly_permitted_runners", "forbidden_runners"):
            server.run(pipeline_names=["twenty"], runner=f"{module}.Runner")
    imported = {path.name for path in tmp_path.iterdir()}
    assert imported == {"permitted_runners", "formerly_permitted_runners"}


@pytest.mark.once
def test_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(probe: Path) -> None:
    with kedro_flask_server(probe, KEDRO_SERVER_MAX_BODY_BYTES="1000") as server:
        headers = {"Content-Type": "application/json"}

        def send(size: int, **options: object) -> httpx.Response:
            body = b'{"params": {"a": "' + b"x" * (size - 21) + b'"}}'
            assert len(body) == size
            content = (body[i : i + 7] for i in range(0, size, 7)) if options else body
            return httpx.post(f"{server.url}/run", content=content, headers=headers)

        for options in ({}, {"chunked": True}):
            assert send(1000, **options).status_code == 200
            for size in (1001, 1002, 5_000, 1_000_000):
                refused = send(size, **options)
                assert refused.status_code == 413
                assert refused.json()["detail"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nope\r\n\r\n",
        # Just the limit, so that waitress reads all of it before it closes the connection.
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: ".ljust(65_536, b"y"),
    ],
)
def test_what_waitress_refuses_is_refused_in_json(ours: RunningServer, garbage: bytes) -> None:
    import socket

    host, port = ours.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(garbage)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1][:1] in (b"4", b"5")
    assert b"application/json" in head
    assert body.startswith(b'{"detail"')
    assert ours.client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/runs"])
def test_client_that_closes_its_side_after_sending_is_answered(
    ours: RunningServer, path: str
) -> None:
    import socket

    host, port = ours.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) == b"HTTP/1.0 200"
