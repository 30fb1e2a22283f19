"""Answers to ``/snapshot``: kept while they are true, and no longer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerStoppingError
from kedro_flask_server.executors.threads import ThreadExecutor
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.project.snapshot import fingerprint_of
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.runs.factory import create_run_service
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.store import Database, RunStore, locate
from kedro_flask_server.web.snapshot_answers import SnapshotAnswers

SOURCE = {"filepath": "nodes.py", "line_start": 1, "line_end": 2}


def node(name: str, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    return {"name": name, "inputs": inputs, "outputs": outputs, "source": SOURCE}


class CountingProject:
    """A project whose description is what the test says, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.state: str | None = "first"
        self.error: ErrorDetail | None = None

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        self.asked.append(params)
        if self.error:
            return self.error
        pipelines = [
            {"name": "a", "nodes": [node("a", ["params:tag"], ["cars"])]},
            {"name": "b", "nodes": [node("b", ["cars"], ["bikes"])]},
        ]
        datasets = {
            "cars": {"name": "cars", "filepath": f"{self.state}/{params}/cars.csv"},
            "bikes": {"name": "bikes", "filepath": "hidden-in-plain-sight.csv"},
        }
        content = {"pipelines": pipelines, "datasets": datasets, "parameters": ["tag", "x"]}
        return Snapshot(content=content, fingerprint=self.state, sources=("nodes.py",))

    def fingerprint(self, sources: Iterable[str]) -> str | None:
        assert tuple(sources) == ("nodes.py",)
        return self.state


@pytest.fixture
def project() -> CountingProject:
    return CountingProject()


@pytest.fixture
def service(tmp_path: Path, project: CountingProject) -> Iterator[RunService]:
    service = create_run_service(
        RunStore(Database(locate(None, tmp_path / "state")), project="probe", env="local"),
        ThreadExecutor(project, workers=1),  # type: ignore[arg-type]
        ServerConfig(project_path=Path(), workers=1),
        fingerprint=project.fingerprint,
    )
    yield service
    service.drain(10)


@pytest.fixture
def get(service: RunService) -> Any:
    """Return what asks, with parameters and as a caller of some pipelines, and has the answer."""
    app, answers, who = Flask(__name__), SnapshotAnswers(), {}

    @app.get("/snapshot")
    def answer():
        caller = Caller(name="c", scopes=frozenset({Scope.READ}), **who)
        return answers.of(AuthorizedRuns(service, caller), request.args.get("params"))

    app.testing = True  # so that what it raises comes here
    client = app.test_client()

    def get(params: str | None = None, pipelines: Iterable[str] | None = None, etag: str = ""):
        who["pipelines"] = None if pipelines is None else frozenset(pipelines)
        headers = {"If-None-Match": etag} if etag else {}
        query = {} if params is None else {"params": params}
        return client.get("/snapshot", query_string=query, headers=headers)

    return get


def test_same_body_comes_again_without_asking_the_project(get, project) -> None:
    bodies = {get().data for _ in range(5)}
    assert (len(bodies), project.asked) == (1, [None])


def test_etag_is_strong_and_the_same_for_the_same_body(get) -> None:
    first, second = get(), get()
    etag, is_weak = first.get_etag()
    assert (bool(etag), is_weak) == (True, False)
    assert first.get_etag() == second.get_etag()
    assert first.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}', "*"])
def test_who_has_it_is_told_so_without_a_body(get, form: str) -> None:
    etag = get().headers["ETag"]
    answer = get(etag=form.format(etag))
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
    assert get(etag='"another"').status_code == 200


def test_what_changes_is_asked_for_again_and_has_another_etag(get, project) -> None:
    first = get()
    project.state = "second"
    answer = get(etag=first.headers["ETag"])
    assert answer.status_code == 200
    assert "second/None/cars.csv" in answer.text
    assert answer.headers["ETag"] != first.headers["ETag"]
    project.state = "first"  # what was there before is not taken for what is there now
    assert get().data == first.data
    assert project.asked == [None] * 3


def test_what_depends_on_more_than_files_is_not_kept(get, project) -> None:
    project.state = None
    etag = get().headers["ETag"]
    assert get(etag=etag).status_code == 304
    assert project.asked == [None] * 2


def test_failure_is_not_kept(get, project) -> None:
    project.error = ErrorDetail(type="ValueError", message="bad")
    assert get().json == {"status": "failure", "error": get().json["error"]}
    project.error = None
    assert get().json["status"] == "success"


def test_parameters_have_answers_of_their_own_and_a_bounded_number_is_kept(get, project) -> None:
    texts = [f"tag={number}" for number in range(16)]
    for _ in range(2):
        assert all(f"/{text}/cars" in get(text).text for text in texts)
    assert project.asked == texts
    get("tag=one-more")
    get("tag=0")
    assert project.asked == [*texts, "tag=one-more", "tag=0"]


def test_callers_see_their_own_part_with_an_etag_of_its_own(get, project) -> None:
    everything, part = get(), get(pipelines=["a"])
    assert [each["name"] for each in part.json["pipelines"]] == ["a"]
    assert (list(part.json["datasets"]), part.json["parameters"]) == (["cars"], ["tag"])
    assert get(pipelines=["a"], etag=everything.headers["ETag"]).status_code == 200
    assert get(pipelines=["a"], etag=part.headers["ETag"]).status_code == 304
    assert get(pipelines=["b"]).data != part.data
    assert get().data == everything.data
    assert project.asked == [None]


def test_secret_that_becomes_known_is_left_out_of_the_next_answer(get, project) -> None:
    before = get()
    assert "hidden-in-plain-sight" in before.text
    SECRETS.learn(["hidden-in-plain-sight"])
    answer = get(etag=before.headers["ETag"])
    assert answer.status_code == 200
    assert "hidden-in-plain-sight" not in answer.text
    assert project.asked == [None]


def test_server_that_stops_describes_nothing(get, service) -> None:
    get()
    service.drain(10)
    with pytest.raises(ServerStoppingError):
        get()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.yml").write_text("a: 1")
    return folder


def test_fingerprint_changes_with_every_byte_file_and_source(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "nodes.py"
    source.write_text("one")

    def fingerprint() -> str | None:
        return fingerprint_of([folder], [source])

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    for path, text in [
        (folder / "a.yml", "a: 2"),
        (folder / "b.json", ""),
        (folder / "sub" / "c.yaml", "c: 1"),
        (folder / "sub" / "c.yaml", "c: 2"),
        (source, "longer"),
    ]:
        path.write_text(text)
        seen.append(fingerprint())
    (folder / "b.json").rename(folder / "d.json")
    seen.append(fingerprint())
    (folder / "d.json").unlink()
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)
    assert None not in seen


def test_fingerprint_is_none_where_it_cannot_be_told(folder: Path, tmp_path: Path) -> None:
    assert fingerprint_of([tmp_path / "nowhere"], []) is None
    assert fingerprint_of([folder], [tmp_path / "nowhere.py"]) is None
    (folder / "loop").symlink_to(folder)
    assert fingerprint_of([folder], []) is None
    (folder / "loop").unlink()
    (folder / "large.yml").write_bytes(b"#" * 1_000_000)
    assert fingerprint_of([folder], []) is None
