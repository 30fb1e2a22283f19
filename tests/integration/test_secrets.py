"""What is secret is in no answer, log, event or row of a run that has ended."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator

import pytest
import yaml

from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    kedro_flask_server,
)

pytestmark = pytest.mark.once

CREDENTIAL = "canary-of-the-credentials"
VARIABLE = "canary-of-the-environment"
IN_URL = "canary-in-a-url"
ASSIGNED = "canary-that-is-assigned"
CANARIES = (CREDENTIAL, VARIABLE, IN_URL, ASSIGNED, "canary")


@pytest.fixture(scope="module", params=EXECUTORS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp(f"secrets-{request.param}"))
    credentials = project / "conf/base/credentials.yml"
    content = yaml.safe_load(credentials.read_text())
    content["store"]["password"] = CREDENTIAL
    credentials.write_text(yaml.safe_dump(content))
    with kedro_flask_server(
        project, "--executor", request.param, "--workers", "1", MY_API_TOKEN=VARIABLE
    ) as server:
        yield server


def everything(server: RunningServer) -> str:
    """Return all that can be had of the server: answers, its own log, and its files."""
    texts = [server.log]
    for run in server.all_runs():
        for path in ("", "/events", "/logs"):
            texts.append(server.client.get(f"/runs/{run['run_id']}{path}").text)
        streamed = {"Accept": "text/event-stream"}
        texts.append(server.client.get(f"/runs/{run['run_id']}/events", headers=streamed).text)
    texts.append(server.client.get("/runs?limit=200").text)
    database = sqlite3.connect(server.cwd / ".kedro_server/runs.db")
    for table in ("runs", "events", "audit", "run_pipelines"):
        texts += map(repr, database.execute(f"SELECT * FROM {table}"))
    database.close()
    return "\n".join(texts)


SAYING = [
    "raise ValueError({!r})",
    "print({!r})",
    "import sys; sys.stderr.write({!r})",
    "import logging; logging.getLogger('probe').warning('it is %s', {!r})",
    "import logging; logging.getLogger('probe').warning({{'a': {!r}}})",
    "import os; os.write(1, {!r}.encode())",
    "import subprocess; subprocess.run(['echo', {!r}])",
    "raise KeyError({!r})",
    "x = {!r}; raise Exception(x * 3)",
    "import os; os.write(2, {!r}.encode()); os._exit(3)",
    "print({!r}, end=''); import os; os.kill(os.getpid(), 11)",
]
"""Ways of a node to say something."""


def test_planted_canaries_are_nowhere(served: RunningServer) -> None:
    texts = [
        CREDENTIAL,
        VARIABLE,
        f"https://me:{IN_URL}@host/?{IN_URL}#{IN_URL}",
        f"password={ASSIGNED}",
        f"token={ASSIGNED}",
        f"key={ASSIGNED}",
    ]
    executor = served._command[served._command.index("--executor") + 1]
    # In a thread, a node writes to where the server does.
    ways = [way for way in SAYING if executor == "processes" or "logg" in way or "raise" in way]
    # The project's own text: what the client sends comes in another test.
    store = "from pathlib import Path; TEXTS = Path('texts.txt').read_text().split('\\n'); "
    (served.cwd / "texts.txt").write_text("\n".join(texts))
    for way in ways:
        for number in range(len(texts)):
            # The catalog loads no credentials for a pipeline without them.
            code = store + way.replace("{!r}", f"TEXTS[{number}]").replace("{{", "{").replace(
                "}}", "}"
            )
            served.run(pipeline_names=["execute"], params={"what": code})
    text = everything(served)
    for canary in CANARIES:
        found = text.find(canary)
        assert found < 0, text[max(0, found - 300) : found + 100]


def test_kedro_s_own_server_tells_what_is_secret(kedros: RunningServer) -> None:
    body = kedros.run(
        pipeline_names=["execute"], params={"what": f"raise ValueError('password={ASSIGNED}')"}
    )
    assert ASSIGNED in json.dumps(body)


def test_what_a_client_sends_is_shown_and_kept_without_secrets(served: RunningServer) -> None:
    holding = served.submit(pipeline_names=["slow"], params={"seconds": 1})
    eventually(lambda: served.show(holding)["status"] == "running")
    params = {
        "db": {"password": "canary 1", "url": "postgres://me:canary@host/db"},
        "text": f"{CREDENTIAL}, token=canary",
        "tag": "kept",
        VARIABLE: "value",
    }
    queued = served.submit(pipeline_names=["one"], params=params)
    cancelled = served.submit(pipeline_names=["one"], params=params)
    for shown in (served.show(queued), *served.all_runs()):
        assert "canary" not in repr(shown)
    assert served.show(queued)["request"]["params"]["tag"] == "kept"  # type: ignore[index]
    served.client.post(f"/runs/{cancelled}/cancel")
    served.client.post(f"/runs/{holding}/cancel")
    assert served.show(queued, wait=30)["status"] == "success"
    eventually(lambda: "canary" not in everything(served), timeout_s=5)


def test_run_gets_what_was_sent_verbatim(served: RunningServer) -> None:
    params = {"tag": "token=verbatim-1234", "nested": {"tag": "https://me:verbatim@host/"}}
    body = served.run(params=params)
    assert body["status"] == "success", body
    [stored] = (served.cwd / "data/echo").glob("*verbatim*")
    assert "https://me:verbatim@host/" in stored.read_text()


@pytest.fixture(scope="module", params=[None, "prod"])
def of_env(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp("escaped"))
    options = ("--env", request.param) if request.param else ()
    with kedro_flask_server(project, "--workers", "1", *options) as server:
        yield server


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (r"\${x}", "${x}"),
        (r"a \${x} \${y:z}", "a ${x} ${y:z}"),
        (r"\\\${x}", r"\${x}"),
        ("$x", "$x"),
        ("{x}", "{x}"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_escaped_literal_arrives_as_it_is_meant(
    of_env: RunningServer, sent: str, arrives: str
) -> None:
    params = {"tag": sent, "nested": {"tag": sent, "deep": [{"er": sent}]}}
    body = of_env.run(params=params)
    assert body["status"] == "success", body
    written = json.loads((of_env.cwd / f"data/echo/{arrives}.json").read_text())
    assert set(written.values()) == {arrives}


# Names, paths and words

FIRST, LAST = "canary-credential-000", "canary-credential-599"


@pytest.fixture(scope="module", params=EXECUTORS)
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Have many credentials, of which some are names of the project, and odd variables."""
    project = copy_project(PROJECTS / "probe", tmp_path_factory.mktemp(f"named-{request.param}"))
    credentials = [f"canary-credential-{number:03}" for number in range(600)]
    content = {"store": {"all": [*credentials, "versioned", "save_version"]}}
    (project / "conf/base/credentials.yml").write_text(yaml.safe_dump(content))
    env = {
        "PWD": str(project),
        "OLDPWD": str(project.parent),
        "PROJECT_KEY": str(project / "src"),
        "SECRET": "in_space",
        "STAGE_SECRET": "production",
        "ROWS_KEY": "12345678",
        "DB_PASS": VARIABLE,
    }
    key = {"name": "limited", "scopes": ["run", "read"], "pipelines": ["versioned", "execute"]}
    digest = hashlib.sha256(LIMITED_KEY.encode()).hexdigest()
    (project / "keys.yml").write_text(yaml.safe_dump([{**key, "sha256": digest}]))
    env["KEDRO_SERVER_API_KEYS_FILE"] = str(project / "keys.yml")
    with kedro_flask_server(
        project, "--executor", request.param, "--workers", "1", **env
    ) as server:
        server.client.headers["Authorization"] = f"Bearer {LIMITED_KEY}"
        # Before, the processes that read the credentials have not said what is in them.
        eventually(lambda: server.client.get("/health/ready").is_success)
        yield server


LIMITED_KEY = f"kfs_{'l' * 43}"


def test_paths_words_numbers_and_names_stay(named: RunningServer) -> None:
    said = f"{named.cwd}/conf 12345678 in_space production see https://host/docs/#in-production"
    code = (
        f"import logging; logging.getLogger('probe').warning({said!r}); raise ValueError({said!r})"
    )
    body = named.run(pipeline_names=["execute"], params={"what": code})
    run = named.show(str(body["run_id"]))
    assert run["request"] == {"pipeline_names": ["execute"], "params": {"what": code}}
    error: dict[str, str] = run["error"]  # type: ignore[assignment]
    assert said.rpartition("#")[0] in error["message"]
    assert f'File "{named.cwd}/src/probe/nodes.py"' in error["traceback"]
    log = named.client.get(f"/runs/{run['run_id']}/logs").text
    assert f"WARNING  probe: {said}" in log
    assert f'File "{named.cwd}/src/probe/nodes.py"' in log
    code = "import os; print(os.environ['DB_PASS']); raise ValueError(os.environ['DB_PASS'])"
    body = named.run(pipeline_names=["execute"], params={"what": code})
    assert body["error"]["message"] == "<redacted>"  # type: ignore[index]


def test_credential_that_is_a_name_is_shown_where_names_are_alone(named: RunningServer) -> None:
    body = named.run(pipeline_names=["versioned"], params={"tag": "versioned save_version"})
    run_id = str(body["run_id"])
    for run in (named.show(run_id), *named.all_runs()):
        if run["run_id"] == run_id:
            assert run["request"] == {
                "pipeline_names": ["versioned"],
                "params": {"tag": "<redacted> <redacted>"},
            }
    found = named.client.get("/runs?pipeline=versioned").json()["runs"]
    assert run_id in [run["run_id"] for run in found]
    events = named.client.get(f"/runs/{run_id}/events").json()["events"]
    of_nodes = [each["data"] for each in events if each["type"].startswith(("node", "dataset"))]
    assert {each["node"] for each in of_nodes} == {"save_version"}
    assert {each.get("dataset") for each in of_nodes} == {None, "params:tag", "versioned"}
    assert "save_version" not in named.client.get(f"/runs/{run_id}/logs").text
    snapshot = named.client.get("/snapshot").json()
    assert "versioned" in {each["name"] for each in snapshot["pipelines"]}
    assert snapshot["datasets"]["versioned"]["name"] == "versioned"
    assert "versioned" not in snapshot["datasets"]["versioned"]["filepath"]


def test_none_of_many_credentials_is_forgotten_while_a_run_may_hold_it(
    named: RunningServer,
) -> None:
    path = named.cwd / "conf/base/credentials.yml"
    before = path.read_text()
    until_told = "import time, pathlib\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    log = "import logging; logging.getLogger('probe').warning('it is ' + '{}')"

    def execute(code: str, **params: str) -> str:
        body = named.run(pipeline_names=["execute"], params={"what": code, **params})
        run_id = str(body["run_id"])
        return repr(named.show(run_id)) + named.client.get(f"/runs/{run_id}/logs").text

    try:
        held = named.submit(pipeline_names=["execute"], params={"what": until_told, "tag": FIRST})
        queued = named.submit(pipeline_names=["execute"], params={"what": "0", "tag": LAST})
        for shown in (named.show(held), named.show(queued)):
            assert "canary" not in repr(shown)
        (named.cwd / "go").touch()
        for run in range(6):
            content = {"store": [f"canary-of-run-{run}-{number:03}" for number in range(300)]}
            path.write_text(yaml.safe_dump(content))
            assert "canary" not in execute(log.format(f"canary-of-run-{run}-000"))
        path.write_text(before)
        for known in (FIRST, LAST):
            assert "canary" not in execute(log.format(known), tag=known)
        # No process of a run has that any more, but requests may.
        assert "canary" not in execute("0", tag="canary-of-run-0-000")
    finally:
        path.write_text(before)
    assert "canary-of-run" not in everything(named)
