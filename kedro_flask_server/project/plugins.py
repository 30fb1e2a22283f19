"""Plugins whose hooks do not work with several runs in a process, or are not meant for runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import entry_points
from typing import Any

from kedro.framework.project import settings
from pluggy import PluginManager

from kedro_flask_server.origins import is_installed_module

logger = logging.getLogger(__name__)

# Their hooks hold what belongs to one run: seen in kedro-mlflow 2.0, every run of
# which fails after the first, and in kedro-viz 12.5, which writes one run's events into another's.
_WITH_STATE = ("kedro-mlflow", "kedro-viz")

# Of Kedro's hooks, those that come before the datasets of a run are made.
_EARLY = ("after_context_created", "after_catalog_created", "before_pipeline_run")

# With the consent of a project's users, it sends Kedro's makers each command and what the project
# has; in a server that would be a request over the network inside every run.
_TELEMETRY = "kedro-telemetry"


def registering_all_but_telemetry(register: Callable[..., None]) -> Callable[..., None]:
    """Return a function that registers all plugins' hooks but those of Kedro's usage telemetry.

    It gets the command that starts a server, and not its runs. Whether it sends anything is for the
    project's users to decide, as with every command
    (https://docs.kedro.org/en/stable/about/telemetry/). It is not imported: Kedro imports also
    those whose hooks are disabled, and this one brings a library for HTTP.
    """

    @wraps(register)
    def register_others(hook_manager: PluginManager, *args: Any, **kwargs: Any) -> None:
        hook_manager.set_blocked(_TELEMETRY)  # its entry point is called as it is
        register(hook_manager, *args, **kwargs)

    return register_others


def warn_of_plugins_with_state() -> None:
    """Log which plugins need a process for each run."""
    points = entry_points(group="kedro.hooks")
    found = {point.dist.name.replace("_", "-") for point in points if point.dist}
    found -= {name.replace("_", "-") for name in settings.DISABLE_HOOKS_FOR_PLUGINS}
    for name in sorted(found.intersection(_WITH_STATE)):
        logger.warning(
            "The hooks of %s keep the state of a run, and runs in threads share them: runs fail, "
            "or are mixed up. Use --executor processes, or name it in DISABLE_HOOKS_FOR_PLUGINS "
            "in settings.py.",
            name,
        )


def has_hooks_before_datasets() -> bool:
    """Return whether a run executes code of the project's own before its datasets are made."""
    modules = {settings.CONTEXT_CLASS.__module__, settings.DATA_CATALOG_CLASS.__module__}
    for hooks in settings.HOOKS:
        if any(hasattr(hooks, name) for name in _EARLY):
            modules.add(getattr(hooks, "__module__", None) or getattr(hooks, "__name__", ""))
    known = [sys.modules.get(name) for name in modules]
    return not all(each is not None and is_installed_module(each) for each in known)
