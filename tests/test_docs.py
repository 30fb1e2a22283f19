"""The pages agree with the code and with each other, and can be read without Sphinx."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from kedro_flask_server.cli import server
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.retry import ALWAYS_REFUSED, FORCEABLE
from kedro_flask_server.model.run import RunStatus, StopReason
from tests.servers import PROJECTS, environment

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
PACKAGE = REPOSITORY / "kedro_flask_server"
PAGES = sorted(
    [*DOCS.glob("*.md"), *REPOSITORY.glob("*.md"), *(REPOSITORY / ".github").glob("**/*.md")]
)

_ASSETS = ("/docs/<", "/ui/files/<", "/ui/<")
"""What routes begin with that serve the files of pages, or say that there is none."""

_PARTS = ("/changes", "/graph.json", "/plan", "/sign-out")
"""What the addresses end with that only the pages themselves ask for."""

_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as its repository's site makes them."""
    kept = (re.sub(r"[^\w\- ]", "", each.lower()) for each in _HEADING.findall(page.read_text()))
    return {each.replace(" ", "-") for each in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_readable_without_sphinx(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"^```\{|^\([\w-]+\)=$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_file_on_a_page_is_the_one_that_is_tested(page: Path) -> None:
    shown = re.findall(r"<!-- (\S+) -->\n\n```\w+\n(.*?)```\n", page.read_text(), re.DOTALL)
    for name, text in shown:
        assert text == (page.parent / name).read_text(), name


def test_every_page_is_in_the_index_and_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text()
    contents = (DOCS / "contents.rst").read_text()
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or f"({page.name})" in index
        assert f"   {page.stem}\n" in contents


def test_one_page_says_how_to_install_it() -> None:
    pattern = re.compile(r"pip install [^\n]*kedro-flask-server")
    saying = [page.name for page in PAGES if pattern.search(page.read_text())]
    assert set(saying) <= {"quickstart.md", "recipes.md"}  # the latter by a wheel's address


def test_test_command_runs_on_each_supported_python() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    environments = re.split(r"[,\s]+", tox["tox"]["env_list"].strip())
    project = (REPOSITORY / "pyproject.toml").read_text()
    supported = re.findall(r"Programming Language :: Python :: (3)\.(\d+)", project)
    assert {f"py{major}{minor}" for major, minor in supported} <= set(environments)
    # What depends on no version runs on the one that is there, whichever that is.
    for name in ("once", "airflow, prefect", "plugins", "ratios"):
        section = f"testenv:{{{name}}}" if "," in name else f"testenv:{name}"
        assert "base_python" not in tox[section]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(name: str) -> list[str]:
    """Return the rows of a page's tables."""
    return [line for line in page(name).splitlines() if line.startswith("|")]


def first_cells(name: str) -> set[str]:
    """Return what is code in the first cells of a page's tables."""
    return {code for row in rows(name) for code in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def application() -> dict[str, Any]:
    """Return the routes and the OpenAPI document of an application, which listens nowhere."""
    code = """
import json
from kedro_flask_server import create_http_server
app = create_http_server(allow_anonymous=True)
routes = [
    (method, rule.rule)
    for rule in app.url_map.iter_rules()
    for method in rule.methods - {"HEAD", "OPTIONS"}
]
document = app.test_client().get("/openapi.json").json
print(json.dumps({"routes": routes, "openapi": document}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(KEDRO_PROJECT_PATH=str(PROJECTS / "chains")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def operations(application: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in application["openapi"]["paths"].items():
        shared = methods.get("parameters", [])
        for operation in methods.values():
            if isinstance(operation, dict):
                yield path, {**operation, "parameters": [*shared, *operation.get("parameters", [])]}


def fields_of(application: dict[str, Any], schema: str) -> set[str]:
    return set(application["openapi"]["components"]["schemas"][schema]["properties"])


def test_every_route_is_on_the_page_of_the_http_api(application: dict[str, Any]) -> None:
    for method, rule in application["routes"]:
        if rule == "/" or rule.startswith("/ui") or rule.startswith(_ASSETS):
            continue
        assert f"{method} {rule.replace('<run_id>', '<id>')}" in first_cells("http.md")


def test_every_page_has_its_row(application: dict[str, Any]) -> None:
    for method, rule in application["routes"]:
        is_page = rule.startswith("/ui") and not rule.startswith(_ASSETS)
        if is_page and method == "GET" and not rule.endswith(_PARTS):
            shown = re.sub("<(run|other)_id>", "<id>", rule).replace("<path:name>", "<name>")
            assert shown in first_cells("ui.md")


def test_every_field_of_a_request_for_a_run_has_its_row(application: dict[str, Any]) -> None:
    assert fields_of(application, "RunRequest") <= first_cells("http.md")


def test_every_field_of_a_run_has_its_row(application: dict[str, Any]) -> None:
    assert fields_of(application, "Run") <= first_cells("runs.md")
    for name in fields_of(application, "RunSummary") | fields_of(application, "RunError"):
        assert f"`{name}`" in page("runs.md")


def test_every_query_parameter_is_documented(application: dict[str, Any]) -> None:
    for path, operation in operations(application):
        for parameter in operation["parameters"]:
            if parameter.get("in") != "query":
                continue
            name = parameter["name"]
            if path == "/runs":
                assert name in first_cells("runs.md")
            else:
                pages = ("events.md", "http.md", "runs.md")
                assert any(f"?{name}=" in page(each) for each in pages)


def test_every_status_code_is_documented(application: dict[str, Any]) -> None:
    refused = {row.split("|")[1].strip() for row in rows("http.md")}
    codes = {code for cell in refused for code in re.findall(r"\b[45]\d\d\b", cell)}
    for path, operation in operations(application):
        for code in operation["responses"]:
            if int(code) >= 400:
                assert code in codes, (path, code)
            else:
                assert re.search(rf"\b{code}\b", page("http.md") + page("events.md")), (path, code)


def test_every_status_and_error_of_a_run_has_its_row() -> None:
    source = "".join(path.read_text() for path in PACKAGE.glob("**/*.py"))
    own = {
        *re.findall(r'ErrorDetail\(\s*type="(\w+)"', source),
        *(each.value for each in StopReason),
    }
    assert {"RunLost", "WorkerCrashed"} < own
    assert own <= first_cells("runs.md")
    for status in RunStatus:
        assert f"`{status}`" in page("runs.md")


def test_every_type_of_event_has_its_row() -> None:
    assert {kind.value for kind in EventType} <= first_cells("events.md")


def test_every_refusal_of_a_retry_has_its_row() -> None:
    assert {*FORCEABLE, *ALWAYS_REFUSED} <= first_cells("retries.md")


def commands_below(
    group: click.Group, name: str = "kedro server"
) -> Iterator[tuple[str, click.Command]]:
    for each in group.commands.values():
        if isinstance(each, click.Group):
            yield from commands_below(each, f"{name} {each.name}")
        else:
            yield f"{name} {each.name}", each


@pytest.mark.parametrize(("name", "command"), commands_below(server))
def test_every_command_has_its_row_with_its_options(name: str, command: click.Command) -> None:
    [row] = [each for each in rows("client.md") if re.match(rf"\| `{name}\b", each)]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            long = next(each for each in parameter.opts if each.startswith("--"))
            is_shared = long in ("--url", "--json")
            assert f"`{long}`" in page("client.md") if is_shared else f"{long}" in row
        else:
            assert parameter.make_metavar(click.Context(command)) in row


def test_picture_of_the_layers_is_the_contract() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    [contract] = re.findall(r"^layers = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    [picture] = re.findall(r"## Layers\n.*?```\n(.*?)```", page("architecture.md"), re.DOTALL)
    drawn = [re.split(r"  +", line)[0] for line in picture.splitlines()]
    assert drawn == re.findall(r'"([^"]+)"', contract)


def test_every_thread_with_a_name_has_its_row() -> None:
    source = "".join(path.read_text() for path in PACKAGE.glob("**/*.py"))
    named = set(re.findall(r'(?:name|thread_name_prefix)="(kedro-[a-z-]+)"', source))
    shown = re.findall(r"^\|[^|]*\| `(kedro-[a-z-]+)", page("architecture.md"), re.MULTILINE)
    assert named == set(shown)


def test_quick_loop_and_hooks_name_what_there_is() -> None:
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text()
    [quick] = re.findall(r"^pytest .*$", contributing, re.MULTILINE)
    paths = re.findall(r"tests/\S+", quick)
    assert paths
    assert all((REPOSITORY / path).exists() for path in paths)
    tox = (REPOSITORY / "tox.ini").read_text()
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    for environments in re.findall(r"tox (?:-q )?-e ([\w,-]+)", contributing + hooks):
        assert all(f"[testenv:{each}]" in tox for each in environments.split(","))


def test_glossary_names_what_there_is() -> None:
    source = "".join(path.read_text() for path in PACKAGE.glob("**/*.py"))
    glossary = page("architecture.md").partition("## Glossary")[2]
    named = re.findall(r"`(\w*[A-Z]\w*)`", glossary)
    assert len(named) > 20
    assert [name for name in named if not re.search(rf"\b{name}\b", source)] == []
