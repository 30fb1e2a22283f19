"""Events and logs of real runs, as pages and as streams, over a real socket."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    kedro_flask_server,
)

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module", params=EXECUTORS)
def ours(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Return a server that the tests of this module share, for each executor."""
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("events"))
    with kedro_flask_server(project, "--executor", request.param) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def events(server: RunningServer, run_id: str) -> list[dict[str, Any]]:
    """Return all events of a run, page by page."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        response = server.client.get(f"/runs/{run_id}/events", params={"after": after, "limit": 7})
        assert response.status_code == 200
        page = response.json()
        found += page["events"]
        after = page["next"]
    assert [event["id"] for event in found] == list(range(1, len(found) + 1))
    return found


def shown(found: list[dict[str, Any]]) -> list[str]:
    """Return what events but those of the log say: their type and what it is about."""
    return [
        " ".join([event["type"], event["data"].get("dataset") or event["data"].get("node", "")])
        for event in found
        if event["type"] != "log"
    ]


def stream(
    server: RunningServer, path: str, last: int | None = None, client: httpx.Client | None = None
) -> Iterator[dict[str, Any]]:
    """Return the events of one stream, each checked against its own JSON."""
    headers = STREAM | ({} if last is None else {"Last-Event-ID": str(last)})
    with (client or server.client).stream("GET", path, headers=headers) as response:
        assert response.status_code in (200, 204)
        told: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                told[name] = value
            elif "data" in told:
                event = json.loads(told["data"])
                assert (told["id"], told["event"]) == (str(event["id"]), event["type"])
                told = {}
                yield event


def test_events_tell_a_run_from_the_queue_to_its_end(ours: RunningServer) -> None:
    run_id = ours.run(pipeline_names=["wide"])["run_id"]
    found = events(ours, str(run_id))
    assert shown(found)[:2] == ["run.queued ", "run.started "]
    told = [shown(found)[2:7], shown(found)[7:12]]
    expected = [
        [
            f"node.started wide_{name}",
            "dataset.loaded params:tag",
            f"dataset.loaded params:{name}",
            f"dataset.saved wide_{name}",
            f"node.finished wide_{name}",
        ]
        for name in ("what", "where")
    ]
    assert sorted(told) == expected  # Kedro runs them in either order
    assert shown(found)[12:] == ["run.finished "]
    end = found[-1]["data"]
    assert (end["status"], end["error"], end["done"], end["total"]) == ("success", None, 2, 2)
    run = ours.show(str(run_id))
    assert run["progress"] == {"done": 2, "total": 2}
    assert end["duration_ms"] == run["duration_ms"]
    assert (found[0]["time"], found[-1]["time"]) == (run["created_at"], run["finished_at"])
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)


def test_failed_node_is_told_with_its_error_also_where_its_dataset_failed(
    ours: RunningServer,
) -> None:
    for pipeline, node, kind in (
        ("fail", "fail", "ValueError"),
        ("no_file", "read_no_file", "DatasetError"),
    ):
        run_id = str(ours.run(pipeline_names=[pipeline], params={"what": "it"})["run_id"])
        *_, failed, end = [event for event in events(ours, run_id) if event["type"] != "log"]
        assert (failed["type"], failed["data"]["node"]) == ("node.failed", node)
        assert failed["data"]["error"]["type"] == kind
        assert (failed["data"]["done"], failed["data"]["total"]) == (0, 1)
        assert (end["data"]["status"], end["data"]["error"]["node"]) == ("failure", node)


def of_parallel_nodes(server: RunningServer) -> tuple[list[str], object]:
    run_id = str(server.run(pipeline_names=["wide"], runner="ParallelRunner")["run_id"])
    return shown(events(server, run_id)), server.show(run_id)["progress"]


def test_parallel_runner_tells_of_its_nodes_where_it_forks(project: Path) -> None:
    with kedro_flask_server(project) as server:
        told, progress = of_parallel_nodes(server)
    assert progress == {"done": 2, "total": 2}
    for name in ("wide_where", "wide_what"):
        assert told.index(f"node.started {name}") < told.index(f"dataset.saved {name}")
        assert told.index(f"dataset.saved {name}") < told.index(f"node.finished {name}")


@pytest.mark.once
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_parallel_runner_tells_of_itself_where_it_does_not_fork(
    project: Path, executor: str
) -> None:
    options = ("--executor", executor)
    with kedro_flask_server(project, *options, KEDRO_MP_CONTEXT="forkserver") as server:
        told = of_parallel_nodes(server)
    assert told == (["run.queued ", "run.started ", "run.finished "], None)


@pytest.mark.parametrize("options", [{}, {"runner": "ThreadRunner"}, {"is_async": True}])
def test_each_of_many_runs_has_its_own_events_and_log(
    ours: RunningServer, options: dict[str, Any]
) -> None:
    def run(tag: str) -> tuple[str, str]:
        body = ours.run(pipeline_names=["talk"], params={"tag": tag}, **options)
        return tag, str(body["run_id"])

    expected = {"run.queued ", "run.started ", "run.finished "}
    for number in range(6):
        of_node = (
            "node.started talk",
            "node.finished talk",
            "dataset.saved talk",
            "dataset.loaded params:tag",
        )
        expected |= {f"{each}_{number}" if each[-1] == "k" else each for each in of_node}
    with ThreadPoolExecutor(8) as clients:
        for tag, run_id in clients.map(run, [f"tag{number:03}" for number in range(24)]):
            told = shown(events(ours, run_id))
            assert set(told) == expected
            assert len(told) == 3 + 6 * 4
            log = ours.client.get(f"/runs/{run_id}/logs").text
            assert log.count(f"talk of <{tag}>") == 6
            assert log.count("talk of") == 6
            assert log.count("Saving data to") == log.count("Loading data from") == 6
            assert log.count("Run ID: ") == 1
            assert f"Run ID: {run_id}" in log


def test_stream_tells_while_it_happens_and_ends_with_the_run(ours: RunningServer) -> None:
    run_id = ours.submit(pipeline_names=["slow"], params={"seconds": 0.3})
    seen = []
    for event in stream(ours, f"/runs/{run_id}/events"):
        seen.append(event)
        if event["type"] == "node.finished" and event["data"]["done"] == 3:
            progress = ours.show(run_id)["progress"]
            assert isinstance(progress, dict)
            # It is told of a node while the run is at one of the next.
            assert 3 <= progress["done"] <= 5
            assert progress["total"] == 10
    assert seen[-1]["type"] == "run.finished"
    assert seen == events(ours, run_id)


def test_stream_goes_on_from_any_event_without_a_gap_or_a_repeat(ours: RunningServer) -> None:
    run_id = str(ours.run(pipeline_names=["wide"])["run_id"])
    found = events(ours, run_id)
    for last in range(len(found)):
        assert list(stream(ours, f"/runs/{run_id}/events", last)) == found[last:]
    over = ours.client.get(
        f"/runs/{run_id}/events", headers=STREAM | {"Last-Event-ID": str(len(found))}
    )
    assert (over.status_code, over.content) == (204, b"")
    logs = [event for event in found if event["type"] == "log"]
    assert list(stream(ours, f"/runs/{run_id}/logs")) == logs
    assert list(stream(ours, f"/runs/{run_id}/logs?after={logs[2]['id']}")) == logs[3:]


@pytest.mark.once
def test_stream_of_a_run_that_waits_shows_its_start_and_its_cancelling(project: Path) -> None:
    with kedro_flask_server(project, "--workers", "1") as server:
        first = server.submit(pipeline_names=["slow"], params={"seconds": 0.1})
        second = server.submit(pipeline_names=["slow"], params={"seconds": 0.1})
        with ThreadPoolExecutor(2) as clients:
            both = [
                clients.submit(lambda run: list(stream(server, f"/runs/{run}/events")), run)
                for run in (first, second)
            ]
            eventually(lambda: server.show(second)["status"] == "running")
            server.client.post(f"/runs/{second}/cancel")
            ends = [each.result(30)[-1] for each in both]
    assert [end["data"]["status"] for end in ends] == ["success", "cancelled"]


def test_log_is_text_and_no_record_can_forge_another(ours: RunningServer) -> None:
    run_id = str(ours.run(pipeline_names=["forge"], params={"what": "it"})["run_id"])
    response = ours.client.get(f"/runs/{run_id}/logs")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Link" not in response.headers
    [forged] = [line for line in response.text.splitlines() if "forged" in line]
    assert forged == "    2020-01-01T00:00:00.000Z INFO     forged: it\\r\\x1b[2Jgone\\u2028more"
    assert "probe.nodes: real\n    2020" in response.text
    assert response.text.endswith("\n")


def test_log_of_a_run_that_goes_on_says_where_the_rest_will_be(ours: RunningServer) -> None:
    run_id = ours.submit(pipeline_names=["slow"], params={"seconds": 0.1})
    text, path = "", f"/runs/{run_id}/logs"
    while path:
        response = ours.client.get(path)
        text += response.text
        path = response.links.get("next", {}).get("url", "")
        assert ("Retry-After" in response.headers) == bool(path)
        time.sleep(0.1)
    assert text == ours.client.get(f"/runs/{run_id}/logs").text
    assert text.count("Completed node") == 10


@pytest.mark.once
def test_log_is_kept_up_to_its_limit_and_events_go_on(project: Path) -> None:
    with kedro_flask_server(project, KEDRO_SERVER_MAX_LOG_BYTES="20000") as server:
        params = {"loops": 500}
        run_id = str(server.run(pipeline_names=["chat"], params=params)["run_id"])
        lines = server.client.get(f"/runs/{run_id}/logs").text.splitlines()
        assert shown(events(server, run_id))[-2:] == ["node.finished chat", "run.finished "]
    assert "max_log_bytes" in lines[-1]
    assert 15_000 < sum(map(len, lines)) < 40_000
    numbers = [int(line.split(" line ")[1].split()[0]) for line in lines if " line " in line]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("events?after=-1", {}),
        ("events?after=x", {}),
        ("events?after=99999999999", {}),
        ("events?limit=0", {}),
        ("events?limit=1001", {}),
        ("events?nope=1", {}),
        ("logs?limit=1", {}),
        ("events", STREAM | {"Last-Event-ID": "x"}),
        ("logs", STREAM | {"Last-Event-ID": "1" * 5000}),
    ],
)
def test_what_is_no_event_id_or_limit_is_refused(
    ours: RunningServer, path: str, headers: dict[str, str]
) -> None:
    run_id = ours.submit(pipeline_names=["one"])
    response = ours.client.get(f"/runs/{run_id}/{path}", headers=headers)
    assert response.status_code == 422
    [problem] = response.json()["detail"]
    assert problem["loc"][0] == ("header" if headers else "query")


@pytest.mark.parametrize("headers", [{}, STREAM])
def test_unknown_run_has_no_events(ours: RunningServer, headers: dict[str, str]) -> None:
    for path in ("events", "logs"):
        for run_id in ("2020-01-01T00.00.00.000Z", "nope", "%00"):
            response = ours.client.get(f"/runs/{run_id}/{path}", headers=headers)
            assert response.status_code == 404
            assert "no run" in response.json()["detail"]


@pytest.mark.once
def test_streams_beyond_the_limit_are_refused_and_take_no_other_threads(project: Path) -> None:
    env = {"KEDRO_SERVER_MAX_STREAMS": "3", "KEDRO_SERVER_MAX_WAITING": "1"}
    with kedro_flask_server(project, "--workers", "1", **env) as server:
        run_id = server.submit(pipeline_names=["slow"], params={"seconds": 0.6})
        path = f"/runs/{run_id}/events"
        is_over = threading.Event()

        def follow() -> None:
            with server.client.stream("GET", path, headers=STREAM) as response:
                lines = response.iter_lines()  # once it is forgotten, httpx hangs up
                next(lines)
                followers.release()
                is_over.wait(30)

        followers = threading.Semaphore(0)
        with ThreadPoolExecutor(3) as clients:
            for _ in range(3):
                clients.submit(follow)
            for _ in range(3):
                assert followers.acquire(timeout=10)
            refused = server.client.get(path, headers=STREAM)
            assert refused.status_code == 503
            assert "max_streams" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) > 0
            began = time.monotonic()
            assert server.client.get("/health").status_code == 200
            assert server.client.get(path).status_code == 200
            assert server.client.get("/runs").status_code == 200
            assert time.monotonic() - began < 2
            is_over.set()
        # Who goes away leaves a place: it is found out while the stream is silent.
        eventually(lambda: is_streaming(server, path), timeout_s=3)
        assert server.show(run_id)["status"] == "running"
        server.client.post(f"/runs/{run_id}/cancel")


def is_streaming(server: RunningServer, path: str) -> bool:
    with server.client.stream("GET", path, headers=STREAM) as response:
        return response.status_code == 200


@pytest.mark.once
def test_events_are_complete_up_to_a_second_before_the_server_is_killed(project: Path) -> None:
    with kedro_flask_server(project, PROBE_MARKS=str(project)) as server:
        run_id = server.submit(pipeline_names=["slow"], params={"seconds": 0.2})
        eventually(lambda: (server.show(run_id)["progress"] or {}).get("done", 0) >= 6)
        killed_at = time.time()
        server.stop(signal.SIGKILL)
    with kedro_flask_server(project) as server:
        assert server.show(run_id)["status"] == "lost"
        found = events(server, run_id)
        assert list(stream(server, f"/runs/{run_id}/events")) == found
    assert shown(found)[-1] == "run.finished "
    assert found[-1]["data"]["status"] == "lost"
    done = [event for event in found if event["type"] == "node.finished"]
    assert len(done) >= 6
    last = time.mktime(time.strptime(found[-2]["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert killed_at - last < 2.5  # a second, and those that were cut off the times


@pytest.mark.once
def test_stopping_server_ends_its_streams_and_the_next_one_goes_on(project: Path) -> None:
    with kedro_flask_server(project, KEDRO_SERVER_DRAIN_TIMEOUT_S="1") as server:
        run_id = server.submit(pipeline_names=["slow"], params={"seconds": 0.5})
        eventually(lambda: server.show(run_id)["status"] == "running")
        with ThreadPoolExecutor(1) as clients:
            following = clients.submit(lambda: list(stream(server, f"/runs/{run_id}/events")))
            eventually(lambda: (server.show(run_id)["progress"] or {}).get("done", 0) >= 1)
            began = time.monotonic()
            assert server.stop() == 1
            assert time.monotonic() - began < 4
            seen = following.result(10)
    with kedro_flask_server(project) as server:
        rest = list(stream(server, f"/runs/{run_id}/events", seen[-1]["id"]))
        assert seen + rest == events(server, run_id)
    assert (seen + rest)[-1]["data"]["error"]["type"] == "ServerStopped"


@pytest.mark.once
def test_200_followers_and_runs_at_once_are_told_the_same(ours: RunningServer) -> None:
    run_id = ours.submit(pipeline_names=["slow"], params={"seconds": 0.2})

    def follow(_: int) -> list[dict[str, Any]] | int:
        try:
            return list(stream(ours, f"/runs/{run_id}/events", client=client))
        except AssertionError:
            return 503

    limits = httpx.Limits(max_connections=300)
    with (
        httpx.Client(base_url=ours.url, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(200) as clients,
    ):
        answers = list(clients.map(follow, range(200)))
        complete = events(ours, run_id)
    told = [answer for answer in answers if answer != 503]
    assert len(told) >= 32
    assert all(answer == complete for answer in told)
