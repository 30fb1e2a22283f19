"""What Kedro does in the first run of a process alone, done before there is a run.

A process that is forked afterwards need not do it again. Nothing of the project's is called.
It comes last: whatever changes the filters of warnings has every warning given again.
"""

from __future__ import annotations

import importlib
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import stop_between_nodes

# Parameters are looked at by pydantic, where it is installed, whether the project uses it or not.
_IMPORTED_BY_KEDRO = ("pydantic.main",)

# OmegaConf's parser learns its grammar from what it reads. Files of the package: there may be no
# folder to write others to.
_CONFIGURATION = Path(__file__).with_name("rehearsal")


def warm_up() -> None:
    """Import what Kedro imports later on, and execute a run of nothing."""
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
    """Execute a run by the ways that every run takes, with a catalog and a pipeline of its own."""
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
    report_nodes(runner, RunReport(after=0, max_log_bytes=0))
    told = {"run_params": {"run_id": "rehearsal"}, "pipeline": pipeline, "catalog": catalog}
    hooks.hook.before_pipeline_run(**told)
    result = runner.run(pipeline, catalog, hooks, run_id="rehearsal")
    hooks.hook.after_pipeline_run(**told, run_result=result)


def _returned(tag: object, one: object) -> object:
    return tag
