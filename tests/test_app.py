"""The application factory, and how it refuses; each in a process of its own, as Kedro keeps its
project for the whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECTS, copy_project, environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def python(code: str, cwd: Path, *options: str, **env: str) -> str:
    """Run Python code and return the last line that it prints."""
    result = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


REFUSAL = """
from kedro_flask_server import create_http_server
from kedro_flask_server.errors import ServerSettingsError
try:
    create_http_server({arguments})
except ServerSettingsError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        ("", {}, "KEDRO_PROJECT_PATH"),
        ("", {"KEDRO_PROJECT_PATH": "/no/such/project"}, "/no/such/project"),
        ("'/no/such/project'", {}, "/no/such/project"),
        ("'.'", {}, "pyproject.toml"),
        ("'probe', wokers=1", {}, "'workers'"),
        ("'probe', workers=0", {}, "workers"),
        ("'probe', conf_source='nowhere'", {}, "nowhere"),
        ("'probe'", {"KEDRO_SERVER_PORT": "http"}, "KEDRO_SERVER_PORT"),
        ("'probe'", {"PROBE_SERVER": '{"port": "http"}'}, "SERVER"),
        ("'probe'", {"PROBE_SERVER": "[]"}, "SERVER"),
        ("'probe'", {"PROBE_SERVER": "null"}, "SERVER"),
        ("'probe'", {"PROBE_BLUEPRINTS": "probe.nope:bp"}, "probe.nope"),
        ("'probe'", {"PROBE_LOADER": "NoSuchLoader"}, "NoSuchLoader"),
    ],
)
def test_factory_refuses_what_it_cannot_serve(
    project: Path, arguments: str, env: dict[str, str], says: str
) -> None:
    refusal = python(REFUSAL.format(arguments=arguments), project.parent, **env)
    assert refusal.startswith("refused:")
    assert says in refusal


def test_factory_starts_no_thread_and_handles_no_request(project: Path) -> None:
    code = """
import threading
from kedro_flask_server import create_http_server
before = set(threading.enumerate())
app = create_http_server("probe", env="prod", workers=3, allow_anonymous=True)
assert set(threading.enumerate()) == before
app.add_url_rule("/added", "added", lambda: "added")  # Flask refuses this after a request
parts = app.extensions["kedro_flask_server"]
added = app.test_client().get("/added").text
print(parts.config.env, parts.config.workers, parts.project.name, added)
"""
    assert python(code, project.parent) == "prod 3 probe added"


def test_lazy_names_of_the_package() -> None:
    import kedro_flask_server

    assert kedro_flask_server.__version__ == "0.1.0"
    for name in kedro_flask_server.__all__:
        assert getattr(kedro_flask_server, name)
    with pytest.raises(AttributeError):
        _ = kedro_flask_server.nothing


DESCRIPTION = """
import hashlib
from kedro_flask_server import create_http_server
app = create_http_server(".", executor="threads", allow_anonymous=True)
answer = app.test_client().get("/openapi.json", headers={"Host": "localhost"})
print(len(answer.json["paths"]), hashlib.sha256(answer.data).hexdigest())
"""


@pytest.mark.once
def test_description_is_whole_without_docstrings(project: Path) -> None:
    with_docstrings = python(DESCRIPTION, project)
    assert int(with_docstrings.split()[0]) > 5
    assert python(DESCRIPTION, project, "-OO") == with_docstrings
