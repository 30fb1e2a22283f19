"""The project as pages show it: its pipelines, datasets and who reads and writes them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import UnknownPipelineError
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.project.datasets import bare_name
from kedro_flask_server.runs.state_token import StateToken
from kedro_flask_server.web.kedro_server import KedroServer

MOST_VISIBLE = 200
"""How many nodes a graph shows before namespaces start collapsed."""


def state_of_project(server: KedroServer) -> StateToken:
    """Return what tells whether the project has changed, as far as pages show it."""

    def read() -> str:
        configuration = server.project.fingerprint(())
        return json.dumps([configuration, server.runs.pipeline_names(), server.runs.faults()])

    return StateToken(read)


def describe_project(runs: AuthorizedRuns) -> dict[str, Any] | ErrorDetail:
    """Return the parts of the project's snapshot that the caller may see, or why there is none."""
    found = runs.snapshot()
    return found if isinstance(found, ErrorDetail) else runs.describe(found)


def nodes_of(project: Mapping[str, Any], pipeline: str) -> list[dict[str, Any]]:
    """Return the nodes of a pipeline, as a snapshot has them.

    Raises:
        UnknownPipelineError: If there is no such pipeline.
    """
    for each in project["pipelines"]:
        if each["name"] == pipeline:
            found: list[dict[str, Any]] = each["nodes"]
            return found
    raise UnknownPipelineError(pipeline, [each["name"] for each in project["pipelines"]])


def graph_of(nodes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the graph of some nodes, as JSON data for the script that draws it.

    Args:
        nodes: As a snapshot has them.

    Returns:
        Its ``nodes``, each with the datasets that it loads and saves, and its ``etag``.
    """
    shown = [
        {
            "name": each["name"],
            "label": _label(each),
            "namespace": each["namespace"],
            "inputs": [*dict.fromkeys(map(bare_name, filter(_is_data, each["inputs"])))],
            "outputs": [*dict.fromkeys(map(bare_name, each["outputs"]))],
        }
        for each in nodes
    ]
    etag = hashlib.blake2b(json.dumps(shown).encode(), digest_size=12).hexdigest()
    return {"nodes": shown, "etag": etag, "most": MOST_VISIBLE}


def has_graph(nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether nodes are few enough to be drawn, at least in namespaces."""
    found = [*nodes]
    if len(found) <= MOST_VISIBLE:
        return bool(found)
    tops = {each["namespace"].split(".")[0] for each in found if each["namespace"]}
    alone = sum(1 for each in found if not each["namespace"])
    return len(tops) + alone <= MOST_VISIBLE


def datasets_of(project: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the datasets of a project, each with the pipelines whose nodes read and write it."""
    readers: dict[str, set[str]] = defaultdict(set)
    writers: dict[str, set[str]] = defaultdict(set)
    for pipeline in project["pipelines"]:
        for node in pipeline["nodes"]:
            for name in filter(_is_data, node["inputs"]):
                readers[bare_name(name)].add(pipeline["name"])
            for name in node["outputs"]:
                writers[bare_name(name)].add(pipeline["name"])
    known = {bare_name(name): each for name, each in project["datasets"].items() if _is_data(name)}
    return [
        {
            "name": name,
            "type": known[name]["type"] if name in known else None,
            "place": known[name].get("filepath") if name in known else None,
            "is_in_memory": name not in known,
            "readers": sorted(readers[name]),
            "writers": sorted(writers[name]),
        }
        for name in sorted({*known, *readers, *writers})
    ]


def _label(node: Mapping[str, Any]) -> str:
    """Return a node's name without its namespace; of one that has no name, its function."""
    name, namespace = str(node["name"]), node["namespace"]
    if "(" in name and node.get("func_name"):
        name = str(node["func_name"])
    return name.removeprefix(f"{namespace}.") if namespace else name


def _is_data(name: str) -> bool:
    return name != "parameters" and not name.startswith("params:")
