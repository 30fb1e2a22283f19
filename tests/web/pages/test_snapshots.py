"""The project as pages show it."""

from __future__ import annotations

from typing import Any

import pytest

from kedro_flask_server.errors import UnknownPipelineError
from kedro_flask_server.web.pages.snapshots import datasets_of, graph_of, has_graph, nodes_of


def node(name: str, inputs: list[str], outputs: list[str], **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": None, "inputs": inputs, "outputs": outputs, **more}


PROJECT: dict[str, Any] = {
    "pipelines": [
        {
            "name": "training",
            "nodes": [
                node("load", ["raw@x", "params:rows"], ["rows"]),
                node("ns.train", ["rows", "rows", "parameters"], ["model"], namespace="ns"),
            ],
        },
        {"name": "inference", "nodes": [node("predict", ["model"], ["predictions"])]},
    ],
    "datasets": {
        "raw@x": {"type": "pandas.CSVDataset", "filepath": "raw.csv"},
        "model": {"type": "pickle.PickleDataset", "filepath": "model.pickle"},
        "unused": {"type": "json.JSONDataset", "filepath": "unused.json"},
        "params:rows": {"type": "MemoryDataset"},
    },
}


def test_graph_has_data_without_parameters_and_transcoding() -> None:
    graph = graph_of(nodes_of(PROJECT, "training"))
    assert [(each["label"], each["inputs"], each["outputs"]) for each in graph["nodes"]] == [
        ("load", ["raw"], ["rows"]),
        ("train", ["rows"], ["model"]),
    ]
    assert graph["etag"] == graph_of(nodes_of(PROJECT, "training"))["etag"]
    assert graph["etag"] != graph_of(nodes_of(PROJECT, "inference"))["etag"]


def test_node_without_a_name_is_called_by_its_function() -> None:
    [shown] = graph_of([node("step([a]) -> [b]", ["a"], ["b"], func_name="step")])["nodes"]
    assert (shown["name"], shown["label"]) == ("step([a]) -> [b]", "step")


def test_pipeline_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownPipelineError):
        nodes_of(PROJECT, "nope")


def test_datasets_know_who_reads_and_writes_them() -> None:
    found = {each["name"]: each for each in datasets_of(PROJECT)}
    assert [*found] == ["model", "predictions", "raw", "rows", "unused"]
    assert (found["model"]["writers"], found["model"]["readers"]) == (["training"], ["inference"])
    assert (found["raw"]["place"], found["raw"]["readers"]) == ("raw.csv", ["training"])
    assert found["rows"]["type"] is None


def test_graph_of_many_nodes_needs_namespaces() -> None:
    many = [node(f"n{number}", [], []) for number in range(300)]
    assert not has_graph(many)
    assert not has_graph([])
    assert has_graph(many[:200])
    grouped = [{**each, "namespace": f"g{at % 5}.inner"} for at, each in enumerate(many)]
    assert has_graph(grouped)
