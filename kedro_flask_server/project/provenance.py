"""What a run is made of: its nodes, their parameters and their datasets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.io.core import AbstractDataset, is_parameter
from kedro.pipeline import Pipeline

from kedro_flask_server.model.provenance import DatasetUse, Provenance
from kedro_flask_server.project.datasets import (
    PATHS,
    TABLES,
    arguments_of,
    uncached,
    version_of,
)
from kedro_flask_server.project.failures import safe_name
from kedro_flask_server.redaction import SECRETS, redact_content, redact_urls
from kedro_flask_server.text import bounded, printable

_MAX_NODES = 5_000
_MAX_DATASETS = 2_000
_MAX_PARAMETERS_CHARS = 32_768
_MAX_PLACE_CHARS = 500

_LEFT_OUT = "(left out:"

_LIBRARY = "kedro_datasets."


def describe_run(
    made_with: Provenance, pipeline: Pipeline, catalog: Any, project_path: Path
) -> Provenance:
    """Return what a run is made of.

    Args:
        made_with: What all runs of this process are made of.
        pipeline: The nodes that are to run.
        catalog: Its catalog, where its versions are pinned.
        project_path: The project's folder, from which places are shown.
    """
    nodes = [safe_name(node.name) for node in pipeline.nodes[:_MAX_NODES]]
    names = sorted(pipeline.datasets())

    def value_of(name: str) -> Any:
        return getattr(catalog.get(name), "_data", None)

    parameters = parameters_of(names, value_of)
    data = [name for name in names if not is_parameter(name)]
    root = f"{project_path}/"
    lacks = {
        "nodes": len(pipeline.nodes) > _MAX_NODES,
        "datasets": len(data) > _MAX_DATASETS,
        "parameters": _LEFT_OUT in json.dumps(parameters),
    }
    return replace(
        made_with,
        nodes=tuple(nodes),
        parameters=parameters,
        datasets={
            safe_name(name): use_of(dataset, root)
            for name in data[:_MAX_DATASETS]
            if (dataset := catalog.get(name)) is not None
        },
        lacks=tuple(name for name, is_lacking in lacks.items() if is_lacking),
    )


def parameters_of(names: Iterable[str], value_of: Callable[[str], Any]) -> dict[str, Any]:
    """Return the parameters among some datasets, by their names, without secrets and bounded.

    Args:
        names: The names of datasets, such as ``params:model.depth`` or ``parameters``.
        value_of: Returns the value of one.
    """
    found: dict[str, Any] = {}
    for name in names:
        if not is_parameter(name):
            continue
        value = value_of(name)
        if name == "parameters" and isinstance(value, Mapping):
            found = {**value, **found}
        else:
            found[name.removeprefix("params:")] = value
    plain = json.loads(json.dumps(found, default=str, skipkeys=True)) if found else {}
    redacted: dict[str, Any] = redact_content(plain)
    return _bounded_parameters(redacted)


def planned_parameters(loader: AbstractConfigLoader, pipeline: Pipeline) -> dict[str, Any]:
    """Return the parameters of a pipeline as a configuration has them, as `parameters_of` does.

    Args:
        loader: The configuration of a run.
        pipeline: The nodes that are to run.
    """
    try:
        configured: Mapping[str, Any] = loader["parameters"]
    except (KeyError, MissingConfigException):
        configured = {}

    def value_of(name: str) -> Any:
        found: Any = configured
        for key in () if name == "parameters" else name.removeprefix("params:").split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    return parameters_of(sorted(pipeline.datasets()), value_of)


def _bounded_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of bounded size: of those beyond, the size alone."""
    room, kept = _MAX_PARAMETERS_CHARS, {}
    for name, value in parameters.items():
        size = len(json.dumps(value)) + len(name)
        is_kept = size <= room
        kept[name] = value if is_kept else f"{_LEFT_OUT} {size:,} characters)"
        room -= size if is_kept else 0
    return kept


def use_of(dataset: AbstractDataset[Any, Any], root: str) -> DatasetUse:
    """Return what a run uses as a dataset.

    Args:
        dataset: The dataset.
        root: The project's folder, with a slash, from which places are shown.
    """
    dataset = uncached(dataset)
    version = version_of(dataset)
    return DatasetUse(
        type=_type_name(type(dataset)),
        place=_place_of(dataset, root),
        version=None if version is None else version.load,
        is_versioned=version is not None,
    )


def _type_name(kind: type) -> str:
    """Return the name of a dataset's class as catalogs have it, such as ``pandas.CSVDataset``."""
    module = kind.__module__
    if module.startswith(_LIBRARY):  # kedro_datasets.pandas.csv_dataset
        return f"{module.split('.')[1]}.{kind.__qualname__}"
    if module.startswith("kedro.io."):
        return kind.__qualname__
    return printable(bounded(f"{module}.{kind.__qualname__}", _MAX_PLACE_CHARS))


def _place_of(dataset: AbstractDataset[Any, Any], root: str) -> str | None:
    given = arguments_of(dataset)
    place = next((given[name] for name in (*PATHS, *TABLES) if given.get(name)), None)
    if not isinstance(place, (str, os.PathLike)):
        return None
    text = os.fspath(place).removeprefix(root)
    return printable(redact_urls(bounded(SECRETS.redact(text), _MAX_PLACE_CHARS)))
