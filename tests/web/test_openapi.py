"""The description of an application, made of what its views say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView

from kedro_flask_server.web.health import HEALTH_ENDPOINTS
from kedro_flask_server.web.openapi import DOCS_BLUEPRINT, describe
from kedro_flask_server.web.openapi_components import REFUSED


def view() -> str:
    """Say something.

    At length,
    on two lines.
    ---
    tags: [probe]
    responses:
      204: {description: Nothing}
    """
    return ""


def undocumented() -> str:
    return ""


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def operation(app: Flask, path: str, method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = describe(app)["paths"][path][method]
    return found


def test_docstring_is_summary_description_and_more(app: Flask) -> None:
    app.add_url_rule("/probe", "probe", view)
    found = operation(app, "/probe")
    assert found["summary"] == "Say something"
    assert found["description"] == "At length,\non two lines."
    assert (found["tags"], found["operationId"]) == (["probe"], "probe__probe_get")
    assert found["responses"].keys() >= {"204", *map(str, REFUSED)}


def test_view_without_a_docstring_is_not_described(app: Flask) -> None:
    app.add_url_rule("/probe", "probe", undocumented)
    assert "/probe" not in describe(app)["paths"]


def test_docs_do_not_describe_themselves(app: Flask) -> None:
    docs = Blueprint(DOCS_BLUEPRINT, __name__)
    docs.add_url_rule("/docs", "page", view)
    app.register_blueprint(docs)
    assert "/docs" not in describe(app)["paths"]


def test_methods_of_a_class_are_described_each_by_itself(app: Flask) -> None:
    class Views(MethodView):
        """The class says nothing of them."""

        @staticmethod
        def get() -> str:
            """Get it."""
            return ""

        @staticmethod
        def post() -> str:
            return ""

        @staticmethod
        def delete() -> str:
            """Delete it."""
            return ""

    app.add_url_rule("/views", view_func=Views.as_view("views"))
    found = describe(app)["paths"]["/views"]
    summaries = {method: found[method]["summary"] for method in found if method != "parameters"}
    assert summaries == {"get": "Get it", "delete": "Delete it"}


def test_more_may_be_said_of_each_method(app: Flask) -> None:
    def both() -> str:
        """Do it.
        ---
        get: {deprecated: true}
        post: {tags: [x]}
        """
        return ""

    app.add_url_rule("/both", "both", both, methods=["GET", "POST"])
    found = describe(app)["paths"]["/both"]
    assert found["get"]["deprecated"] is True
    assert "deprecated" not in found["post"]
    assert found["post"]["tags"] == ["x"]


@pytest.mark.parametrize("more", ["[a, b]", "a: b: c", "just words"])
def test_what_is_no_mapping_is_left_out_and_logged(
    app: Flask, caplog: pytest.LogCaptureFixture, more: str
) -> None:
    def broken() -> str:
        return ""

    broken.__doc__ = f"Do it.\n---\n{more}\n"
    app.add_url_rule("/broken", "broken", broken)
    assert operation(app, "/broken")["summary"] == "Do it"
    assert "in the docstring of broken is not used" in caplog.text


def test_variables_of_a_path_are_parameters_of_their_kind(app: Flask) -> None:
    app.add_url_rule("/a/<int:number>/<name>/<uuid:id>", "a", view)
    path = describe(app)["paths"]["/a/{number}/{name}/{id}"]
    assert [(each["name"], each["in"], each["schema"]) for each in path["parameters"]] == [
        ("number", "path", {"type": "integer"}),
        ("name", "path", {"type": "string"}),
        ("id", "path", {"type": "string", "format": "uuid"}),
    ]


def test_paths_that_differ_in_the_names_of_variables_are_one(app: Flask) -> None:
    app.add_url_rule("/runs/<run_id>", "get", view)
    app.add_url_rule("/runs/<other>", "delete", view, methods=["DELETE"])
    paths = describe(app)["paths"]
    assert {"get", "delete"} <= paths["/runs/{run_id}"].keys()
    assert "/runs/{other}" not in paths


def test_prefix_is_the_server_that_clients_call(app: Flask) -> None:
    assert "servers" not in describe(app)
    assert describe(app, prefix="/kedro")["servers"] == [{"url": "/kedro"}]


def test_health_is_refused_to_nobody(app: Flask) -> None:
    endpoint = sorted(HEALTH_ENDPOINTS)[0]
    blueprint, _, name = endpoint.rpartition(".")
    health = Blueprint(blueprint, __name__)
    health.add_url_rule("/health", name, view)
    app.register_blueprint(health)
    assert {*map(str, REFUSED)}.isdisjoint(operation(app, "/health")["responses"])
