"""Runs that fail, and go on from where they failed."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kedro_flask_server.client import Client, RunStatus
from tests.servers import (
    CLIENT,
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    kedro_flask_server,
)

RAW = {"rows": [3, 1, 4, 1, 5, 9, 2, 6]}

# The nodes of the pipeline, what each needs of others, and what each gives in memory alone.
NEEDS = {
    "read": (),
    "clean": ("read",),
    "split": ("clean",),
    "derive": ("split",),
    "count": ("clean",),
    "part": ("derive",),
    "fit_a": ("part",),
    "fit_b": ("derive", "count"),
    "evaluate": ("fit_a", "fit_b", "split"),
    "report": ("evaluate", "count"),
    "archive": ("fit_a",),
    "publish": ("report", "archive"),
}
IN_MEMORY = {("read", "clean"), ("split", "derive"), ("count", "fit_b"), ("evaluate", "report")}
SAVED = {
    "clean": "cleaned",
    "split": "test",
    "derive": "features",
    "count": "table",
    "part": "part_0",
    "fit_a": "model_a",
    "fit_b": "model_b",
    "evaluate": "scores",
    "report": "reported",
    "archive": "model_a",
    "publish": "published",
}
SECRET = "password-of-a-remote"
RUNNERS = ["SequentialRunner", "ThreadRunner", "ParallelRunner"]


def needed_again(finished: set[str]) -> set[str]:
    """Return the nodes that run again, if some have finished."""
    again = {*NEEDS} - finished
    while True:
        more = {of for of, by in IN_MEMORY if by in again} - again
        if not more:
            return again
        again |= more


class Project:
    """The project, its data, and what a test orders for its next run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"

    def reset(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        (self.data / "raw.json").write_text(json.dumps(RAW))

    def order(self, what: str, where: str) -> None:
        (self.data / "order").write_text(f"{what} {where}")

    def obey_no_more(self) -> None:
        (self.data / "order").unlink()

    def executed(self) -> list[str]:
        """Return the nodes that have executed since the last call."""
        log = self.data / "executed"
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def results(self) -> dict[str, bytes]:
        """Return the content of each file; of versions, that of the newest, without its name."""
        found: dict[str, bytes] = {}
        for path in sorted(self.data.rglob("*")):
            parts = path.relative_to(self.data).parts
            if path.is_file() and parts[0] not in ("order", "executed"):
                is_version = len(parts) == 3
                found["/".join(parts[:1] + parts[2:]) if is_version else "/".join(parts)] = (
                    path.read_bytes()
                )
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(copy_project(PROJECTS / "resumed", tmp_path))
    found.reset()
    return found


@pytest.fixture
def serve(project: Project) -> Iterator[Callable[..., RunningServer]]:
    with ExitStack() as stack:

        def start(**settings: str) -> RunningServer:
            env = {f"KEDRO_SERVER_{name.upper()}": value for name, value in settings.items()}
            return stack.enter_context(kedro_flask_server(project.folder, **env))

        yield start


@pytest.fixture
def server(serve: Callable[..., RunningServer]) -> RunningServer:
    return serve()


def failed(server: RunningServer, project: Project, what: str, where: str, **request: Any) -> str:
    """Have a run end as ordered, and return its id."""
    project.order(what, where)
    ended = server.run(**request)
    assert ended["status"] == "failure", (what, where)
    project.obey_no_more()
    return str(ended["run_id"])


def retry(server: RunningServer, run_id: str, **body: Any) -> dict[str, Any]:
    """Retry a run, and return the new one and its plan once it has ended."""
    headers = {"Prefer": "wait=30"}
    answer = server.client.post(f"/runs/{run_id}/retry", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/runs/{found['run_id']}"
    return found


def refusals(server: RunningServer, run_id: str, **body: Any) -> list[str]:
    answer = server.client.post(f"/runs/{run_id}/retry", json=body)
    assert answer.status_code == 409, answer.text
    planned = server.client.get(
        f"/runs/{run_id}/retry", params={"from": body.get("from", "failure")}
    )
    types = [each["type"] for each in answer.json()["detail"]]
    if not body.get("force") and not body.get("params"):
        assert [each["type"] for each in planned.json()["refusals"]] == types
    return types


def finished_nodes(server: RunningServer, run_id: str) -> set[str]:
    shown = server.client.get(f"/runs/{run_id}?include=provenance").json()
    return {each["name"] for each in shown["provenance"]["nodes"] if each["state"] == "finished"}


@pytest.mark.once
@pytest.mark.parametrize("runner", RUNNERS)
def test_run_that_is_killed_anywhere_goes_on_and_ends_as_if_it_was_not(
    server: RunningServer, project: Project, runner: str
) -> None:
    assert server.run()["status"] == "success"
    undisturbed = project.results()
    for where in [*NEEDS, *(f"save:{name}" for name in dict.fromkeys(SAVED.values()))]:
        project.reset()
        run_id = failed(server, project, "kill", where, runner=runner)
        assert where == "save:published" or project.results() != undisturbed, where
        finished = finished_nodes(server, run_id)
        assert finished < {*NEEDS}
        executed = project.executed()
        again = retry(server, run_id)
        assert again["status"] == "success", (where, again)
        assert project.results() == undisturbed, where
        assert sorted(project.executed()) == sorted(needed_again(finished)), (where, executed)
        runs = {each["name"] for each in again["plan"]["nodes"] if each["runs"]}
        assert runs == needed_again(finished)


@pytest.mark.once
@pytest.mark.parametrize("executor", EXECUTORS)
def test_run_whose_server_is_killed_goes_on(
    serve: Callable[..., RunningServer], project: Project, executor: str
) -> None:
    first = serve(executor=executor)
    assert first.run()["status"] == "success"
    undisturbed = project.results()
    first.stop()
    for where in ("derive", "fit_b", "report"):
        project.reset()
        run_id, finished = lose(serve(executor=executor), project, where)
        again = serve(executor=executor)
        wait_for_loss(again, run_id)
        retried = retry(again, run_id)
        assert retried["status"] == "success"
        assert project.results() == undisturbed
        assert {*project.executed()} <= needed_again(finished)
        again.stop()


def lose(server: RunningServer, project: Project, where: str) -> tuple[str, set[str]]:
    """Kill a server while a run is at a node; return the run, and the nodes stored as finished."""
    project.order("sleep", where)
    run_id = server.submit()
    executed = project.data / "executed"
    eventually(lambda: executed.exists() and where in executed.read_text())
    eventually(lambda: server.show(run_id)["progress"])
    events = server.client.get(f"/runs/{run_id}/events").json()["events"]
    finished = {each["data"]["node"] for each in events if each["type"] == "node.finished"}
    server.stop(signal.SIGKILL)
    project.obey_no_more()
    project.executed()
    return run_id, finished


def wait_for_loss(server: RunningServer, run_id: str) -> None:
    eventually(lambda: server.show(run_id)["status"] == "lost")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_chain_goes_on_with_what_each_of_its_runs_has_done(
    serve: Callable[..., RunningServer], project: Project, executor: str
) -> None:
    server = serve(executor=executor)
    assert server.run()["status"] == "success"
    undisturbed = project.results()
    project.reset()
    first = failed(server, project, "raise", "derive")
    project.order("raise", "evaluate")
    second = retry(server, first)
    assert (second["status"], second["retry_of"], second["attempt"]) == ("failure", first, 2)
    project.obey_no_more()
    # Other runs leave newer versions, which are not mixed in.
    (project.data / "raw.json").write_text(json.dumps({"rows": [1]}))
    assert server.run()["status"] == "success"
    assert refusals(server, second["run_id"]) == ["dataset_changed"] * 3
    project.executed()
    third = retry(server, second["run_id"], force=["dataset_changed"])
    assert third["status"] == "success"
    assert third["plan"]["load_versions"] == {
        "model_a": second["run_id"],
        "model_b": second["run_id"],
        "test": second["run_id"],
    }
    assert sorted(project.executed()) == ["evaluate", "publish", "report"]
    scores = json.loads(undisturbed["scores.json"])
    assert json.loads(project.results()["scores.json"]) == scores
    # A list has one line of a chain, its newest run.
    listed = [run["run_id"] for run in server.client.get("/runs").json()["runs"]]
    assert third["run_id"] in listed
    assert first not in listed
    assert second["run_id"] not in listed
    everything = server.client.get("/runs?retried=true").json()["runs"]
    by_id = {run["run_id"]: run for run in everything}
    assert by_id[first]["retried_by"] == by_id[second["run_id"]]["retried_by"] == third["run_id"]
    assert refusals(server, first) == ["retried"]


@pytest.mark.once
@pytest.mark.parametrize("executor", EXECUTORS)
def test_retry_follows_a_fix_of_the_code_and_of_the_parameters(
    serve: Callable[..., RunningServer], project: Project, executor: str
) -> None:
    nodes = project.folder / "src/resumed/pipeline_registry.py"
    code = nodes.read_text()
    nodes.write_text(code.replace('note("fit_b")', 'note("fit_b")\n    raise KeyError("broken")'))
    revise(project, "Break it")
    broken = serve(executor=executor)
    run_id = str(broken.run()["run_id"])
    broken.stop()
    nodes.write_text(code)
    revise(project, "Mend it")
    parameters = project.folder / "conf/base/parameters.yml"
    parameters.write_text(parameters.read_text().replace("offset: 7", "offset: 8"))
    project.executed()
    server = serve(executor=executor)
    plan = server.client.get(f"/runs/{run_id}/retry").json()
    changed = plan["changed"]
    assert changed["parameters"] == {"model.offset": {"before": 7, "after": 8}}
    assert changed["revision"]["before"] != changed["revision"]["after"]
    assert plan["refusals"] == []
    assert "clean" not in plan["request"]["node_names"]
    again = retry(server, run_id)
    assert again["status"] == "success"
    assert again["plan"]["changed"] == changed
    assert "clean" not in project.executed()
    compared = server.client.get(f"/runs/{run_id}/compare/{again['run_id']}").json()
    assert {*compared["code"]} == {"revision", "is_clean"}
    assert compared["ends"]["status"] == {"a": "failure", "b": "success"}


def revise(project: Project, message: str) -> None:
    """Commit the project, whose repository has a remote with a password."""
    git = ["git", "-C", str(project.folder), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    if not (project.folder / ".git").exists():
        subprocess.run([*git, "init", "-q", "-b", "work"], check=True)
        subprocess.run(
            [*git, "remote", "add", "origin", f"https://u:{SECRET}@x.invalid"], check=True
        )
        (project.folder / ".gitignore").write_text("data\n.kedro_server\n__pycache__\n")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", message], check=True)


def test_parameters_of_a_retry_come_beside_those_of_the_run(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "fit_a", params={"factor": 2, "model": {"offset": 1}})
    again = retry(server, run_id, params={"model": {"offset": 5}})
    assert again["request"]["params"] == {"factor": 2, "model": {"offset": 5}}
    assert again["status"] == "success"


@pytest.mark.once
def test_what_stands_in_the_way_is_said_and_can_be_forced(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "report")
    (project.data / "table.json").write_text("{}")
    assert refusals(server, run_id) == ["dataset_changed"]
    [version] = (project.data / "model_a.json").iterdir()
    shutil.rmtree(version)
    assert refusals(server, run_id) == ["version_gone", "dataset_changed"]
    assert refusals(server, run_id, force=["dataset_changed"]) == ["version_gone"]
    again = retry(server, run_id, force=["dataset_changed", "version_gone"])
    assert again["status"] == "success"
    assert refusals(server, run_id, force=["dataset_changed"]) == ["retried"]
    assert refusals(server, again["run_id"]) == ["run_succeeded"]
    unknown = server.client.post(f"/runs/{run_id}/retry", json={"force": ["all"]})
    assert unknown.status_code == 422


@pytest.mark.once
def test_node_that_appends_is_not_run_again_unless_forced(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "follow", pipeline_names=["append"])
    again = retry(server, run_id, params={"fails": False})
    assert again["status"] == "success"
    assert (project.data / "appended.txt").read_text() == "8\n"
    project.reset()
    run_id = failed(server, project, "kill", "save:appended", pipeline_names=["append"])
    assert refusals(server, run_id) == ["append"]
    assert refusals(server, run_id, **{"from": "start"}) == ["append"]
    again = retry(server, run_id, params={"fails": False}, force=["append"])
    assert again["status"] == "success"
    assert (project.data / "appended.txt").read_text() == "8\n8\n"


@pytest.mark.once
def test_node_that_a_chain_has_begun_is_remembered_by_all_of_it(
    server: RunningServer, project: Project
) -> None:
    first = failed(server, project, "kill", "save:appended", pipeline_names=["append"])
    again = retry(server, first, force=["append"], params={"fails": True})
    assert again["status"] == "failure"
    # That of the second has appended, too; its successor leaves it as it is.
    third = retry(server, again["run_id"], params={"fails": False})
    assert third["status"] == "success"
    assert (project.data / "appended.txt").read_text() == "8\n8\n"


@pytest.mark.once
def test_retry_from_the_start_that_reaches_no_node_forgets_what_was_before(
    server: RunningServer, project: Project
) -> None:
    first = failed(server, project, "raise", "fit_a", params={"factor": 2})
    catalog = project.folder / "conf/base/catalog.yml"
    text = catalog.read_text()
    catalog.write_text(text.replace("type: resumed.datasets.EndingJSONDataset", "type: no.Such", 1))
    second = retry(server, first, **{"from": "start"}, params={"factor": 5})
    assert second["status"] == "failure"
    catalog.write_text(text)
    project.executed()
    third = retry(server, second["run_id"])
    assert third["status"] == "success"
    assert {*project.executed()} == {*NEEDS}
    assert third["request"] == {"params": {"factor": 5}}


@pytest.mark.once
def test_dataset_that_lies_elsewhere_by_now_is_made_again(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "count")
    (project.data / "moved.json").write_text("[1]")
    catalog = project.folder / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text().replace("data/cleaned.json", "data/moved.json"))
    project.executed()
    again = retry(server, run_id)
    assert again["status"] == "success"
    assert "clean" in project.executed()
    [clean] = [node for node in again["plan"]["nodes"] if node["name"] == "clean"]
    assert "lies elsewhere" in clean["reason"]


@pytest.mark.once
def test_run_that_is_stopped_before_it_tells_its_nodes_is_retried_whole(
    server: RunningServer, project: Project
) -> None:
    run_ids = []
    for _ in range(5):
        run_ids.append(server.submit())
        server.client.post(f"/runs/{run_ids[-1]}/cancel")
    stopped = [each for each in run_ids if server.show(each, wait=20)["status"] == "cancelled"]
    assert stopped
    for each in stopped:
        assert retry(server, each)["status"] == "success"


@pytest.mark.once
def test_dataset_in_two_forms_is_one(server: RunningServer, project: Project) -> None:
    run_id = str(server.run(pipeline_names=["transcoded"])["run_id"])
    project.executed()
    again = retry(server, run_id, params={"fails": False})
    assert again["status"] == "success"
    assert project.executed() == ["follow"]
    (project.data / "shared.json").write_text("[]")
    run_id = str(server.run(pipeline_names=["transcoded"])["run_id"])
    (project.data / "shared.json").write_text("[1]")
    assert refusals(server, run_id) == ["dataset_changed"]


@pytest.mark.once
def test_run_that_left_out_nodes_and_reached_none_does_so_again(
    server: RunningServer, project: Project
) -> None:
    assert server.run()["status"] == "success"
    project.executed()
    (project.data / "reported.json").unlink()
    catalog = project.folder / "conf/base/catalog.yml"
    text = catalog.read_text()
    catalog.write_text(text + "broken: [")
    run_id = str(server.run(only_missing_outputs=True)["run_id"])
    catalog.write_text(text)
    again = retry(server, run_id)
    assert again["status"] == "success"
    assert {*project.executed()} == {"evaluate", "report"}


@pytest.mark.once
def test_failed_runs_version_counts_once_a_retry_has_gone_on_with_it(
    serve: Callable[..., RunningServer], project: Project
) -> None:
    server = serve(skip_failed_versions="true")
    run_id = failed(server, project, "raise", "report", params={"model": {"offset": 100}})
    assert retry(server, run_id)["status"] == "success"
    archive = server.run(node_names=["archive"])
    assert archive["status"] == "success"
    shown = server.client.get(f"/runs/{archive['run_id']}?include=provenance").json()
    assert shown["provenance"]["datasets"]["model_a"]["loaded"]["version"] == run_id
    assert shown["warnings"] == []


@pytest.mark.once
def test_labels_of_a_run_and_its_retry_are_counted_together(
    server: RunningServer, project: Project
) -> None:
    project.order("raise", "clean")
    labels = "&".join(f"label=a{at}" for at in range(16))
    run_id = server.client.post(f"/run?{labels}", json={}).json()["run_id"]
    project.obey_no_more()
    refused = server.client.post(f"/runs/{run_id}/retry?label=b")
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "label"])
    assert server.client.post(f"/runs/{run_id}/retry?label=a1=x").status_code == 201


def test_confirmed_data_is_not_missed(server: RunningServer, project: Project) -> None:
    incoming = project.data / "incoming"
    incoming.mkdir()
    (incoming / "a.json").write_text("1")
    ended = server.run(pipeline_names=["confirm"])
    assert ended["error"]["type"] == "ValueError"
    run_id = str(ended["run_id"])
    # What was taken is in memory alone, so that the node would have to load it again.
    assert refusals(server, run_id) == ["checkpoint_confirmed"]
    assert refusals(server, run_id, **{"from": "start"}) == ["checkpoint_confirmed"]


@pytest.mark.once
def test_secret_of_a_request_has_to_be_given_again(server: RunningServer, project: Project) -> None:
    params = {"factor": 2, "model": {"api_token": "secret-of-the-caller"}}
    run_id = failed(server, project, "raise", "fit_a", params=params)
    assert refusals(server, run_id) == ["secret_needed"]
    again = retry(server, run_id, params={"model": {"api_token": "secret-of-the-caller"}})
    assert again["status"] == "success"


@pytest.mark.once
def test_key_of_a_retry_starts_one_alone(server: RunningServer, project: Project) -> None:
    run_id = failed(server, project, "raise", "fit_a")
    headers = {"Idempotency-Key": "once", "Prefer": "wait=30"}
    answers = [
        server.client.post(f"/runs/{run_id}/retry", json={}, headers=headers) for _ in range(2)
    ]
    assert [each.status_code for each in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    other = server.client.post(f"/runs/{run_id}/retry", json={"from": "start"}, headers=headers)
    assert other.status_code == 422


@pytest.mark.once
def test_run_of_an_earlier_version_is_retried_from_the_start_alone(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "fit_a")
    [database] = (project.folder / ".kedro_server").glob("*.db")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM run_provenance")
    connection.close()
    assert server.client.get(f"/runs/{run_id}?include=provenance").json()["provenance"] is None
    assert refusals(server, run_id) == ["nodes_unknown"]
    assert retry(server, run_id, **{"from": "start"})["status"] == "success"
    assert project.executed().count("read") == 2


@pytest.mark.once
def test_run_that_left_out_nodes_goes_on_with_those_that_it_had(
    server: RunningServer, project: Project
) -> None:
    assert server.run()["status"] == "success"
    for each in ("scores.json", "reported.json"):
        (project.data / each).unlink()
    run_id = failed(server, project, "raise", "report", only_missing_outputs=True)
    project.executed()
    again = retry(server, run_id)
    assert again["status"] == "success"
    assert {*project.executed()} == {"evaluate", "report"}
    left_out = {each["name"] for each in again["plan"]["nodes"] if "left it out" in each["reason"]}
    assert "clean" in left_out


@pytest.mark.once
def test_run_that_is_retried_is_not_retried_again_meanwhile(
    server: RunningServer, project: Project
) -> None:
    run_id = failed(server, project, "raise", "fit_a")
    project.order("sleep", "fit_a")
    first = server.client.post(f"/runs/{run_id}/retry").json()
    second = server.client.post(f"/runs/{run_id}/retry")
    assert (second.status_code, second.json()["run_id"]) == (409, first["run_id"])
    assert second.json()["detail"][0]["type"] == "retry_active"
    assert refusals(server, first["run_id"]) == ["run_active"]
    server.client.post(f"/runs/{first['run_id']}/cancel")
    project.obey_no_more()
    assert server.show(first["run_id"], wait=20)["status"] == "cancelled"
    assert refusals(server, run_id) == ["retried"]
    assert retry(server, first["run_id"])["status"] == "success"


@pytest.mark.once
def test_many_retries_at_once_start_one(server: RunningServer, project: Project) -> None:
    run_id = failed(server, project, "raise", "fit_a")
    with ThreadPoolExecutor(20) as clients:
        answers = list(
            clients.map(lambda _: server.client.post(f"/runs/{run_id}/retry"), range(20))
        )
    assert sorted(each.status_code for each in answers) == [201] + [409] * 19


@pytest.mark.once
def test_revision_is_that_of_the_project_as_it_was_loaded(
    serve: Callable[..., RunningServer], project: Project
) -> None:
    revise(project, "Begin")
    head = ["git", "-C", str(project.folder), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    server = serve()
    first = server.run()["run_id"]
    revision = {"id": commit, "branch": "work", "is_clean": True}
    answer = server.client.get(f"/runs/{first}?include=provenance")
    assert answer.json()["provenance"]["revision"] == revision
    assert SECRET not in answer.text
    (project.folder / "conf/base/parameters.yml").open("a").write("more: 1\n")
    second = server.run()["run_id"]
    shown = server.client.get(f"/runs/{second}?include=provenance").json()
    assert shown["provenance"]["revision"] == revision
    named = serve(project_revision="v1.2.3")
    third = named.run()["run_id"]
    shown = named.client.get(f"/runs/{third}?include=provenance").json()
    assert shown["provenance"]["revision"] == {"id": "v1.2.3", "branch": None, "is_clean": None}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("start_method", ["auto", pytest.param("spawn", marks=pytest.mark.once)])
def test_what_a_run_was_made_of_is_shown(
    serve: Callable[..., RunningServer], executor: str, start_method: str
) -> None:
    server = serve(executor=executor, worker_start_method=start_method)
    first, second = (str(server.run(params={"factor": n})["run_id"]) for n in (2, 3))
    shown = server.client.get(f"/runs/{second}?include=provenance").json()["provenance"]
    assert shown["parameters"] == {"factor": 3, "model.offset": 7}
    assert shown["nodes"][0]["name"] == "read"
    assert {each["state"] for each in shown["nodes"]} == {"finished"}
    [link] = shown["links"]
    assert link["title"] == "experiment"
    assert "secret" not in link["url"]
    assert link["url"].endswith(f"@tracking.example/{second}")
    published = shown["datasets"]["published"]
    assert published["place"] == "data/published.json"
    assert published["saved"]["version"] == second
    assert shown["datasets"]["rows"]["type"] == "MemoryDataset"
    assert shown["revision"] is None
    assert shown["kedro_command"] == "kedro run --env=local --params=factor=3"
    compared = server.client.get(f"/runs/{first}/compare/{second}").json()
    assert compared["parameters"] == {"factor": {"a": 2, "b": 3}}
    assert compared["request"] == {"params.factor": {"a": 2, "b": 3}}
    assert compared["code"] == {}
    assert server.client.get(f"/runs/{first}/compare/2020-01-01T00.00.00.000Z").status_code == 404


ERRORS = ["RuntimeError", "WorkerCrashed", "RunLost"]
RULE = json.dumps({"__default__": {"times": 2, "delay_s": 0.5, "errors": ERRORS}})


def chain_of(server: RunningServer, run_id: str) -> list[dict[str, Any]]:
    """Return the runs of a chain, the first first, once the newest has ended."""

    def has_ended() -> bool:
        newest = server.show(run_id)["retried_by"] or run_id
        return newest != run_id and bool(server.show(str(newest), wait=20)["finished_at"])

    eventually(has_ended)
    listed = server.client.get("/runs?retried=true").json()["runs"]
    return sorted((run for run in listed), key=lambda run: run["attempt"])


@pytest.mark.parametrize("executor", EXECUTORS)
def test_rule_retries_until_its_times_are_over(
    serve: Callable[..., RunningServer], project: Project, executor: str
) -> None:
    server = serve(executor=executor, retries=RULE)
    project.order("raise", "count")  # a RuntimeError, by its class
    run_id = server.submit(params={"factor": 2})
    delayed = eventually_queued(server, run_id)
    assert delayed["waiting_for"]["reason"] == "delay"
    assert delayed["waiting_for"]["until"] > delayed["created_at"]
    eventually(lambda: len(server.client.get("/runs?retried=true").json()["runs"]) == 3)
    eventually(lambda: not server.client.get("/runs?status=queued&status=running").json()["runs"])
    first, second, third = chain_of(server, run_id)
    assert [run["status"] for run in (first, second, third)] == ["failure"] * 3
    assert (second["retry_of"], third["retry_of"]) == (run_id, second["run_id"])
    assert server.show(third["run_id"])["request"]["params"] == {"factor": 2}
    ends = [server.show(run["run_id"])["finished_at"] for run in (first, second)]
    starts = [server.show(run["run_id"])["started_at"] for run in (second, third)]
    assert all(end < start for end, start in zip(ends, starts, strict=True))
    # Another error is not retried.
    project.obey_no_more()
    other = server.run(pipeline_names=["__default__"], params={"factor": "x", "model": {}})
    assert other["status"] == "failure"
    assert server.show(str(other["run_id"]))["retried_by"] is None


def eventually_queued(server: RunningServer, run_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = server.client.get("/runs?status=queued").json()["runs"]
        return bool(found) and found[0]["retry_of"] == run_id

    eventually(is_there)
    return found[0]


@pytest.mark.once
def test_rule_does_not_retry_what_crashes_twice_in_a_row(
    serve: Callable[..., RunningServer], project: Project
) -> None:
    server = serve(retries=RULE)
    project.order("kill", "count")
    run_id = server.submit()
    first, second = chain_of(server, run_id)
    assert [run["error"]["type"] for run in (first, second)] == ["WorkerCrashed"] * 2
    assert second["retried_by"] is None
    assert "not retried" in second["warnings"][0]


@pytest.mark.once
def test_lost_run_is_retried_by_its_rule_with_the_next_start(
    serve: Callable[..., RunningServer], project: Project
) -> None:
    first = serve(retries=RULE)
    run_id, _ = lose(first, project, "count")
    # The rule is that of the run, whatever the server has that finds it.
    again = serve()
    newest = chain_of(again, run_id)[-1]
    assert (newest["retry_of"], newest["status"]) == (run_id, "success")


@pytest.mark.once
def test_delayed_retry_outlives_a_pause_and_can_be_cancelled(
    serve: Callable[..., RunningServer], project: Project
) -> None:
    server = serve(retries=RULE.replace("0.5", "3600"))
    project.order("raise", "count")
    run_id = server.submit()
    delayed = eventually_queued(server, run_id)
    server.client.post("/queue/pause", json={"pipeline": None})
    server.client.post("/queue/resume", json={"pipeline": None})
    eventually(lambda: server.show(delayed["run_id"])["waiting_for"]["reason"] == "delay")
    assert server.client.get("/queue").json()["waiting"] == {"delay": 1}
    assert server.client.post(f"/runs/{delayed['run_id']}/cancel").json()["status"] == "cancelled"
    assert server.show(delayed["run_id"])["retried_by"] is None


def command(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLIENT, *arguments, "--url", server.url], capture_output=True, text=True, check=False
    )


@pytest.mark.once
def test_commands_and_client_label_compare_and_retry(
    server: RunningServer, project: Project
) -> None:
    project.order("raise", "fit_b")
    options = ["--detach", "--label", "team=fraud", "--label", "nightly"]
    run_id = command(server, "run", *options).stdout.strip()
    assert server.show(run_id, wait=20)["status"] == "failure"
    assert run_id in command(server, "runs", "--label", "nightly").stdout
    assert run_id not in command(server, "runs", "--label", "nightly=no").stdout
    planned = command(server, "retry", run_id, "--plan").stdout
    assert "fit_b: runs: it has not finished" in planned
    assert "clean: stays: it has finished" in planned
    assert f"test is loaded in the version {run_id}" in planned
    project.obey_no_more()
    retried = command(server, "retry", run_id, "--params", "model.offset=9")
    assert (retried.returncode, "succeeded" in retried.stdout) == (0, True), retried.stderr
    refused = command(server, "retry", run_id)
    assert refused.returncode == 5
    assert "goes on with what this one has done" in refused.stderr
    project.order("raise", "fit_b")
    other = failed(server, project, "raise", "fit_b")
    with Client(server.url) as client:
        again = client.wait(client.retry(other, start="start", labels={"x": "y"}).run_id)
        assert (again.status, again.labels) == (RunStatus.SUCCESS, {"x": "y"})
        [newest] = client.list(labels={"team": "fraud"})
        assert (newest.retry_of, newest.attempt, newest.labels["nightly"]) == (run_id, 2, "true")
        assert len([*client.list(labels={"team": None}, retried=True)]) == 2
        provenance = client.provenance(newest.run_id)
        assert provenance is not None
        assert provenance["parameters"]["model.offset"] == 9
        assert client.retry_plan(run_id)["refusals"][0]["type"] == "retried"
        compared = client.compare(run_id, newest.run_id)
    assert compared["parameters"]["model.offset"] == {"a": 7, "b": 9}
    shown = command(server, "compare", run_id, newest.run_id).stdout
    assert "\n    model.offset: 7 -> 9" in shown
    shown = command(server, "show", newest.run_id).stdout
    for part in ("kedro run --env=local", "curl http", "fit_b: finished", "retry of:", "nightly"):
        assert part in shown
