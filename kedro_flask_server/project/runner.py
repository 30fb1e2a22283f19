"""Runners: which a request may have, how they stop, and how their processes are started."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
from functools import wraps
from pathlib import Path
from typing import Any

from kedro.framework.project import settings
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner

from kedro_flask_server.model.stop import RunInterrupted, StopRequest

logger = logging.getLogger(__name__)

PRELOADED_PROJECT = "KEDRO_FLASK_SERVER_PRELOADED_PROJECT"
"""The environment variable with the project that `forkserver_preload` opens."""

LOG_FORMAT = "KEDRO_FLASK_SERVER_LOG_FORMAT"
"""The environment variable with the format in which `forkserver_preload` writes log records."""

_KEDRO_RUNNERS = "kedro.runner"

# Kedro 1.5 called the list by the second name.
_ALLOWLISTS = ("RUNNER_MODULE_ALLOWLIST", "RUNNER_MODULES_WHITELIST")


def create_runner(name: str | None, *, is_async: bool, package_name: str) -> AbstractRunner:
    """Return a runner by the name that a client gave.

    Args:
        name: A class of ``kedro.runner``, or the dotted path of a class in a module that is
            permitted; None for ``SequentialRunner``.
        is_async: Whether it loads and saves datasets in threads.
        package_name: The project's package, whose modules are permitted.

    Returns:
        A new runner.

    Raises:
        ValueError: If its module is not permitted, in which case it was not imported, or if it
            names no runner.
        ImportError: If the module cannot be imported.
        AttributeError: If the module has no such class.
        TypeError: If the class is abstract.
    """
    module_name, _, class_name = (name or "SequentialRunner").rpartition(".")
    module_name = module_name or _KEDRO_RUNNERS
    if not _is_permitted(module_name, package_name):
        raise ValueError(
            f"Runner module '{module_name}' is not allowed. Runners come from '{_KEDRO_RUNNERS}', "
            f"from the project's package '{package_name}', or from a module on the list "
            "RUNNER_MODULE_ALLOWLIST in the project's settings.py."
        )
    runner_class = getattr(importlib.import_module(module_name), class_name)
    if not (isinstance(runner_class, type) and issubclass(runner_class, AbstractRunner)):
        raise ValueError(
            f"Runner '{name}' is not a runner: it must be a subclass of AbstractRunner."
        )
    return runner_class(is_async=is_async)


class RunStopped(Exception):  # noqa: N818  what it says is no error
    """Raised between two nodes of a run that is to stop."""


class RunPostponed(Exception):  # noqa: N818  as above
    """Raised before a run's hooks, where another run is in the way of its datasets."""


def stop_between_nodes(runner: AbstractRunner, stop: StopRequest) -> None:
    """Have a runner check after each node but the last whether its run is to stop.

    Where the run is interrupted, it stops at once.

    Kedro's hooks are called for the nodes of this process alone; what a runner does after each
    node, ``ParallelRunner`` does here, too. A runner of the project's own that replaces Kedro's
    loop over the nodes cannot be stopped.

    Args:
        runner: A runner that runs once.
        stop: Whether its run is to stop.
    """
    run, release = runner._run, runner._release_datasets
    ended = 0

    # Kedro's session calls on_pipeline_error for an Exception, and for no other BaseException.
    @wraps(run)
    def run_until_interrupted(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except RunInterrupted as interruption:
            raise RunStopped from interruption

    def release_and_check(node: Node, catalog: Any, load_counts: Any, pipeline: Pipeline) -> None:
        nonlocal ended
        release(node, catalog, load_counts, pipeline)
        ended += 1
        if stop.reason is not None and ended < len(pipeline.nodes):
            raise RunStopped

    runner._run = run_until_interrupted  # type: ignore[method-assign]
    runner._release_datasets = release_and_check  # type: ignore[method-assign]


def _is_permitted(module_name: str, package_name: str) -> bool:
    listed = [module for setting in _ALLOWLISTS for module in settings.get(setting, ())]
    return any(
        module_name == permitted or module_name.startswith(f"{permitted}.")
        for permitted in (_KEDRO_RUNNERS, package_name, *listed)
    )


def no_package_name(package_name: str | None) -> None:
    """Return None for the name of the project's package."""


def start_processes_safely(project_path: Path, log_format: str) -> None:
    """Have ``ParallelRunner`` start its processes from a clean one, instead of a fork of threads.

    A fork copies the locks that other threads hold at that moment, and the child waits for
    them for ever; a server always has other threads. Python 3.14 changed its default for that
    reason (https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods);
    this does the same for older ones. It is set for the whole process because ``ParallelRunner``
    takes its manager from the default, whatever ``KEDRO_MP_CONTEXT`` is.

    Args:
        project_path: The project, which the clean process opens once for all that it starts.
        log_format: How these write their log records.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    if multiprocessing.get_start_method(allow_none=True) in (None, "fork"):
        multiprocessing.set_start_method("forkserver", force=True)
        os.environ[PRELOADED_PROJECT] = str(project_path)
        os.environ[LOG_FORMAT] = log_format
        multiprocessing.set_forkserver_preload(["kedro_flask_server.project.forkserver_preload"])
    if os.environ.get("KEDRO_MP_CONTEXT") == "fork":
        logger.warning(
            "KEDRO_MP_CONTEXT=fork is not used: forking a server that runs threads can hang. "
            "ParallelRunner starts its processes with 'forkserver' instead."
        )
        os.environ["KEDRO_MP_CONTEXT"] = "forkserver"
