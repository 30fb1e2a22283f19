"""The project's only pipeline."""

from kedro.pipeline import Node, Pipeline


def measure(tag, number):
    """Return what a run of its own must come to."""
    found = {"tag": tag, "number": number}
    return found, found, number * 2.0


def register_pipelines():
    """Return the pipelines by name."""
    inputs, outputs = ["params:tag", "params:number"], ["latest", "result", "score"]
    return {"__default__": Pipeline([Node(measure, inputs, outputs, name="measure")])}
