"""Other WSGI servers, a prefix, nginx, and what users add to the application."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from tests.conftest import require
from tests.servers import (
    ANYONE,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    free_port,
    kedro_flask_server,
    read_where,
    refused_start,
)

NGINX_CONFIGURATION = Path(__file__).parents[2] / "docs" / "nginx.conf"

OWN_SERVER = """
import sys
import waitress
from flask import Blueprint
from kedro.framework.project import pipelines
from kedro_flask_server import create_http_server

app = create_http_server(
    project_path=sys.argv[1], env="prod", workers=2, allow_anonymous=True
)

@app.get("/pipelines")
def list_pipelines():
    '''List the pipelines.

    By name, with the number of their nodes.
    '''
    return {name: len(pipeline.nodes) for name, pipeline in pipelines.items()}

bp = Blueprint("own", __name__, url_prefix="/own")

@bp.route("/things/<int:number>", methods=["GET", "DELETE"])
def thing(number):
    '''Handle a thing.
    ---
    get:
      tags: [things]
      responses: {200: {description: The thing.}}
    '''
    return {"number": number, "runs": type(app.extensions["kedro_flask_server"].runs).__name__}

@bp.get("/numpy")
def numpy_style():
    '''Turn a --- b into c.

    Parameters
    ----------
    none : nothing
    '''
    return "numpy"

@bp.get("/broken")
def broken_yaml():
    '''Break.

    ---
    tags: [a
    '''
    return "broken"

@bp.get("/undocumented")
def undocumented():
    return "hello"

app.register_blueprint(bp)

class Middleware:
    def __init__(self, wsgi):
        self.wsgi = wsgi
    def __call__(self, environ, start_response):
        def start(status, headers, *rest):
            return start_response(status, [*headers, ("X-Middleware", "yes")], *rest)
        return self.wsgi(environ, start)

app.wsgi_app = Middleware(app.wsgi_app)
waitress.serve(app, host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def test_application_takes_routes_blueprints_and_middleware(project: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", OWN_SERVER, str(project), str(port)]
    with RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}") as server:
        listed = server.client.get("/pipelines")
        assert listed.json()["twenty"] == 20
        assert listed.headers["X-Middleware"] == "yes"
        assert server.client.get("/own/things/3").json() == {"number": 3, "runs": "RunService"}
        missing = server.client.get("/own/nope")
        assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
        assert server.run(pipeline_names=["where"])["status"] == "success"
        document = server.client.get("/openapi.json").json()
    assert read_where(project) == "prod"
    described = document["paths"]["/pipelines"]["get"]
    assert described["summary"] == "List the pipelines"
    assert described["description"] == "By name, with the number of their nodes."
    things = document["paths"]["/own/things/{number}"]
    assert things["get"]["tags"] == ["things"]
    assert things["parameters"][0]["schema"] == {"type": "integer"}
    assert document["paths"]["/own/numpy"]["get"]["summary"] == "Turn a --- b into c"
    assert document["paths"]["/own/broken"]["get"]["summary"] == "Break"
    assert "/own/undocumented" not in document["paths"]
    assert "/docs" not in document["paths"]


def test_documented_program_works_as_printed(project: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    [program] = [
        each for each in re.findall(r"```python\n(.*?)```", page, re.S) if "__main__" in each
    ]
    port = free_port()
    for printed, here in (
        ('"/path/to/project"', repr(str(project))),
        ("port=8000", f"port={port}"),
        ('["training"]', '["one"]'),
    ):
        assert program.count(printed) == 1
        program = program.replace(printed, here)
    command = [sys.executable, "-c", program]
    with RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}") as server:
        assert server.client.get("/pipelines").json()["twenty"] == 20
        trained = server.client.post("/retrain")
        assert trained.status_code == 200, trained.text
        assert server.show(trained.json()["run_id"])["status"] == "success"
        document = server.client.get("/openapi.json").json()
        assert document["paths"]["/retrain"]["post"]["summary"] == "Train the model again"
    program = program.replace('["one"]', '["no such pipeline"]')
    command = [sys.executable, "-c", program]
    with RunningServer(command, cwd=project, url=f"http://127.0.0.1:{port}") as server:
        failed = server.client.post("/retrain")
        assert failed.status_code == 502
        assert "no such pipeline" in failed.json()["detail"]


def test_project_adds_blueprints_to_kedro_server_start(project: Path) -> None:
    (project / "src/probe/api.py").write_text(
        "from flask import Blueprint\n"
        "bp = Blueprint('api', __name__)\n"
        "@bp.get('/hello')\n"
        "def hello():\n"
        "    '''Say hello.'''\n"
        "    return {'hello': 'world'}\n"
    )
    with kedro_flask_server(project, PROBE_BLUEPRINTS="probe.api:bp") as server:
        assert server.client.get("/hello").json() == {"hello": "world"}
        paths = server.client.get("/openapi.json").json()["paths"]
    assert paths["/hello"]["get"]["summary"] == "Say hello"


@pytest.mark.once
def test_route_of_the_project_answers_in_the_place_of_an_added_one(project: Path) -> None:
    (project / "src/probe/api.py").write_text(
        "from flask import Blueprint\n"
        "bp = Blueprint('api', __name__)\n"
        "@bp.get('/runs')\n"
        "def mine():\n"
        "    '''List what the project calls runs.'''\n"
        "    return {'mine': True}\n"
        "@bp.post('/runs/<name>')\n"
        "def rename(name):\n"
        "    '''Rename a run.'''\n"
        "    return {'renamed': name}\n"
    )
    with kedro_flask_server(project, PROBE_BLUEPRINTS="probe.api:bp") as server:
        assert server.client.get("/runs").json() == {"mine": True}
        assert server.client.head("/runs").status_code == 200
        assert server.client.post("/runs/a").json() == {"renamed": "a"}
        run_id = server.submit(pipeline_names=["one"])
        assert server.show(run_id)["run_id"] == run_id
        document = server.client.get("/openapi.json").json()
        assert "GET /runs is answered by the project's endpoint 'api.mine'" in server.log
    validate(document)
    listed = document["paths"]["/runs"]["get"]
    assert listed["summary"] == "List what the project calls runs"
    [of_one] = [each for each in document["paths"] if re.fullmatch(r"/runs/{\w+}", each)]
    summaries = {method: document["paths"][of_one][method]["summary"] for method in ("get", "post")}
    assert summaries == {"get": "Get a run", "post": "Rename a run"}


@pytest.mark.once
@pytest.mark.parametrize("path", ["/run", "/health", "/docs"])
def test_route_over_one_of_kedro_s_is_refused_at_the_start(project: Path, path: str) -> None:
    (project / "src/probe/api.py").write_text(
        "from flask import Blueprint\n"
        "bp = Blueprint('api', __name__)\n"
        f"bp.add_url_rule({path!r}, 'mine', lambda: 'x', methods=['GET', 'POST'])\n"
    )
    done = refused_start(project, PROBE_BLUEPRINTS="probe.api:bp")
    assert done.returncode == 1
    assert path in done.stderr


WSGI_SERVERS = {
    "gunicorn": [
        *("-m", "gunicorn", "kedro_flask_server:create_http_server()", "--threads", "8"),
        *("--bind", "127.0.0.1:{port}"),
    ],
    "gunicorn that forks after loading": [
        *("-m", "gunicorn", "kedro_flask_server:create_http_server()", "--threads", "8"),
        *("--bind", "127.0.0.1:{port}", "--preload"),
    ],
    "waitress-serve": [
        *("-m", "waitress", "--host=127.0.0.1", "--port={port}"),
        *("--call", "kedro_flask_server:create_http_server"),
    ],
}


@pytest.mark.parametrize("name", WSGI_SERVERS)
def test_other_wsgi_servers_serve_the_project_of_the_environment(project: Path, name: str) -> None:
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in WSGI_SERVERS[name])]
    env = {"KEDRO_PROJECT_PATH": str(project), "KEDRO_SERVER_ENV": "prod", **ANYONE}
    url = f"http://127.0.0.1:{port}"
    with RunningServer(command, cwd=project.parent, url=url, env=env) as server:
        assert server.run(pipeline_names=["where"])["status"] == "success"
        assert server.client.get("/snapshot").json()["status"] == "success"
        assert server.client.post("/run", json={"nope": 1}).status_code == 422
        parallel = server.run(pipeline_names=["wide"], runner="ParallelRunner")
        assert parallel["status"] == "success"
    assert read_where(project) == "prod"


@contextmanager
def nginx_before(
    server: RunningServer, folder: Path, configuration: str | None = None
) -> Iterator[str]:
    """Run real nginx before a server, by default with the configuration that the docs give."""
    addresses = {"127.0.0.1:8000": server.url.removeprefix("http://")}
    with running_nginx(configuration or NGINX_CONFIGURATION.read_text(), addresses, folder) as url:
        yield url


@contextmanager
def running_nginx(site: str, addresses: dict[str, str], folder: Path) -> Iterator[str]:
    """Run real nginx with a configuration of the docs, and other addresses than those there."""
    program = require("nginx")
    port = free_port()
    for given, address in {**addresses, "listen 80;": f"listen 127.0.0.1:{port};"}.items():
        assert given in site
        site = site.replace(given, address)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    written = folder / "nginx.conf"
    written.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ {temporary} access_log off; {site} }}\n"
    )
    process = subprocess.Popen([program, "-c", str(written), "-p", str(folder)])
    url = f"http://127.0.0.1:{port}"
    try:
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(transport=transport) as client:
            client.get(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def served(probe: Path) -> Iterator[RunningServer]:
    """Return a server that is to be reached through nginx."""
    proxies = {"KEDRO_SERVER_TRUSTED_PROXIES": '["127.0.0.1"]'}
    with kedro_flask_server(probe, **proxies, **ANYONE) as server:
        yield server


@pytest.mark.once
def test_nginx_serves_it_under_a_prefix_as_documented(
    served: RunningServer, tmp_path: Path
) -> None:
    with nginx_before(served, tmp_path) as url:
        assert httpx.get(f"{url}/kedro/health").json()["status"] == "healthy"
        run = httpx.post(f"{url}/kedro/run", json={"pipeline_names": ["twenty"]}, timeout=60)
        assert run.json()["status"] == "success"
        assert httpx.get(f"{url}/kedro/health/").headers["location"].endswith("/kedro/health")
        document = httpx.get(f"{url}/kedro/openapi.json").json()
        assert document["servers"] == [{"url": "/kedro"}]
        page = httpx.get(f"{url}/kedro/docs")
        assert page.status_code == 200
        assert httpx.get(f"{url}/kedro/docs/swagger-ui/swagger-ui-bundle.js").status_code == 200


@pytest.mark.once
def test_nginx_limits_the_requests_of_an_address(served: RunningServer, tmp_path: Path) -> None:
    with nginx_before(served, tmp_path) as url, httpx.Client(base_url=url) as client:
        statuses = [client.get("/kedro/health").status_code for _ in range(300)]
    assert set(statuses) == {200, 429}
    assert statuses[:100] == [200] * 100  # as many may come at once


@pytest.mark.once
def test_nginx_passes_events_on_as_they_happen(served: RunningServer, tmp_path: Path) -> None:
    with nginx_before(served, tmp_path) as url, httpx.Client(base_url=f"{url}/kedro") as client:
        run_id = served.submit(pipeline_names=["slow"], params={"seconds": 0.3})
        headers = {"Accept": "text/event-stream"}
        seen = []
        with client.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
            for line in response.iter_lines():
                if line == "event: node.finished":
                    seen.append(served.show(run_id)["status"])
        assert len(seen) == 10
        assert seen[:8] == ["running"] * 8


@pytest.mark.once
def test_script_name_is_a_prefix_too(project: Path) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "waitress", "--host=127.0.0.1", f"--port={port}"),
        *("--url-prefix=/below", "--call", "kedro_flask_server:create_http_server"),
    ]
    url = f"http://127.0.0.1:{port}/below"
    env = {"KEDRO_PROJECT_PATH": str(project), **ANYONE}
    with RunningServer(command, cwd=project, url=url, env=env):
        assert httpx.get(f"{url}/openapi.json").json()["servers"] == [{"url": "/below"}]
        assert httpx.get(f"{url}/health/").headers["location"].endswith("/below/health")


def test_it_works_without_kedros_own_server(project: Path, tmp_path: Path) -> None:
    """Kedro's server needs FastAPI; ours must start where it cannot be imported."""
    hidden = tmp_path / "hidden"
    for name in ("fastapi", "uvicorn", "pydantic"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError(name={name!r})\n")
    with kedro_flask_server(project, PYTHONPATH=str(hidden)) as server:
        assert server.run(pipeline_names=["where"])["status"] == "success"


NGINX_SERVERS = NGINX_CONFIGURATION.with_name("nginx-servers.conf")


@pytest.mark.once
def test_no_request_fails_while_servers_behind_nginx_start_again(
    project: Path, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    settings = {
        "KEDRO_SERVER_TRUSTED_PROXIES": '["127.0.0.1"]',
        "KEDRO_SERVER_DRAIN_TIMEOUT_S": "30",
        **ANYONE,
    }

    def start(port: int) -> RunningServer:
        return kedro_flask_server(project, "--port", str(port), **settings)

    answers: list[httpx.Response] = []
    is_over = threading.Event()

    def send(url: str) -> None:
        body = {"pipeline_names": ["one"]}
        with httpx.Client(base_url=url, timeout=60) as client:
            while not is_over.wait(0.05):
                answers.append(client.post("/run", json=body))

    def wait_for_more(number: int) -> None:
        wanted = len(answers) + number
        eventually(lambda: len(answers) >= wanted, timeout_s=90)

    with ExitStack() as stack:
        servers = [stack.enter_context(start(port)) for port in ports]
        addresses = {
            f"127.0.0.1:{given} ": f"127.0.0.1:{port} "
            for given, port in zip((8000, 8001), ports, strict=True)
        }
        url = stack.enter_context(running_nginx(NGINX_SERVERS.read_text(), addresses, tmp_path))
        clients = stack.enter_context(ThreadPoolExecutor(3))
        sending = [clients.submit(send, url) for _ in range(3)]
        stack.callback(is_over.set)
        wait_for_more(10)
        for server, port in zip(servers, ports, strict=True):
            assert server.stop() == 0
            wait_for_more(10)
            stack.enter_context(start(port))
            wait_for_more(10)
        is_over.set()
        for each in sending:
            each.result(60)
        stored = count_runs(url)
    assert [each.json().get("status") for each in answers] == ["success"] * len(answers)
    assert stored == len(answers)  # none ran twice


def count_runs(url: str) -> int:
    """Return how many runs there are."""
    number, path = 0, "/runs?limit=200"
    with httpx.Client(base_url=url, timeout=60) as client:
        while path:
            page = client.get(path)
            number += len(page.json()["runs"])
            path = page.links.get("next", {}).get("url", "")
    return number
