"""The OpenAPI document, made from the schemas that validate and the views' docstrings.

A view's docstring describes it: its first line is the summary, what follows the description;
after a line of ``---``, YAML can say more, in the words of an OpenAPI operation object
(https://spec.openapis.org/oas/v3.1.0#operation-object).
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from werkzeug.routing import Rule

from kedro_flask_server import __version__
from kedro_flask_server.web.health import HEALTH_ENDPOINTS
from kedro_flask_server.web.openapi_components import (
    EXAMPLES,
    HEADERS,
    PARAMETERS,
    REFUSED,
    RESPONSES,
)
from kedro_flask_server.web.schemas import DOCUMENTED

logger = logging.getLogger(__name__)

_VARIABLE = re.compile(r"<(?:(?P<converter>[A-Za-z_]\w*)(?:\([^)]*\))?:)?(?P<name>[A-Za-z_]\w*)>")
_VARIABLE_SCHEMAS = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
DOCS_BLUEPRINT = "kedro_server_docs"
"""The blueprint that serves the description, and is not described."""

_METHODS = ("get", "put", "post", "delete", "patch")


def describe(app: Flask, *, prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of an application.

    Args:
        app: The application, with whatever routes have been added to it.
        prefix: The path under which it is served, such as ``/kedro``.

    Returns:
        An OpenAPI 3.1 document: every view that carries a docstring, but for the ``docs``
        blueprint's own.
    """
    spec = APISpec(
        title="Kedro Server",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": "Runs a Kedro project's pipelines, and tells what they are."},
        # The last: where callers are let in without.
        security=[{"ApiKey": []}, {"ApiKeyAsPassword": []}, {}],
        plugins=[MarshmallowPlugin()],
        **({"servers": [{"url": prefix}]} if prefix else {}),
    )
    for schema in DOCUMENTED:
        spec.components.schema(schema.__name__.removesuffix("Schema"), schema=schema)
    for name, response in RESPONSES.items():
        spec.components.response(name, response)
    for name, example in EXAMPLES.items():
        spec.components.example(name, {"value": example})
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for name, parameter in PARAMETERS.items():
        spec.components.parameter(name, "header", parameter)
    for name, scheme in (("ApiKey", "bearer"), ("ApiKeyAsPassword", "basic")):
        spec.components.security_scheme(name, {"type": "http", "scheme": scheme})
    # Paths that differ in the names of their variables alone are one (OpenAPI 3.1, Paths Object).
    names: dict[str, list[str]] = {}
    for rule in app.url_map.iter_rules():
        operations = dict(_operations(app, rule))
        if operations:
            variables = [found["name"] for found in _VARIABLE.finditer(rule.rule)]
            names_here = names.setdefault(_VARIABLE.sub("{}", rule.rule), variables)
            parameters = list(_path_parameters(rule, names_here))
            spec.path(_path(rule, names_here), operations=operations, parameters=parameters)
    return spec.to_dict()


def _operations(app: Flask, rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    if rule.endpoint.startswith(f"{DOCS_BLUEPRINT}."):
        return
    view = app.view_functions[rule.endpoint]
    for method in _METHODS:
        if method.upper() in (rule.methods or ()):
            docstring = _docstring(view, method)
            if docstring:
                yield method, _operation(docstring, rule, method)


def _docstring(view: Callable[..., Any], method: str) -> str:
    """Return what documents a view; a class-based view is documented by its methods."""
    view_class = getattr(view, "view_class", None)
    documented = view if view_class is None else getattr(view_class, method, None)
    return (documented and (documented.__doc__ or _docstring_in_source(documented))) or ""


def _docstring_in_source(function: Callable[..., Any]) -> str | None:
    """Return a function's docstring where Python has left it out (``python -OO``)."""
    if sys.flags.optimize < 2:
        return None
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # no source, or no function's
        return None
    if isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ast.get_docstring(definition)
    return None


def _operation(docstring: str, rule: Rule, method: str) -> dict[str, Any]:
    text, _, more_yaml = f"{inspect.cleandoc(docstring)}\n".partition("\n---\n")
    summary, _, description = text.strip().partition("\n")
    operation: dict[str, Any] = {
        "summary": summary.strip().removesuffix("."),
        "operationId": re.sub(r"\W+", "_", f"{rule.endpoint}_{rule.rule}_{method}").strip("_"),
        "responses": {"200": {"description": "Successful response"}},
    }
    if description.strip():
        operation["description"] = description.strip()
    more = _load(more_yaml, rule)
    # YAML by method, as apispec's own plugins read it, or an operation for all methods.
    for_all_methods = {key: more[key] for key in more if key not in _METHODS}
    operation.update(more.get(method, for_all_methods))
    if rule.endpoint not in HEALTH_ENDPOINTS:
        operation["responses"] = {**operation["responses"], **REFUSED}
    return operation


def _load(text: str, rule: Rule) -> dict[str, Any]:
    try:
        more = yaml.safe_load(text) or {}
        if isinstance(more, dict):
            return more
        fault = f"it is no mapping but {type(more).__name__}"
    except yaml.YAMLError as error:
        fault = str(error)
    logger.warning("What is below --- in the docstring of %s is not used: %s", rule.endpoint, fault)
    return {}


def _path(rule: Rule, names: list[str]) -> str:
    next_name = iter(names)
    return _VARIABLE.sub(lambda _: f"{{{next(next_name)}}}", rule.rule)


def _path_parameters(rule: Rule, names: list[str]) -> Iterator[dict[str, Any]]:
    for variable, name in zip(_VARIABLE.finditer(rule.rule), names, strict=True):
        schema = _VARIABLE_SCHEMAS.get(variable["converter"] or "", {"type": "string"})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
