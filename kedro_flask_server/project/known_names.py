"""The project's names, in its code and in its configuration: they are no secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.startup import ProjectMetadata
from kedro.pipeline import Pipeline

_RUNNERS = ("SequentialRunner", "ThreadRunner", "ParallelRunner")


def names_of_project(metadata: ProjectMetadata) -> Iterator[str]:
    """Yield the names of a project itself, and the folders on its path.

    Args:
        metadata: The project's, from its pyproject.toml.
    """
    yield from (metadata.project_name, metadata.package_name, *_RUNNERS)
    yield from metadata.project_path.parts
    yield from metadata.source_dir.parts


def names_of_pipelines() -> Iterator[str]:
    """Yield the names in the registered pipelines, which must be loaded."""
    yield from pipelines
    for pipeline in [*pipelines.values()]:
        yield from _names_in(pipeline)


def names_in_configuration(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names in a catalog or in parameters, those of nested ones included.

    Args:
        config: Such as ``{"model": {"lr": 0.1}}``, which has ``model``, ``lr`` and ``model.lr``.
    """
    for path in _paths_in(config):
        yield ".".join(path)
        yield path[-1]


def _names_in(pipeline: Pipeline) -> Iterator[str]:
    for node in pipeline.nodes:
        yield node.name
        yield node.short_name
        yield from node.tags
        yield from _and_its_parents(node.namespace or "")
        for dataset in (*node.inputs, *node.outputs):
            yield dataset
            yield dataset.split("@")[0].removeprefix("params:")


def _and_its_parents(namespace: str) -> Iterator[str]:
    parts = namespace.split(".")
    yield from (".".join(parts[:size]) for size in range(1, len(parts) + 1))


def _paths_in(config: Mapping[str, Any], above: Iterable[str] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in config.items():
        path = (*above, str(name))
        yield path
        if isinstance(value, Mapping):
            yield from _paths_in(value, path)
