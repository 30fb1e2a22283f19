"""The client in Python, against real servers, and against what stands between the two."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from kedro_flask_server.client import (
    Client,
    ClientError,
    Progress,
    RequestRefusedError,
    RunFailedError,
    RunRequest,
    RunStatus,
    ServerUnreachableError,
)
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    free_port,
    start_command,
)

pytestmark = pytest.mark.once


@pytest.fixture
def client(ours: RunningServer) -> Iterator[Client]:
    with Client(ours.url) as client:
        yield client


def slow(seconds: float, **more: Any) -> RunRequest:
    return RunRequest(pipeline_names=["slow"], params={"seconds": seconds}, **more)


def test_run_waits_and_returns_the_run(client: Client) -> None:
    request = RunRequest(pipeline_names=["wide"], params={"tag": float("nan"), "é": [1, None]})
    run = client.run(request)
    assert (run.status, run.progress) == (RunStatus.SUCCESS, Progress(done=2, total=2))
    assert run.request.params == {"tag": "NaN", "é": [1, None]}
    assert datetime.now(timezone.utc) - run.created_at < timedelta(minutes=1)
    assert run == client.get(run.run_id)


def test_run_raises_where_the_run_fails_and_wait_returns_it(client: Client) -> None:
    request = RunRequest(pipeline_names=["fail"], params={"what": "it"})
    with pytest.raises(RunFailedError, match="ValueError: failed: it") as caught:
        client.run(request)
    failed = caught.value.run
    assert failed.error is not None
    assert (failed.status, failed.error.node) == (RunStatus.FAILURE, "fail")
    assert client.wait(failed.run_id) == failed


def test_mapping_is_taken_for_a_request_and_what_is_none_refused(client: Client) -> None:
    run = client.run({"pipeline_names": ["one"], "params": {"tag": "x"}})
    assert run.request == RunRequest(pipeline_names=["one"], params={"tag": "x"})
    for wrong in ({"pipelines": ["one"]}, ["one"], "one"):
        with pytest.raises(TypeError, match="RunRequest"):
            client.submit(wrong)  # type: ignore[arg-type]


def test_client_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules['httpx'] = None; import kedro_flask_server.client"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "httpx" in last
    assert "pip install 'kedro-flask-server[client]'" in last


def test_what_is_not_waited_for_goes_on(client: Client) -> None:
    run = client.submit(slow(0.2))
    assert run.status in (RunStatus.QUEUED, RunStatus.RUNNING)
    with pytest.raises(TimeoutError):
        client.wait(run.run_id, timeout_s=0.1)
    assert client.wait(run.run_id, timeout_s=30).status is RunStatus.SUCCESS


def test_follow_tells_all_events_and_log_all_lines(client: Client) -> None:
    run = client.submit(slow(0.05))
    told = list(client.follow(run.run_id))
    assert [event.id for event in told] == list(range(1, len(told) + 1))
    assert told == list(client.events(run.run_id)) == list(client.follow(run.run_id))
    assert told[-1].data["status"] == "success"
    records = list(client.follow(run.run_id, only_logs=True))
    assert records == [event for event in told if event.type == "log"]
    assert client.log(run.run_id).count("\n") >= len(records)
    assert list(client.follow(run.run_id, after=told[-3].id)) == told[-2:]


def test_list_goes_through_all_pages(ours: RunningServer, client: Client) -> None:
    with ThreadPoolExecutor(4) as clients:
        run_ids = set(clients.map(lambda _: ours.submit(pipeline_names=["one"]), range(104)))
    since = datetime.strptime(min(run_ids), "%Y-%m-%dT%H.%M.%S.%fZ").replace(tzinfo=timezone.utc)
    found = [run.run_id for run in client.list(since=since, pipeline="one")]
    assert set(found) == run_ids
    assert found == sorted(found, reverse=True)
    assert len(list(islice(client.list(status=[RunStatus.SUCCESS, RunStatus.RUNNING]), 3))) == 3
    [newest] = islice(client.list(status=RunStatus.SUCCESS), 1)
    assert newest.status is RunStatus.SUCCESS
    assert newest.request == RunRequest(pipeline_names=newest.request.pipeline_names)
    [whole] = islice(client.list(status=RunStatus.SUCCESS, include=["request", "traceback"]), 1)
    assert whole == client.get(whole.run_id)
    assert list(client.list(until=since - timedelta(days=1))) == []
    eventually(lambda: not list(client.list(status=[RunStatus.QUEUED, RunStatus.RUNNING])))


def test_cancel_stops_a_run_and_is_refused_where_it_has_ended(client: Client) -> None:
    run = client.submit(slow(0.2))
    assert client.cancel(run.run_id).cancel_requested_at is not None
    assert client.wait(run.run_id).status is RunStatus.CANCELLED
    ended = client.run(RunRequest(pipeline_names=["one"]))
    with pytest.raises(RequestRefusedError) as caught:
        client.cancel(ended.run_id)
    assert caught.value.status == 409


@pytest.mark.parametrize("run_id", ["2020-01-01T00.00.00.000Z", "../health", "a/b?c#d", ""])
def test_unknown_run_is_refused(client: Client, run_id: str) -> None:
    for ask in (client.get, client.cancel, client.log, lambda run: list(client.follow(run))):
        if run_id or ask is not client.get:  # /runs/ is the list
            with pytest.raises((RequestRefusedError, ClientError)):
                ask(run_id)


def test_request_that_is_wrong_is_refused_with_the_place(client: Client) -> None:
    with pytest.raises(RequestRefusedError, match=r"body\.tags\.0: .*string") as caught:
        client.submit(RunRequest(tags=[1]))  # type: ignore[list-item]
    assert caught.value.status == 422


def test_key_makes_two_requests_one_run(client: Client) -> None:
    one, key = RunRequest(pipeline_names=["one"]), "key-of-the-client"
    first = client.submit(one, idempotency_key=key)
    assert client.submit(one, idempotency_key=key).run_id == first.run_id
    assert client.submit(one).run_id != first.run_id
    with pytest.raises(RequestRefusedError) as caught:
        client.submit(RunRequest(), idempotency_key=key)
    assert caught.value.status == 422


def test_follow_and_wait_outlive_a_server_that_is_started_again(tmp_path: Path) -> None:
    project, port = copy_project(PROJECTS / "probe", tmp_path), free_port()

    def server() -> RunningServer:
        command = start_command("--port", str(port), "--workers", "1")
        return RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}")

    with ThreadPoolExecutor(2) as threads, Client(f"http://127.0.0.1:{port}") as client:
        with server() as first:
            lost, queued = client.submit(slow(0.3)), client.submit(slow(0.01))
            waiting = threads.submit(client.wait, queued.run_id)
            following = threads.submit(lambda: list(client.follow(lost.run_id)))
            eventually(lambda: (client.get(lost.run_id).progress or Progress(done=0, total=0)).done)
            first.stop(signal.SIGKILL)
        with server():
            told = following.result(60)
            assert told == list(client.events(lost.run_id))
            assert told[-1].data["status"] == "lost"
            assert waiting.result(60).status is RunStatus.SUCCESS


class Between(BaseHTTPRequestHandler):
    """Stands between a client and a server, and does to the first answers what a test says."""

    protocol_version = "HTTP/1.1"
    target = ""
    mishaps: list[str]
    seen: list[dict[str, str]]

    def do_POST(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap.startswith("5"):
            self._answer(int(mishap), b"<html>away</html>", {})
            return
        response = httpx.request(
            self.command, self.target + self.path, content=body, headers=dict(self.headers)
        )
        if mishap == "drop":
            self.close_connection = True
            return
        self._answer(response.status_code, response.content, dict(response.headers))

    def do_GET(self) -> None:
        self.do_POST()

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", headers.get("content-type", "text/html"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def between(target: str, *mishaps: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    seen: list[dict[str, str]] = []
    handler = type("Handler", (Between,), {"target": target, "mishaps": [*mishaps], "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", seen
        finally:
            proxy.shutdown()
            thread.join()


def test_run_that_is_sent_again_runs_once(ours: RunningServer) -> None:
    with between(ours.url, "503", "drop", "502", "drop") as (url, seen), Client(url) as client:
        began = datetime.now(timezone.utc)
        run = client.submit(RunRequest(pipeline_names=["one"], tags=[]))
        assert client.wait(run.run_id).status is RunStatus.SUCCESS
        posts = [each for each in seen if "idempotency-key" in each]
        assert len(posts) == 5
        assert len({each["idempotency-key"] for each in posts}) == 1
        since = [each.run_id for each in client.list(since=began, pipeline="one")]
        assert since == [run.run_id]


def test_first_request_may_be_the_one_that_breaks(ours: RunningServer) -> None:
    run_id = ours.submit(pipeline_names=["one"])
    with between(ours.url, "drop", "503") as (url, seen), Client(url) as client:
        assert client.wait(run_id).status is RunStatus.SUCCESS
        assert len(seen) >= 3


def test_key_is_sent_with_every_request_and_comes_from_the_environment_too(
    ours: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with between(ours.url) as (url, seen):
        with Client(url, api_key="given") as client:
            run = client.run(RunRequest(pipeline_names=["one"]))
        monkeypatch.setenv("KEDRO_SERVER_API_KEY", "of the environment")
        monkeypatch.setenv("KEDRO_SERVER_URL", url)
        with Client() as client:
            list(client.follow(run.run_id))
    keys = [each["authorization"] for each in seen]
    assert set(keys[:-1]) >= {"Bearer given"}
    assert keys[-1] == "Bearer of the environment"


def test_server_that_never_answers_is_given_up_at_once_and_a_busy_one_in_time(
    ours: RunningServer,
) -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client:
        for ask in (client.submit, lambda: list(client.follow("a-run"))):
            with pytest.raises(ServerUnreachableError, match="refused"):
                ask()
    with between(ours.url, *["503"] * 99) as (url, seen), Client(url, retry_s=1) as client:
        with pytest.raises(ServerUnreachableError, match="503"):
            client.get("a-run")
        assert 2 <= len(seen) <= 6


@pytest.mark.parametrize("key", ["ü", "a\nb"])
def test_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="KEDRO_SERVER_API_KEY"):
        Client(api_key=key)


@pytest.mark.parametrize(
    "url", ["", "nope", "ftp://host", "127.0.0.1:8000", "http://", "http://[::1", "http://a:x"]
)
def test_address_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_SERVER_URL", url or "file:///x")
    with pytest.raises(ValueError, match="KEDRO_SERVER_URL"):
        Client()


def test_another_program_at_the_address_is_no_server(tmp_path: Path) -> None:
    same_page = json.dumps({"runs": [], "next": "x"}).encode()
    answers = {
        "/runs/x": b"[]",
        "/runs/y": json.dumps({"run_id": 1}).encode(),
        "/runs/z/cancel": json.dumps({"detail": ["odd"]}).encode(),
        "/runs?limit=100": same_page,
        "/runs?limit=100&cursor=x": same_page,
    }

    class Other(Between):
        def do_GET(self) -> None:
            self._answer(200, answers.get(self.path, b"hello"), {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(422 if "cancel" in self.path else 200, answers.get(self.path, b"{}"), {})

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{other.server_port}") as client:
            assert list(client.list()) == []
            for ask in (
                client.submit,
                lambda: client.cancel("z"),
                lambda: client.get("x"),
                lambda: client.get("y"),
                lambda: list(client.follow("x")),
                lambda: list(client.events("x")),
            ):
                with pytest.raises(ClientError):
                    ask()
        other.shutdown()
        thread.join()
