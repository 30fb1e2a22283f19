"""The pipelines in the OpenAPI document: each with the data that it takes and returns."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

CALL_PATH = "/pipelines/{pipeline}/run"

_DEFINITIONS = "$defs"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


def add_pipelines(document: dict[str, Any], described: Sequence[Mapping[str, Any]]) -> None:
    """Add an operation for each pipeline to an OpenAPI document.

    Args:
        document: The document, with the operation of all pipelines (`CALL_PATH`).
        described: What they take and return (`project.exchange.interface`).
    """
    path = document["paths"].get(CALL_PATH)
    if path is None:  # a project has a view of its own there
        return
    components = document["components"]["schemas"]
    for each in described:
        name = each["name"]
        operation = copy.deepcopy(path["post"])
        operation["operationId"] = f"call_pipeline_{_NOT_IN_NAMES.sub('_', name)}"
        operation["summary"] = f"Run {name} on data"
        operation["description"] = "As `POST /pipelines/{pipeline}/run` for this pipeline."
        operation["tags"] = ["pipelines"]
        operation["parameters"] = [*_parameters(operation, each["inputs"])]
        shown = _Schemas(components, name)
        operation["requestBody"] = {
            "required": any(found["is_required"] for found in each["inputs"].values()),
            "content": _request_content(each, components, shown),
        }
        success = _answer_schema(each, shown)
        content = operation["responses"]["200"]["content"]
        content["application/json"]["schema"] = {
            "oneOf": [success, {"$ref": "#/components/schemas/RunFailure"}]
        }
        document["paths"][f"/pipelines/{quote(name, safe='')}/run"] = {"post": operation}


class _Schemas:
    """Puts the definitions of a pipeline's schemas among those of the document."""

    def __init__(self, components: dict[str, Any], pipeline: str) -> None:
        self._components = components
        self._prefix = f"{_NOT_IN_NAMES.sub('_', pipeline)}."

    def of(self, schema: Mapping[str, Any], dataset: str) -> dict[str, Any]:
        """Return a schema that refers to the document's definitions."""
        prefix = self._prefix + _NOT_IN_NAMES.sub("_", dataset) + "."
        text = json.dumps(schema).replace(f"#/{_DEFINITIONS}/", f"#/components/schemas/{prefix}")
        shown: dict[str, Any] = json.loads(text)
        for name, definition in shown.pop(_DEFINITIONS, {}).items():
            self._components[prefix + name] = definition
        return shown


def _parameters(
    operation: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the parameters of an operation, with the names that a raw body may have."""
    for parameter in operation.get("parameters", ()):
        if parameter.get("name") != "input":
            yield parameter
        elif inputs:
            yield {**parameter, "schema": {"type": "string", "enum": [*inputs]}}


def _request_content(
    described: Mapping[str, Any], components: Mapping[str, Any], shown: _Schemas
) -> dict[str, Any]:
    inputs = described["inputs"]
    required = [name for name, each in inputs.items() if each["is_required"]]
    properties = copy.deepcopy(components["PipelineRun"]["properties"])
    properties["inputs"] = {
        "type": "object",
        "properties": {name: shown.of(each["schema"], name) for name, each in inputs.items()},
        "required": required,
        "additionalProperties": False,
    }
    parameters = {
        name: shown.of(each["schema"], name)
        for name, each in described["parameters"].items()
        if name != "parameters" and "." not in name
    }
    properties["params"] = {"type": ["object", "null"], "properties": parameters}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = ["inputs"]
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    examples = {name: each["example"] for name, each in inputs.items() if "example" in each}
    # What the catalog says need not be there.
    if examples.keys() == inputs.keys():
        content["application/json"]["example"] = {"inputs": examples, "save": False}
    parts = {name: {"type": "string", "format": "binary"} for name in inputs}
    content["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "properties": {**parts, "request": {"type": "object"}},
        },
        "encoding": {"request": {"contentType": "application/json"}},
    }
    if len(required) == 1:
        for media_type in inputs[required[0]]["media_types"]:
            content.setdefault(media_type, {"schema": {}})
    return content


def _answer_schema(described: Mapping[str, Any], shown: _Schemas) -> dict[str, Any]:
    outputs = {
        name: {
            "anyOf": [
                shown.of(each["schema"], name),
                {"type": "object", "required": ["href", "media_type", "size"]},
            ]
        }
        for name, each in described["outputs"].items()
    }
    return {
        "allOf": [
            {"$ref": "#/components/schemas/PipelineRunSuccess"},
            {
                "type": "object",
                "properties": {"outputs": {"type": "object", "properties": outputs}},
            },
        ]
    }
