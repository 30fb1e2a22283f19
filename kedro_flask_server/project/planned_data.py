"""What data a run would take and return, found without the run and without its hooks."""

from __future__ import annotations

from functools import partial
from typing import Any

from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.data_locations import config_in, is_in_memory
from kedro_flask_server.project.exchange.interface import DatasetTypes, describe_interface
from kedro_flask_server.project.planned_access import planned_catalog, selected_nodes
from kedro_flask_server.project.provenance import planned_parameters


def describe_planned_data(
    request: RunRequest,
    runtime_params: dict[str, Any] | None,
    configuration: SelectedConfiguration,
    *,
    allows_excel: bool,
) -> dict[str, Any]:
    """Return what data a run of registered pipelines would take and return.

    Args:
        request: What to run.
        runtime_params: Its parameters as the loader is to have them.
        configuration: The project's configuration.
        allows_excel: Whether workbooks are read.

    Raises:
        Exception: What the project's configuration or pipelines raise, as in the run.
    """
    pipeline = selected_nodes(request)
    loader, resolver = planned_catalog(configuration, runtime_params)
    config_of = partial(config_in, resolver)

    def has_place(name: str) -> bool:
        config = config_of(name)
        return config is not None and not is_in_memory(config)

    return describe_interface(
        ", ".join(request.pipelines),
        pipeline,
        DatasetTypes(pipeline, config_of, allows_excel=allows_excel),
        has_place,
        planned_parameters(loader, pipeline),
    )
