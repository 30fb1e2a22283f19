"""What a run would read and write, found without the run and without its hooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.framework.context.context import _convert_paths_to_absolute_posix
from kedro.framework.project import pipelines
from kedro.io import CatalogConfigResolver
from kedro.io.data_catalog import DataCatalog
from kedro.pipeline import Pipeline

from kedro_flask_server.model.data_access import FoundAccess
from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.data_locations import config_in, find_access


def find_planned_access(
    request: RunRequest,
    runtime_params: dict[str, Any] | None,
    configuration: SelectedConfiguration,
    shared_paths: Sequence[str],
) -> FoundAccess:
    """Return what a run of registered pipelines would read and write.

    Args:
        request: What to run.
        runtime_params: Its parameters as the loader is to have them.
        configuration: The project's configuration.
        shared_paths: Folders that are the same on all machines.

    Raises:
        Exception: What the project's configuration or pipelines raise, as in the run.
    """
    pipeline = selected_nodes(request)
    loader, resolver = planned_catalog(configuration, runtime_params)
    found = find_access(
        pipeline, partial(config_in, resolver), shared_paths, exchange=request.exchange
    )
    dynamic = getattr(loader, "dynamic_names", None)
    used = {*pipeline.datasets()}
    depends = dynamic is None or any(name in used or "{" in name for name in dynamic)
    return replace(found, depends_on_params=depends)


def find_unlocated(configuration: SelectedConfiguration) -> list[str]:
    """Return the datasets of all pipelines whose places the catalog does not tell, sorted.

    Args:
        configuration: The project's configuration.

    Raises:
        Exception: What the project's configuration raises, as in a run.
    """
    _, resolver = planned_catalog(configuration, None)
    config_of = partial(config_in, resolver)
    found = [find_access(pipeline, config_of) for pipeline in pipelines.values()]
    return sorted({name for each in found for name in each.unknown})


def planned_catalog(
    configuration: SelectedConfiguration, runtime_params: dict[str, Any] | None
) -> tuple[AbstractConfigLoader, CatalogConfigResolver]:
    """Return the configuration of a run, and its catalog, of which no dataset is made."""
    loader = configuration.loader(
        runtime_params=runtime_params, restrict_runtime_params_type_selection=True
    )
    catalog = _convert_paths_to_absolute_posix(configuration.project_path, loader["catalog"])
    try:
        credentials = loader["credentials"]
    except (KeyError, MissingConfigException):
        credentials = {}
    patterns = DataCatalog.default_runtime_patterns
    return loader, CatalogConfigResolver(catalog, credentials, patterns)


def selected_nodes(request: RunRequest) -> Pipeline:
    """Return the nodes of a run, as Kedro's session selects them."""
    joined = sum((pipelines[name] for name in request.pipelines), Pipeline([]))
    return joined.filter(
        tags=request.tags or (),
        from_nodes=request.from_nodes or [],
        to_nodes=request.to_nodes or [],
        node_names=request.node_names or (),
        from_inputs=request.from_inputs or [],
        to_outputs=request.to_outputs or [],
        node_namespaces=request.namespaces or [],
    )
