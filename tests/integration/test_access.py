"""Who comes in, from where, and with what: attacks on a real server over a real socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.test_hosting import nginx_before
from tests.postgresql import PostgreSQL
from tests.servers import (
    ANYONE,
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    eventually,
    free_port,
    kedro_flask_server,
    refused_start,
)

pytestmark = pytest.mark.once

ENTRIES = {
    "admin": {"scopes": ["admin"]},
    "reader": {"scopes": ["read"]},
    "runner": {"scopes": ["run"]},
    "other": {"scopes": ["run"]},
    "limited": {"scopes": ["read", "run"], "pipelines": ["one", "twenty"]},
    "frugal": {"scopes": ["run"], "max_active": 2, "max_queued": 1},
    "single": {"scopes": ["run"], "max_active": 1},
    "patient": {"scopes": ["run"], "max_queued": 1},
    "late": {"scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"},
}
KEYS = {
    # Derived from the name: each process of pytest has to find the same tests.
    name: "kfs_" + base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()[:43]
    for name in ENTRIES
}


def key_file(folder: Path, *names: str) -> Path:
    """Write a file of keys."""
    entries = [
        {"name": name, "sha256": hashlib.sha256(KEYS[name].encode()).hexdigest(), **ENTRIES[name]}
        for name in names or KEYS
    ]
    path = folder / "keys.yml"
    path.write_text(yaml.safe_dump(entries))
    return path


def server_with_keys(project: Path, *options: str, **env: str) -> RunningServer:
    """Return a server on a project that all the keys are for."""
    keys = str(key_file(project))
    return kedro_flask_server(project, *options, KEDRO_SERVER_API_KEYS_FILE=keys, **env)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", folder)
    with server_with_keys(project) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def ask(
    server: RunningServer, who: str, method: str, path: str, **options: object
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEYS[who]}", **options.pop("headers", {})}  # type: ignore[dict-item]
    return httpx.request(method, server.url + path, headers=headers, timeout=60, **options)  # type: ignore[arg-type]


def submit(server: RunningServer, who: str, **request: object) -> httpx.Response:
    prefer = {"Prefer": "respond-async"}
    return ask(server, who, "POST", "/run", json=request, headers=prefer)


def send(url: str, request: str | bytes, timeout_s: float = 10) -> bytes:
    """Send bytes, and return what comes back until the server closes or says no more."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout_s) as connection:
        connection.sendall(request.encode() if isinstance(request, str) else request)
        found = b""
        try:
            while data := connection.recv(65_536):
                found += data
                head, end, body = found.partition(b"\r\n\r\n")
                length = [each for each in head.lower().split(b"\r\n") if b"content-length" in each]
                if end and length and len(body) >= int(length[0].split(b":")[1]):
                    break
        except (TimeoutError, ConnectionError):
            pass
        return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# Who


def test_without_a_key_nothing_but_the_status_is_told(served: RunningServer) -> None:
    with httpx.Client(base_url=served.url) as nobody:
        assert nobody.get("/health").json() == {"status": "healthy"}
        assert nobody.get("/health/live").json() == {"status": "alive"}
        eventually(lambda: nobody.get("/health/ready").json() == {"status": "ready"})
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
            for path in (
                *("/snapshot", "/run", "/runs", "/runs/x", "/runs/x/events", "/runs/x/logs"),
                *("/runs/x/cancel", "/docs", "/openapi.json", "/docs/page/start.js"),
                *("/docs/swagger-ui/swagger-ui.css", "/nothing", "/docs/../run", "/%2e%2e/run"),
                *("//run", "/health/", "/health/x", "/static/x", "/runs/x/"),
            ):
                answer = nobody.request(method, path)
                assert answer.status_code == 401, (method, path, answer.text)
                challenges = answer.headers.get_list("WWW-Authenticate")
                assert challenges[0].startswith("Bearer"), (method, path)
                assert challenges[1].startswith("Basic"), (method, path)
        stream = nobody.get("/runs/x/events", headers={"Accept": "text/event-stream"})
        assert stream.status_code == 401
    assert ask(served, "reader", "GET", "/health").json()["kedro_version"]


def test_kedro_s_own_server_asks_nobody_who_they_are(kedros: RunningServer) -> None:
    assert kedros.client.get("/snapshot").status_code == 200
    assert kedros.run(pipeline_names=["one"])["status"] == "success"


def test_every_route_of_every_blueprint_needs_a_scope(project: Path) -> None:
    (project / "src/probe/api.py").write_text(
        "from flask import Blueprint\n"
        "from flask.views import MethodView\n"
        "from kedro_flask_server import needs\n"
        "bp = Blueprint('api', __name__, static_folder='.', static_url_path='/files')\n"
        "@bp.route('/mine/<int:number>', methods=['GET', 'PUT', 'POST'])\n"
        "def mine(number): return 'mine'\n"
        "@bp.post('/retrain')\n"
        "@needs('run')\n"
        "def retrain(): return 'retrained'\n"
        "@bp.get('/open')\n"
        "def open_page(): return 'open'\n"
        "class Both(MethodView):\n"
        "    def get(self): return 'both'\n"
        "    def delete(self): return 'both'\n"
        "bp.add_url_rule('/both', view_func=Both.as_view('both'))\n"
    )
    script = """
import json, re, sys
from kedro_flask_server import create_http_server
app = create_http_server(sys.argv[1], public_endpoints=["api.open_page"])
keys = json.loads(sys.argv[2])
client = app.test_client()
def ask(method, path, who):
    headers = {"Host": "localhost"} | ({"Authorization": f"Bearer {keys[who]}"} if who else {})
    answer = client.open(path, method=method, headers=headers)
    answer.close()
    return answer.status_code
found = {}
for rule in app.url_map.iter_rules():
    path = re.sub("<int:[^>]+>", "5", rule.rule)
    path = re.sub("<any[^>]+>", "page", path)
    path = re.sub("<[^>]+>", "start.js", path)
    for method in sorted({*rule.methods, "HEAD", "OPTIONS", "PATCH"}):
        for who in (None, "reader", "runner", "admin"):
            found[f"{method} {path} {who}"] = ask(method, path, who)
print(json.dumps(found))
"""
    keys = key_file(project)
    done = subprocess.run(
        [sys.executable, "-c", script, str(project), json.dumps(KEYS)],
        env=environment(KEDRO_SERVER_API_KEYS_FILE=str(keys), PROBE_BLUEPRINTS="probe.api:bp"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    public = {"/health", "/health/live", "/health/ready", "/open"}
    nobodys = {what: status for what, status in found.items() if what.split()[2] == "None"}
    assert len(nobodys) > 60
    for what, status in nobodys.items():
        method, path, _ = what.split()
        if path.startswith("/ui"):  # led to the form, which is open, as its styles are
            is_form = path == "/ui/sign-in" or path.startswith("/ui/files/")
            assert status in ({200, 401, 403, 404, 405} if is_form else {303, 401}), (what, status)
            continue
        is_open = path in public and method in ("GET", "HEAD", "OPTIONS")
        assert (status == 401) is not is_open, (what, status)
    assert found["GET /mine/5 reader"] == 200
    assert found["GET /mine/5 runner"] == 403
    assert found["PUT /mine/5 reader"] == found["PUT /mine/5 runner"] == 403
    assert found["PUT /mine/5 admin"] == 200
    assert found["POST /retrain runner"] == 200
    assert found["POST /retrain reader"] == 403
    assert found["GET /both reader"] == 200
    assert found["DELETE /both reader"] == 403
    assert found["DELETE /both admin"] == 200
    assert found["GET /files/start.js runner"] == 403
    assert found["GET /ui/runs reader"] == found["GET /ui/runs runner"] == 200
    assert found["GET /ui/access reader"] == found["GET /ui/start reader"] == 403
    assert found["POST /ui/start admin"] == 403  # without the form's token


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer kfs_",
        f"Bearer {KEYS['admin'][:-1]}",
        f"Bearer {KEYS['admin']}x",
        f"Bearer {KEYS['admin'].upper()}",
        f"bearer  {KEYS['admin']} {KEYS['admin']}",
        f"Basic {KEYS['admin']}",
        f"Digest {KEYS['admin']}",
        f"Bearer {KEYS['late']}",
        f"Bearer {hashlib.sha256(KEYS['admin'].encode()).hexdigest()}",
        "Bearer kfs_" + "\xff" * 40,
        "Bearer " + "x" * 60_000,
        KEYS["admin"],
    ],
)
def test_what_is_no_key_opens_nothing(served: RunningServer, authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    assert httpx.get(f"{served.url}/runs", headers=headers).status_code == 401  # type: ignore[arg-type]


def test_key_is_taken_as_bearer_and_as_the_password_of_basic(served: RunningServer) -> None:
    assert ask(served, "reader", "GET", "/runs").status_code == 200
    assert httpx.get(f"{served.url}/runs", auth=("anyone", KEYS["reader"])).status_code == 200
    cookie = {"Cookie": f"key={KEYS['reader']}; session={KEYS['reader']}"}
    assert httpx.get(f"{served.url}/runs", headers=cookie).status_code == 401
    body = {"pipeline_names": ["one"]}
    assert httpx.post(f"{served.url}/run", json=body, headers=cookie).status_code == 401
    assert httpx.get(f"{served.url}/runs?api_key={KEYS['reader']}").status_code == 401


def test_scopes_open_what_they_say(served: RunningServer) -> None:
    run_id = submit(served, "runner", pipeline_names=["one"]).json()["run_id"]
    expected = {
        ("GET", "/snapshot"): {"reader": 200, "runner": 200, "admin": 200},
        ("POST", "/run"): {"reader": 403, "runner": 200, "admin": 200},
        ("GET", "/runs"): {"reader": 200, "runner": 200, "admin": 200},
        ("GET", f"/runs/{run_id}"): {"reader": 200, "runner": 200, "other": 404, "admin": 200},
        ("GET", f"/runs/{run_id}/events"): {"reader": 200, "other": 404, "admin": 200},
        ("GET", f"/runs/{run_id}/logs"): {"reader": 200, "other": 404, "admin": 200},
        ("POST", f"/runs/{run_id}/cancel"): {"reader": 403, "other": 404},
        ("GET", "/docs"): {"reader": 200, "runner": 200},
        ("GET", "/nothing"): {"reader": 404, "runner": 404},
    }
    for (method, path), by_key in expected.items():
        for who, status in by_key.items():
            body = {"json": {"pipeline_names": ["one"]}} if path == "/run" else {}
            assert ask(served, who, method, path, **body).status_code == status, (path, who)
    accept = {"Accept": "text/event-stream"}
    path = f"/runs/{run_id}/events"
    assert ask(served, "other", "GET", path, headers=accept).status_code == 404
    assert "run.finished" in ask(served, "runner", "GET", path, headers=accept).text
    own = ask(served, "other", "GET", "/runs").json()["runs"]
    assert run_id not in [run["run_id"] for run in own]
    [run] = [
        run
        for run in ask(served, "runner", "GET", "/runs").json()["runs"]
        if run["run_id"] == run_id
    ]
    assert run["submitted_by"] == "runner"


def test_another_s_run_is_cancelled_by_an_admin_alone(served: RunningServer) -> None:
    mine = submit(served, "runner", pipeline_names=["sleep"], params={"seconds": 60})
    path = f"/runs/{mine.json()['run_id']}/cancel"
    assert ask(served, "other", "POST", path).status_code == 404
    assert ask(served, "limited", "POST", path).status_code == 404
    assert ask(served, "runner", "POST", path).status_code == 202
    theirs = submit(served, "other", pipeline_names=["sleep"], params={"seconds": 60})
    assert ask(served, "admin", "POST", f"/runs/{theirs.json()['run_id']}/cancel").is_success


def test_key_limited_to_pipelines_sees_and_runs_nothing_else(served: RunningServer) -> None:
    for names, status in ((["one"], 202), (["twenty", "one"], 202), (["one", "fail"], 403)):
        assert submit(served, "limited", pipeline_names=names).status_code == status
    assert submit(served, "limited").status_code == 403  # __default__
    hidden = submit(served, "admin", pipeline_names=["fail"]).json()["run_id"]
    mixed = submit(served, "admin", pipeline_names=["one", "fail"]).json()["run_id"]
    shown = submit(served, "admin", pipeline_names=["one"]).json()["run_id"]
    listed = [run["run_id"] for run in ask(served, "limited", "GET", "/runs").json()["runs"]]
    assert shown in listed
    assert hidden not in listed
    assert mixed not in listed
    assert ask(served, "limited", "GET", f"/runs/{mixed}").status_code == 404
    assert ask(served, "limited", "GET", f"/runs/{shown}").status_code == 200
    assert ask(served, "limited", "POST", f"/runs/{shown}/cancel").status_code in (403, 409)
    snapshot = ask(served, "limited", "GET", "/snapshot").json()
    assert {each["name"] for each in snapshot["pipelines"]} == {"one", "twenty"}
    assert "secret_place" not in snapshot["datasets"]
    assert snapshot["parameters"] == ["tag"]


def test_idempotency_keys_are_each_caller_s_own(served: RunningServer) -> None:
    key = {"Idempotency-Key": secrets.token_hex(8), "Prefer": "respond-async"}
    body = {"pipeline_names": ["one"]}
    ids = [
        ask(served, who, "POST", "/run", json=body, headers=key).json()["run_id"]
        for who in ("runner", "other", "runner")
    ]
    assert ids[0] == ids[2] != ids[1]


def test_quota_is_answered_with_429_and_counted_from_the_runs(served: RunningServer) -> None:
    sleeping = {"pipeline_names": ["sleep"], "params": {"seconds": 60}}
    first = submit(served, "frugal", **sleeping).json()["run_id"]
    eventually(lambda: ask(served, "frugal", "GET", f"/runs/{first}").json()["status"] == "running")
    second = submit(served, "frugal", **sleeping).json()["run_id"]
    refused = submit(served, "frugal", **sleeping)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "max_" in refused.json()["detail"]
    for run_id in (first, second):
        ask(served, "frugal", "POST", f"/runs/{run_id}/cancel")
        wait = {"Prefer": "wait=20"}
        ask(served, "frugal", "GET", f"/runs/{run_id}", headers=wait)
    assert ask(served, "frugal", "POST", "/run", json={"pipeline_names": ["one"]}).is_success


def test_active_and_queued_runs_are_limited_each_by_itself(project: Path) -> None:
    with server_with_keys(project, "--workers", "1") as server:
        sleeping = {"pipeline_names": ["sleep"], "params": {"seconds": 60}}
        running = submit(server, "patient", **sleeping).json()["run_id"]
        eventually(
            lambda: ask(server, "patient", "GET", f"/runs/{running}").json()["status"] == "running"
        )
        second = submit(server, "patient", **sleeping)
        assert second.status_code == 202
        refused = submit(server, "patient", **sleeping)
        assert refused.status_code == 429
        assert "max_queued" in refused.json()["detail"]
        queued = submit(server, "single", **sleeping).json()["run_id"]
        refused = submit(server, "single", **sleeping)
        assert refused.status_code == 429
        assert "max_active" in refused.json()["detail"]
        assert ask(server, "single", "POST", f"/runs/{queued}/cancel").is_success
        for run_id in (second.json()["run_id"], running):  # the end would wait for them
            ask(server, "patient", "POST", f"/runs/{run_id}/cancel")
        again = submit(server, "single", **sleeping)
        assert again.status_code == 202
        ask(server, "single", "POST", f"/runs/{again.json()['run_id']}/cancel")
        audit = keys_command(project, "audit").stdout
        assert "single  127.0.0.1  run.submitted" in audit, audit
        assert "single  127.0.0.1  run.cancelled" in audit, audit


def test_full_queue_of_one_key_does_not_keep_another_s_runs_from_starting(project: Path) -> None:
    with server_with_keys(project, "--workers", "2") as server:
        sleeping = {"pipeline_names": ["sleep"], "params": {"seconds": 1.5}}
        many = [submit(server, "runner", **sleeping).json()["run_id"] for _ in range(20)]
        began = time.monotonic()
        mine = ask(server, "other", "POST", "/run", json={"pipeline_names": ["one"]})
        assert mine.json()["status"] == "success"
        assert time.monotonic() - began < 10  # a tenth of what is queued before it
        waiting = [ask(server, "runner", "GET", f"/runs/{each}").json() for each in many]
        assert sum(run["status"] == "queued" for run in waiting) > 10
        for each in many:
            ask(server, "runner", "POST", f"/runs/{each}/cancel")


# How keys come and go


def keys_command(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro server` with arguments."""
    return subprocess.run(
        [sys.executable, "-m", "kedro", "server", *arguments],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def listed_keys(project: Path) -> list[str]:
    """Return what `kedro server keys list` says of each key; Kedro logs around it."""
    lines = keys_command(project, "keys", "list").stdout.splitlines()
    return [line for line in lines if "  scope=" in line]


def test_keys_are_made_listed_and_revoked_on_the_command_line(project: Path) -> None:
    keys = partial(keys_command, project)
    with kedro_flask_server(project) as server:
        assert server.client.get("/runs").status_code == 200  # there is no key yet
        made = keys(
            "keys", "create", "ci", "--scope", "run", "--expires", "90d", "--max-queued", "5"
        )
        assert made.returncode == 0, made.stderr
        secret = made.stdout.splitlines()[-1]
        assert secret.startswith("kfs_")
        eventually(lambda: server.client.get("/runs").status_code == 401, timeout_s=5)
        bearer = {"Authorization": f"Bearer {secret}"}
        body = {"pipeline_names": ["one"]}
        assert server.client.post("/run", json=body, headers=bearer).json()["status"] == "success"
        refused = server.client.post("/run", json=body, headers={"Authorization": "Bearer kfs_x"})
        assert refused.status_code == 401
        again = keys("keys", "create", "ci", "--scope", "read")
        assert again.returncode == 1
        assert "There is a key 'ci' already" in again.stderr
        listed = keys("keys", "list").stdout
        assert "ci  active  scope=run" in listed
        assert secret not in listed
        assert keys("keys", "revoke", "ci").returncode == 0
        assert keys("keys", "revoke", "ci").returncode == 1
        eventually(
            lambda: server.client.get("/runs", headers=bearer).status_code == 401, timeout_s=5
        )
        assert server.client.get("/runs").status_code == 401  # to revoke opens nothing
        stored = b"".join(
            path.read_bytes() for path in (project / ".kedro_server").iterdir() if path.is_file()
        )
        assert secret.encode() not in stored
        assert secret not in server.log
        foreign = {"Host": "evil.example"}
        assert server.client.get("/runs", headers=foreign).status_code == 403
    audit = keys("audit").stdout
    for what in ("key.created  ci", "key.revoked  ci", "run.submitted", "request.refused"):
        assert what in audit, audit
    assert "POST /run" in audit
    assert "evil.example" in audit


def test_key_for_a_file_is_stored_nowhere_and_counts_in_the_file(project: Path) -> None:
    options = ("--scope", "run", "--pipelines", "one, twenty", "--to-file", "keys.yml")
    made = keys_command(project, "keys", "create", "mounted", *options)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.split()[-1]
    assert secret.startswith("kfs_")
    assert secret not in (project / "keys.yml").read_text()
    again = keys_command(project, "keys", "create", "mounted", *options)
    assert again.returncode == 1
    assert "There is a key 'mounted' already" in again.stderr
    assert listed_keys(project) == []
    assert keys_command(project, "audit").stdout.count("key.created  mounted (keys.yml)") == 1
    file = str(project / "keys.yml")
    with kedro_flask_server(project, KEDRO_SERVER_API_KEYS_FILE=file) as server:
        bearer = {"Authorization": f"Bearer {secret}"}
        statuses = [
            server.client.post("/run", json={"pipeline_names": [name]}, headers=bearer).status_code
            for name in ("one", "where")
        ]
        assert statuses == [200, 403]


def test_last_use_of_a_key_is_listed_and_an_end_too(project: Path) -> None:
    made = keys_command(project, "keys", "create", "ci", "--scope", "read", "--pipelines", "one")
    short = keys_command(project, "keys", "create", "past", "--scope", "read", "--expires", "0h")
    assert made.returncode == short.returncode == 0, made.stderr + short.stderr
    assert "last used=-" in listed_keys(project)[0]
    with kedro_flask_server(project) as server:
        bearer = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
        assert server.client.get("/runs", headers=bearer).status_code == 200
        past = {"Authorization": f"Bearer {short.stdout.split()[-1]}"}
        assert server.client.get("/runs", headers=past).status_code == 401
        eventually(lambda: "last used=-" not in listed_keys(project)[0])
    first, second = listed_keys(project)
    assert first.startswith("ci  active  scope=read  pipelines=one  expires=-  last used=2")
    assert second.startswith("past  expired  scope=read  pipelines=all  expires=2")


def test_keys_hold_while_the_database_hangs(
    project: Path, tmp_path: Path, postgresql_server: PostgreSQL
) -> None:
    settings = {
        "KEDRO_SERVER_DATABASE_URL": postgresql_server.new_database(),
        "KEDRO_SERVER_API_KEYS_FILE": str(key_file(tmp_path, "reader")),
    }
    with kedro_flask_server(project, **settings) as server:
        assert ask(server, "reader", "GET", "/snapshot").status_code == 200
        postgresql_server.pause()
        try:
            time.sleep(1.5)  # the keys are to be read again now
            ask(server, "reader", "GET", "/snapshot")  # the one that finds out may wait
            began = time.monotonic()
            assert server.client.get("/health").status_code == 200
            assert ask(server, "reader", "GET", "/snapshot").status_code == 200
            assert ask(server, "admin", "GET", "/snapshot").status_code == 401
            assert time.monotonic() - began < 3  # the database answers nothing all this time
        finally:
            postgresql_server.resume()


@pytest.mark.once
def test_file_of_keys_is_read_again_when_it_changes(project: Path) -> None:
    keys = key_file(project, "reader")
    with kedro_flask_server(project, KEDRO_SERVER_API_KEYS_FILE=str(keys)) as server:
        assert ask(server, "reader", "GET", "/runs").status_code == 200
        assert ask(server, "admin", "GET", "/runs").status_code == 401
        key_file(project, "admin")
        eventually(lambda: ask(server, "admin", "GET", "/runs").status_code == 200, timeout_s=5)
        assert ask(server, "reader", "GET", "/runs").status_code == 401
        keys.write_text("no list of keys")
        time.sleep(1.5)
        assert ask(server, "admin", "GET", "/runs").status_code == 200
        server.wait_for_line("The keys that it held before still count")
        keys.unlink()
        time.sleep(1.5)
        assert server.client.get("/runs").status_code == 401


def test_server_that_others_reach_does_not_start_without_keys(project: Path) -> None:
    done = refused_start(project, "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "kedro server keys create" in done.stderr
    assert "--allow-anonymous" in done.stderr


@pytest.mark.once
def test_anonymous_callers_from_elsewhere_are_let_in_on_purpose_and_told_little(
    project: Path,
) -> None:
    with kedro_flask_server(project, "--host", "0.0.0.0", "--allow-anonymous") as server:
        server.wait_for_line("All who reach this server may run its pipelines")
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=url, timeout=60) as anyone:
            failed = anyone.post("/run", json={"pipeline_names": ["fail"]}).json()
            assert failed["error"]["type"] == "ValueError"
            assert "not shown" in failed["error"]["message"]
            run = anyone.get(f"/runs/{failed['run_id']}").json()
            assert run["error"].get("traceback") is None
            events = anyone.get(f"/runs/{failed['run_id']}/events").text
            assert "Traceback" not in events
            assert '"type":"log"' not in events.replace(" ", "")
            assert anyone.get(f"/runs/{failed['run_id']}/logs").text == ""
            assert anyone.get("/runs", headers={"Host": "evil.example"}).status_code == 403
            cross = {"Origin": "https://evil.example"}
            assert anyone.post("/run", json={}, headers=cross).status_code == 403


@pytest.mark.once
def test_under_another_wsgi_server_nobody_is_let_in_by_accident(project: Path) -> None:
    script = """
import sys
from kedro_flask_server import create_http_server
for settings in ({}, {"allow_anonymous": True}):
    client = create_http_server(sys.argv[1], **settings).test_client()
    for path in ("/health", "/runs"):
        answer = client.get(path)
        print(path, answer.status_code, answer.get_data(as_text=True).strip())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(project)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("/")]
    assert [line.split()[1] for line in lines] == ["200", "401", "200", "200"]
    assert "kedro server keys create" in lines[1]
    assert "allow_anonymous" in lines[1]


# Where from


HOSTS = [
    ("localhost", 200),
    ("LOCALHOST:{port}", 200),
    ("localhost.", 200),
    ("127.0.0.1:{port}", 200),
    ("[::1]:{port}", 200),
    ("[::1]", 200),
    ("evil.example", 403),
    ("localhost.evil.example", 403),
    ("evil.example:{port}", 403),
    ("127.0.0.1.evil.example", 403),
    ("localhost, evil.example", 403),
    ("localhost\r\nHost: evil.example", 403),
    ("evil.example\r\nHost: localhost", 403),
    ("localhost\r\nHost: localhost", 403),
    ("user@localhost", 403),
    ("localhost/evil", 403),
    ("localhost:port", 403),
    ("0", 403),
    ("127.1", 403),
    ("", 403),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_only_known_hosts_are_served(ours: RunningServer, host: str, status: int) -> None:
    port = urlsplit(ours.url).port
    named = host.format(port=port)
    answer = send(ours.url, f"GET /runs HTTP/1.1\r\nHost: {named}\r\n\r\n")
    assert status_of(answer) == status, answer[:300]
    if status == 403:
        assert b'{"detail":' in answer
    health = send(ours.url, f"GET /health HTTP/1.1\r\nHost: {named}\r\n\r\n")
    assert status_of(health) == 200


def test_request_without_a_host_is_refused(ours: RunningServer) -> None:
    assert status_of(send(ours.url, "GET /runs HTTP/1.0\r\n\r\n")) == 403
    assert status_of(send(ours.url, "GET http://localhost/runs HTTP/1.1\r\n\r\n")) == 403
    evil = "GET http://evil.example/runs HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert b"evil" not in send(ours.url, evil)


CROSS_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "file://"},
    {"Origin": "HTTPS://EVIL.EXAMPLE"},
    {"Origin": "http://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_other_sites_pages_start_no_run(
    ours: RunningServer, kedros: RunningServer, headers: dict[str, str]
) -> None:
    body = {"pipeline_names": ["one"]}
    refused = ours.client.post("/run", json=body, headers=headers)
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert ours.client.options("/run", headers=headers).status_code == 403
    # Kedro's own server runs it.
    assert kedros.client.post("/run", json=body, headers=headers).json()["status"] == "success"


def test_own_pages_and_programs_start_runs(ours: RunningServer) -> None:
    body = {"pipeline_names": ["one"]}
    for headers in (
        {"Origin": ours.url},
        {"Origin": ours.url, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {},
    ):
        assert ours.client.post("/run", json=body, headers=headers).status_code == 200
    read = ours.client.get("/runs", headers={"Origin": "https://evil.example"})
    assert read.status_code == 200
    assert "Access-Control-Allow-Origin" not in read.headers


def test_foreign_host_runs_pipelines_on_kedro_s_own_server(kedros: RunningServer) -> None:
    headers = {"Host": "evil.example"}
    answer = kedros.client.post("/run", json={"pipeline_names": ["one"]}, headers=headers)
    assert answer.json()["status"] == "success"


@pytest.mark.once
def test_named_origins_and_hosts_are_served(project: Path) -> None:
    with server_with_keys(
        project,
        KEDRO_SERVER_ALLOWED_HOSTS='["kedro.example.com", ".internal"]',
        KEDRO_SERVER_ALLOWED_ORIGINS='["https://portal.example.com"]',
        KEDRO_SERVER_TRUSTED_PROXIES='["127.0.0.1"]',
    ) as server:
        portal = {"Host": "kedro.example.com", "Origin": "https://portal.example.com"}
        asked = {"Access-Control-Request-Method": "POST"}
        preflight = httpx.options(f"{server.url}/run", headers={**portal, **asked})
        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://portal.example.com"
        assert "Access-Control-Allow-Credentials" not in preflight.headers
        run = ask(
            server, "runner", "POST", "/run", json={"pipeline_names": ["one"]}, headers=portal
        )
        assert run.json()["status"] == "success"
        assert run.headers["Access-Control-Allow-Origin"] == "https://portal.example.com"
        for host, status in (("a.b.internal:8000", 200), ("internal", 403), ("[::1", 403)):
            found = ask(server, "reader", "GET", "/runs", headers={"Host": host})
            assert found.status_code == status, host
        forwarded = {
            "Host": "kedro.example.com",
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Prefix": "/kedro",
            "X-Forwarded-Host": "evil.example",
        }
        accepted = ask(
            server,
            "runner",
            "POST",
            "/run",
            json={"pipeline_names": ["one"]},
            headers={**forwarded, "Prefer": "respond-async"},
        )
        assert accepted.headers["Location"].startswith("/kedro/runs/")
        audit = keys_command(project, "audit").stdout
        assert "runner  203.0.113.9  run.submitted" in audit, audit


def test_forwarded_headers_of_anyone_are_dropped(served: RunningServer) -> None:
    headers = {
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Prefer": "respond-async",
    }
    body = {"pipeline_names": ["one"]}
    accepted = ask(served, "runner", "POST", "/run", json=body, headers=headers)
    assert accepted.headers["Location"].startswith("/runs/")


PROXIED = [
    {"Forwarded": "for=203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"X-Real-IP": "203.0.113.9"},
    {"Via": "1.1 proxy"},
]


@pytest.mark.parametrize("headers", PROXIED)
def test_request_from_an_unknown_proxy_needs_a_key_on_loopback_too(
    ours: RunningServer, headers: dict[str, str]
) -> None:
    refused = ours.client.post("/run", json={"pipeline_names": ["one"]}, headers=headers)
    assert refused.status_code == 401
    assert "proxy" in refused.json()["detail"]
    assert ours.client.get("/health", headers=headers).status_code == 200


NGINX_AS_IT_COMES = """
server {
    listen 80;
    location / { proxy_pass http://127.0.0.1:8000; %s }
}
"""


@pytest.mark.parametrize(
    "more", ["", "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr;"]
)
def test_nginx_with_its_defaults_opens_no_keyless_server(
    ours: RunningServer, tmp_path: Path, more: str
) -> None:
    with nginx_before(ours, tmp_path, NGINX_AS_IT_COMES % more) as url:
        refused = httpx.post(f"{url}/run", json={"pipeline_names": ["one"]})
        assert refused.status_code == 401, refused.text
        assert httpx.get(f"{url}/health").status_code == 200
    assert ours.run(pipeline_names=["one"])["status"] == "success"


def test_loopback_names_are_served_to_this_machine_beside_others(project: Path) -> None:
    with kedro_flask_server(
        project,
        KEDRO_SERVER_ALLOW_ANONYMOUS="true",
        KEDRO_SERVER_ALLOWED_HOSTS='["kedro.example.com"]',
        KEDRO_SERVER_TRUSTED_PROXIES='["127.0.0.1"]',
    ) as server:
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        for host, headers, status in (
            ("kedro.example.com", {}, 200),
            ("kedro.example.com", forwarded, 200),
            ("127.0.0.1:8000", {}, 200),
            ("localhost", {}, 200),
            ("localhost", forwarded, 403),
            ("evil.example", {}, 403),
        ):
            answer = server.client.get("/runs", headers={"Host": host, **headers})
            assert answer.status_code == status, (host, headers)
        assert "allowed_hosts" in answer.json()["detail"]


# With what


INTERPOLATIONS = [
    ({"tag": "\ufdd0{x}"}, ["body", "params", "tag"]),
    ({"tag": "${oc.env:HOME}"}, ["body", "params", "tag"]),
    ({"tag": "a ${x} b"}, ["body", "params", "tag"]),
    ({"tag": "???"}, ["body", "params", "tag"]),
    ({"tag": "\\\\${x}"}, ["body", "params", "tag"]),
    ({"a": [{"b": ["", "${x}"]}]}, ["body", "params", "a", 0, "b", 1]),
    ({"${x}": 1}, ["body", "params", "${x}"]),
    ({"a": {"???": 1}}, ["body", "params", "a", "???"]),
]


@pytest.mark.parametrize(("params", "place"), INTERPOLATIONS)
def test_parameters_that_would_be_resolved_are_refused(
    ours: RunningServer, params: dict[str, object], place: list[object]
) -> None:
    answer = ours.client.post("/run", json={"pipeline_names": ["one"], "params": params})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == place


def test_kedro_s_own_server_resolves_parameters(kedros: RunningServer) -> None:
    kedros.run(params={"tag": "resolved", "nested": {"tag": "${tag}"}})
    assert '"nested": "resolved"' in (kedros.cwd / "data/echo/resolved.json").read_text()


@pytest.mark.parametrize(
    "text", ["tag=${oc.env:HOME}", "a.b=x${y}", "tag=???", "a=1,b= ???", r"\${x}=1", "???=1"]
)
def test_snapshot_s_parameters_that_would_be_resolved_are_refused(
    ours: RunningServer, text: str
) -> None:
    answer = ours.client.get("/snapshot", params={"params": text})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "params"]


@pytest.mark.parametrize("version", ["../../etc", "a/b", "", "..", "a\\b", "x" * 129, "\u0660"])
def test_version_that_is_no_name_is_refused(ours: RunningServer, version: str) -> None:
    body = {"pipeline_names": ["one"], "load_versions": {"echo": version}}
    answer = ours.client.post("/run", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "load_versions", "echo"]


def test_kedro_s_own_server_takes_any_version(kedros: RunningServer) -> None:
    body = kedros.run(pipeline_names=["one"], load_versions={"versioned": "../../etc"})
    assert body["status"] == "success"


def test_version_of_an_unknown_dataset_is_a_clear_failure(ours: RunningServer) -> None:
    body = {"pipeline_names": ["one"], "load_versions": {"nobody": "2024-01-01T00.00.00.000Z"}}
    answer = ours.client.post("/run", json=body).json()
    assert answer["status"] == "failure"
    assert "nobody" in answer["error"]["message"]


@pytest.mark.parametrize("run_id", ["..", "../runs", "%2e%2e", "x" * 5000, "1'--", "\u0660", "%00"])
def test_ids_in_paths_are_run_ids(ours: RunningServer, run_id: str) -> None:
    answer = ours.client.get(f"/runs/{run_id}")
    assert answer.status_code in (404, 200)  # ".." is the path without it
    assert "detail" in answer.json() or "runs" in answer.json()


@pytest.mark.once
def test_what_is_closed_by_default_can_be_opened_and_closed_further(project: Path) -> None:
    with kedro_flask_server(
        project,
        KEDRO_SERVER_ALLOW_PARAM_INTERPOLATION="true",
        KEDRO_SERVER_EXPOSE_ERROR_MESSAGES="false",
    ) as server:
        server.run(pipeline_names=["where"], params={"where": "${tag}", "tag": "resolved"})
        assert json.loads((project / "data/stored_a.json").read_text()) == {"where": "resolved"}
        failed = server.run(pipeline_names=["fail"])
        assert set(failed["error"]) == {"type", "message"}  # type: ignore[call-overload]
        assert "not shown" in failed["error"]["message"]  # type: ignore[index]
        path = f"/runs/{failed['run_id']}"
        stream = {"Accept": "text/event-stream"}
        for answer in (
            server.client.get(path),
            server.client.get(f"{path}/events"),
            server.client.get(f"{path}/events", headers=stream),
            server.client.get(f"{path}/logs"),
            server.client.get(f"{path}/logs", headers=stream),
        ):
            assert "Traceback" not in answer.text
            assert "ValueError: " not in answer.text


@pytest.mark.once
def test_mounted_secret_is_read_again_when_its_link_changes(project: Path, tmp_path: Path) -> None:
    """Kubernetes changes all files of a secret at once, by a link to their folder."""
    mount = tmp_path / "mount"
    for version, name in (("v1", "reader"), ("v2", "admin")):
        (mount / version).mkdir(parents=True)
        key_file(mount / version, name)
    (mount / "data").symlink_to("v1")
    (mount / "keys.yml").symlink_to("data/keys.yml")
    with kedro_flask_server(project, KEDRO_SERVER_API_KEYS_FILE=str(mount / "keys.yml")) as server:
        assert ask(server, "reader", "GET", "/runs").status_code == 200
        (mount / "next").symlink_to("v2")
        (mount / "next").replace(mount / "data")
        (mount / "v1/keys.yml").unlink()
        eventually(lambda: ask(server, "admin", "GET", "/runs").status_code == 200, timeout_s=5)
        assert ask(server, "reader", "GET", "/runs").status_code == 401


def test_pages_are_protected(ours: RunningServer) -> None:
    page = ours.client.get("/docs").headers
    assert page["Content-Security-Policy"] == (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
    )
    for path in ("/docs", "/docs/page/start.js", "/runs", "/health"):
        assert ours.client.get(path).headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in ours.client.get(path).headers


# Other schemes, other servers


@pytest.mark.once
def test_documented_authenticator_takes_tokens_and_nothing_else(project: Path) -> None:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = own.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    recipe = Path(__file__).parents[2] / "docs/recipes/company_login.py"
    (project / "src/probe/auth.py").write_text(recipe.read_text())
    settings = project / "src/probe/settings.py"
    settings.write_text(
        f'{settings.read_text()}\nSERVER_AUTHENTICATOR = "probe.auth:CompanyLogin"\n'
    )
    soon = int(time.time()) + 600
    good = {"iss": "https://login.example.com", "aud": "kedro", "exp": soon, "sub": "ann"}

    def token(key: object = own, algorithm: str = "RS256", **claims: object) -> str:
        return jwt.encode({**good, **claims}, key, algorithm)  # type: ignore[arg-type]

    bad = {
        "of another": token(other),
        "unsigned": jwt.encode(good, None, "none"),
        "signed with the public key": _with_hmac(good, public),
        "expired": token(exp=1),
        "of another issuer": token(iss="https://evil.example"),
        "for another audience": token(aud="other"),
        "cut": token()[:-5],
        "none": "a=b",
    }
    with kedro_flask_server(project, COMPANY_PUBLIC_KEY=public.decode()) as server:

        def status(text: str, method: str = "GET", path: str = "/runs") -> int:
            headers = {"Authorization": f"Bearer {text}"}
            body = {"pipeline_names": ["one"]} if method == "POST" else None
            return server.client.request(method, path, headers=headers, json=body).status_code

        assert server.client.get("/runs").status_code == 401
        for why, text in bad.items():
            assert status(text) == 401, why
        assert status(token(role="analyst")) == 200
        assert status(token(role="analyst"), "POST", "/run") == 403
        assert status(token(role="data-engineer"), "POST", "/run") == 200
        assert status(token(role="unknown")) == 403
        headers = {"Authorization": f"Bearer {token(role='analyst')}"}
        assert (
            server.client.get("/runs", headers=headers).json()["runs"][0]["submitted_by"] == "ann"
        )


def _with_hmac(claims: dict[str, object], public: bytes) -> str:
    """Sign with the public key as if it were a shared secret, which PyJWT itself refuses to do."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encoded(b'{"alg":"HS256","typ":"JWT"}') + b"." + encoded(json.dumps(claims).encode())
    signature = hmac.new(public, head, "sha256").digest()
    return (head + b"." + encoded(signature)).decode()


POST = b"POST /run HTTP/1.1\r\nHost: localhost\r\n"
MALFORMED = [
    b"GET /runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /runs HTTP/1.1\r\n\r\n",
    b"GET /runs HTTP/1.0\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET http://evil.example/runs HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /runs HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET  /runs  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /runs\r\n\r\n",
    b"get /runs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /runs\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost: localhost\r\nX\x00: y\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET /runs HTTP/1.1\r\n Host: localhost\r\n\r\n",
    b"GET /runs HTTP/1.1\nHost: localhost\n\n",
    POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    POST + b"Content-Length: +2\r\n\r\n{}",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2;a=\x00\r\n{}\r\n0\r\n\r\n",
    POST + b"Content-Type: application/json\r\n"
    b"Content-Length: 5\r\n\r\n{}GET /runs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /runs?\xff\xfe=%zz&limit=1e9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /runs/%2e%2e%2frun HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //evil.example/%2e%2e/docs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    b"TRACE /runs HTTP/1.1\r\nHost: localhost\r\nX-Secret: canary\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    b"\x00" * 100 + b"\r\n\r\n",
    b"\r\n" * 1000,
]
"""Requests that are none, or that two programs could read in two ways."""


@pytest.mark.once
@pytest.mark.parametrize("way", ["waitress", "gunicorn", "nginx and waitress"])
def test_malformed_requests_open_nothing_and_break_nothing(
    project: Path, tmp_path: Path, way: str
) -> None:
    keys = {"KEDRO_SERVER_API_KEYS_FILE": str(key_file(tmp_path))}
    port = free_port()
    if way == "gunicorn":
        app = "kedro_flask_server:create_http_server()"
        command = [sys.executable, "-m", "gunicorn", app, "--threads", "8"]
        command += ["--bind", f"127.0.0.1:{port}"]
        env = {**keys, "KEDRO_PROJECT_PATH": str(project)}
        server = RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}", env=env)
    else:
        proxies = '["127.0.0.1"]' if "nginx" in way else "[]"
        server = kedro_flask_server(project, KEDRO_SERVER_TRUSTED_PROXIES=proxies, **keys)
    with server, ExitStack() as stack:
        url = server.url
        if "nginx" in way:
            url = stack.enter_context(nginx_before(server, tmp_path))
        for malformed in MALFORMED:
            request = malformed.replace(b" /run", b" /kedro/run") if "nginx" in way else malformed
            answer = send(url, request, timeout_s=1)
            for found in re.findall(rb"^HTTP/1\.\d (\d+)", answer, re.MULTILINE):
                status = int(found)
                # nginx and gunicorn say of what they do not know that they have not built it.
                highest = 499 if way == "waitress" else 505
                assert 400 <= status <= highest, (request, answer)
                assert status not in (500, 502), (request, answer)
            assert b"canary" not in answer
            assert b'"runs"' not in answer, request
            assert b'"run_id"' not in answer, request
        assert ask(server, "reader", "GET", "/runs").json() == {"runs": [], "next": None}
        assert "Traceback" not in server.log


@pytest.mark.once
@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_gunicorn_serves_the_same_hosts(gunicorn: RunningServer, host: str, status: int) -> None:
    port = urlsplit(gunicorn.url).port
    request = f"GET /runs HTTP/1.1\r\nHost: {host.format(port=port)}\r\n\r\n"
    answer = status_of(send(gunicorn.url, request))
    assert answer == status or (status == 403 and answer == 400)  # gunicorn's own refusal


@pytest.mark.once
def test_gunicorn_starts_no_run_for_other_sites_pages(gunicorn: RunningServer) -> None:
    body = {"pipeline_names": ["one"]}
    foreign = {"Origin": "https://evil.example"}
    assert gunicorn.client.post("/run", json=body, headers=foreign).status_code == 403
    assert gunicorn.client.post("/run", json=body).status_code == 200


@pytest.fixture(scope="module")
def gunicorn(folder: Path) -> Iterator[RunningServer]:
    project = copy_project(PROJECTS / "probe", folder / "gunicorn")
    port = free_port()
    app = "kedro_flask_server:create_http_server()"
    command = [sys.executable, "-m", "gunicorn", app, "--threads", "8"]
    command += ["--bind", f"127.0.0.1:{port}"]
    env = {"KEDRO_PROJECT_PATH": str(project), **ANYONE}
    with RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}", env=env) as server:
        yield server
