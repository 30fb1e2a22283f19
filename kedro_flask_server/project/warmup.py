"""What Kedro does in the first run of a process alone, done before there is a run.

A process that is forked afterwards need not do it again.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io.core import parse_dataset_definition
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from kedro_flask_server.model.provenance import Provenance
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.origins import InstalledOnly, OwnModuleError, is_installed_module
from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.plugins import has_hooks_before_datasets
from kedro_flask_server.project.provenance import describe_run
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import stop_between_nodes

# Kedro validates parameters with pydantic where that is installed, used by the project or not.
_IMPORTED_BY_KEDRO = ("pydantic.main",)

# OmegaConf's parser learns its grammar from what it reads. Files of the package: there may be no
# folder to write others to.
_CONFIGURATION = Path(__file__).with_name("rehearsal")


def warm_up() -> None:
    """Import what Kedro imports later on, and execute a run of nothing.

    Nothing of the project's is called. It comes last: whatever changes the filters of warnings has
    every warning given again. Measured alone, the run of nothing takes 85 ms once, and saves each
    run that has a process to itself 2.0 of 11.5 ms.
    """
    for name in _IMPORTED_BY_KEDRO:
        with suppress(ImportError):
            importlib.import_module(name)
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        # The second run does what only follows another.
        for _ in range(2):
            with suppress(Exception):  # another Kedro
                _rehearse()
    finally:
        logging.disable(disabled)


def _rehearse() -> None:
    """Execute a run as every run is executed, with a catalog and a pipeline of its own."""
    hooks = _create_hook_manager()
    params: Any = {"tag": "a-1"}
    loader = isolated(OmegaConfigLoader)(
        str(_CONFIGURATION),
        base_env="base",
        default_run_env="base",
        runtime_params=params,
        restrict_runtime_params_type_selection=True,
    )
    context = KedroContext(
        package_name="rehearsal",
        project_path=_CONFIGURATION,
        config_loader=loader,
        env=None,
        hook_manager=hooks,
        runtime_params=params,
    )
    context._pipelines_to_validate = []  # not the project's, whose nodes would be looked at
    catalog = context._get_catalog(save_version="rehearsal")
    node = Node(_returned, ["params:tag", "one"], "two", name="rehearse")
    pipeline = (Pipeline([]) + Pipeline([node])).filter()
    runner = SequentialRunner()
    stop_between_nodes(runner, StopRequest())
    report = RunReport(after=0, max_log_bytes=0)

    def describe(pipeline: Pipeline, catalog: Any) -> None:
        report.describe(describe_run(Provenance(), pipeline, catalog, _CONFIGURATION))

    report_nodes(runner, report, describe)
    arguments = {"run_params": {"run_id": "rehearsal"}, "pipeline": pipeline, "catalog": catalog}
    hooks.hook.before_pipeline_run(**arguments)
    result = runner.run(pipeline, catalog, hooks, run_id="rehearsal")
    hooks.hook.after_pipeline_run(**arguments, run_result=result)


def _returned(tag: object, one: object) -> object:
    return tag


def import_datasets(make_snapshot: Callable[[], Snapshot | ErrorDetail]) -> list[str]:
    """Import the classes of a project's datasets, as far as a snapshot names them.

    Those of the project's own are not imported; and none, where code of the project's comes
    before it in a run, and may set what their modules look at.

    Args:
        make_snapshot: Describes the project.

    Returns:
        The modules that were imported, in that order.
    """
    before = set(sys.modules)
    snapshot = None if has_hooks_before_datasets() else make_snapshot()
    if snapshot is None or isinstance(snapshot, ErrorDetail):
        return []
    refused: set[str] = set()
    for dataset_type in {each["type"] for each in snapshot.content["datasets"].values()}:
        known = set(sys.modules)
        try:
            with suppress(Exception), InstalledOnly():  # it fails again where it is needed
                parse_dataset_definition({"type": dataset_type})
        except OwnModuleError:
            refused |= set(sys.modules) - known
    names = [name for name in sys.modules if name not in before | refused]
    return [name for name in names if is_installed_module(sys.modules[name])]
