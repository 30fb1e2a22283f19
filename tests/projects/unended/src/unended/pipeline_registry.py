"""The one pipeline."""

from kedro.pipeline import Pipeline, node

from unended.nodes import leave


def register_pipelines():
    return {"__default__": Pipeline([node(leave, None, "left", name="leave")])}
