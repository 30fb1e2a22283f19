"""The project's pipelines."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; ``__default__`` is all in a row but ``inference``."""
    pipelines = find_pipelines(raise_errors=True)
    in_a_row = [each for name, each in pipelines.items() if name != "inference"]
    pipelines["__default__"] = sum(in_a_row, Pipeline([]))
    return pipelines
