"""``/snapshot`` on a real project: the same answer for as long as it is true, and no longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.test_access import ask, server_with_keys
from tests.servers import EXECUTORS, PROJECTS, RunningServer, copy_project, kedro_flask_server
from tests.test_app import python

# Kedro before 1.7 has not what is needed to keep one.
pytestmark = pytest.mark.once

Edit = Callable[[Path], None]


@pytest.fixture(scope="module", params=EXECUTORS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("snapshot"))
    with kedro_flask_server(project, "--executor", request.param, "--workers", "1") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def get(server: RunningServer, etag: str = "", **query: str) -> httpx.Response:
    headers = {"If-None-Match": etag} if etag else {}
    answer = server.client.get("/snapshot", params=query, headers=headers)
    assert answer.status_code in (200, 304), answer.text
    return answer


def kept(server: RunningServer, **query: str) -> httpx.Response:
    """Return an answer that is kept: what a file holds is certain after two looks at it."""
    for _ in range(3):
        get(server, **query)
    return get(server, **query)


def processes_of(server: RunningServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def test_who_has_the_snapshot_is_told_so(served: RunningServer) -> None:
    first = kept(served)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    again = get(served, etag=etag)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert get(served, etag='"of another"').content == first.content


def test_kept_snapshot_asks_no_worker(served: RunningServer) -> None:
    first = kept(served)
    paused = processes_of(served)
    for each in paused:
        each.suspend()
    try:
        answers = [served.client.get("/snapshot", timeout=5) for _ in range(20)]
    finally:
        for each in paused:
            each.resume()
    assert {answer.content for answer in answers} == {first.content}


def replace(path: Path, old: str, new: str) -> None:
    """Put one text in the place of another of its length, and leave the file's time alone."""
    assert len(old) == len(new)
    text = path.read_text()
    assert old in text
    found = path.stat()
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (found.st_mtime_ns, found.st_size)


EDITS: dict[str, tuple[Edit, Edit, str]] = {
    "parameters": (
        lambda conf: replace(conf / "base/parameters.yml", "loops:", "loopz:"),
        lambda conf: replace(conf / "base/parameters.yml", "loopz:", "loops:"),
        '"loopz"',
    ),
    "catalog": (
        lambda conf: replace(conf / "base/catalog.yml", "chosen.json", "chosem.json"),
        lambda conf: replace(conf / "base/catalog.yml", "chosem.json", "chosen.json"),
        "data/chosem.json",
    ),
    "globals": (
        lambda conf: replace(conf / "base/globals.yml", "data", "date"),
        lambda conf: replace(conf / "base/globals.yml", "date", "data"),
        "date/chosen.json",
    ),
    "a new file": (
        lambda conf: (conf / "base/parameters_new.yml").write_text("brand_new: 1"),
        lambda conf: (conf / "base/parameters_new.yml").unlink(),
        '"brand_new"',
    ),
    "a new file of the environment": (
        lambda conf: (conf / "local/catalog.yml").write_text(
            "chosen:\n  type: json.JSONDataset\n  filepath: elsewhere.json"
        ),
        lambda conf: (conf / "local/catalog.yml").unlink(),
        "elsewhere.json",
    ),
    "a new folder": (
        lambda conf: (
            (conf / "base/parameters").mkdir(),
            (conf / "base/parameters/deep.yml").write_text("deeper: 1"),
        ),
        lambda conf: (
            (conf / "base/parameters/deep.yml").unlink(),
            (conf / "base/parameters").rmdir(),
        ),
        '"deeper"',
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_edit_is_seen_by_the_very_next_request(served: RunningServer, what: str) -> None:
    edit, undo, shown = EDITS[what]
    before = kept(served)
    assert shown not in before.text
    edit(served.cwd / "conf")
    after = get(served, etag=before.headers["ETag"])
    assert shown in after.text
    assert after.headers["ETag"] != before.headers["ETag"]
    assert kept(served).content == after.content
    undo(served.cwd / "conf")
    assert get(served).content == before.content


def line_end_of_start(answer: httpx.Response) -> int:
    [pipeline] = [each for each in answer.json()["pipelines"] if each["name"] == "one"]
    line: int = pipeline["nodes"][0]["source"]["line_end"]
    return line


def test_edit_of_a_node_s_source_is_seen_by_the_very_next_request(served: RunningServer) -> None:
    before = kept(served)
    path = served.cwd / "src/probe/nodes.py"
    text, found = path.read_text(), path.stat()
    path.write_text(text.replace("def start(tag):\n", "def start(tag):\n    # more\n"))
    assert line_end_of_start(get(served)) == line_end_of_start(before) + 1
    path.write_text(text)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert line_end_of_start(get(served)) == line_end_of_start(before)


def test_parameters_have_answers_of_their_own(served: RunningServer) -> None:
    plain, tagged = kept(served), kept(served, params="tag=mine")
    assert "data/echo/mine.json" in tagged.text
    assert "data/echo/none.json" in plain.text
    assert get(served, etag=plain.headers["ETag"], params="tag=mine").status_code == 200
    assert get(served, etag=tagged.headers["ETag"], params="tag=mine").status_code == 304
    assert get(served).content == plain.content


def test_secret_that_a_run_brings_is_left_out_of_the_next_answer(served: RunningServer) -> None:
    before = kept(served)
    assert "no_such_file.json" in before.text
    run = served.run(params={"tag": "no_such_file.json"})  # becomes a part of the credentials
    assert run["status"] == "success"
    after = get(served, etag=before.headers["ETag"])
    assert after.status_code == 200
    assert "no_such_file.json" not in after.text


def test_requests_at_once_while_a_file_is_edited_have_one_state_or_the_other(
    served: RunningServer,
) -> None:
    path = served.cwd / "conf/base/parameters.yml"
    old, old_text = kept(served).content, path.read_text()
    half = threading.Semaphore(0)

    def ask_and_tell(_: int) -> bytes:
        answer = get(served).content
        half.release()
        return answer

    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(ask_and_tell, number) for number in range(100)]
        for _ in range(30):
            assert half.acquire(timeout=30)
        other = path.with_suffix(".new")
        other.write_text(old_text.replace("loops:", "loopz:"))
        other.replace(path)
        later = [clients.submit(ask_and_tell, number) for number in range(100)]
        answers = {each.result() for each in asked}
        [new] = {each.result() for each in later}
    path.write_text(old_text)
    assert b'"loopz"' in new
    # Between the two, a file more is there, which no pattern finds.
    assert answers <= {old, new}
    assert get(served).content == old


@pytest.mark.parametrize("executor", EXECUTORS)
def test_loader_of_the_project_s_own_is_asked_each_time(project: Path, executor: str) -> None:
    with kedro_flask_server(
        project, "--executor", executor, "--workers", "1", PROBE_LOADER="OwnResolversLoader"
    ) as server:
        first = kept(server)
        assert get(server, etag=first.headers["ETag"]).status_code == 304
        replace(project / "conf/base/catalog.yml", "chosen.json", "chosem.json")
        assert "data/chosem.json" in get(server, etag=first.headers["ETag"]).text
        assert "data/echo/mine.json" in get(server, params="tag=mine").text


def test_keys_with_pipelines_have_answers_of_their_own(project: Path) -> None:
    with server_with_keys(project, "--executor", "threads") as server:
        answers = {}
        for _ in range(2):
            for who in ("reader", "limited", "admin"):
                answers[who] = ask(server, who, "GET", "/snapshot")
        [of_reader, of_limited, of_admin] = answers.values()
        assert of_reader.content == of_admin.content
        assert {each["name"] for each in of_limited.json()["pipelines"]} == {"one", "twenty"}
        assert "secret_place" not in of_limited.text
        for who, expected in (("reader", 304), ("limited", 200)):
            etag = {"If-None-Match": of_reader.headers["ETag"]}
            assert ask(server, who, "GET", "/snapshot", headers=etag).status_code == expected


FLIPPED = """
from pathlib import Path
from kedro_flask_server import create_http_server
from kedro_flask_server.project import snapshot

app = create_http_server("probe", executor="threads", allow_anonymous=True)
client = app.test_client()
for _ in range(2):
    before = client.get("/snapshot").json["parameters"]

path = Path("probe/conf/base/parameters.yml")
text, describe = path.read_text(), snapshot.get_project_snapshot

def describe_while_it_is_edited(**options):
    path.write_text(text.replace("loops:", "loopz:"))
    try:
        return describe(**options)
    finally:
        path.write_text(text)

snapshot.get_project_snapshot = describe_while_it_is_edited
for params in ("tag=x",) * 3:
    client.get("/snapshot?params=" + params)
snapshot.get_project_snapshot = describe
print("loopz" in client.get("/snapshot?params=tag=x").json["parameters"])
app.extensions["kedro_flask_server"].runs.drain(5)
"""


def test_edit_that_is_undone_meanwhile_is_not_kept(project: Path) -> None:
    assert python(FLIPPED, project.parent) == "False"
