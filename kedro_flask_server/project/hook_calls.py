"""Calls of a project's hooks, made as ``kedro run`` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pluggy import PluginManager

from kedro_flask_server.logs import flush_logs

# They may read what their run has logged.
_AFTER = ("after_node_run", "on_node_error", "after_pipeline_run", "on_pipeline_error")

_on_start: ContextVar[Callable[[Any, Any], None] | None] = ContextVar("on_start", default=None)

_names_none: ContextVar[bool] = ContextVar("run_names_no_pipeline", default=False)


@contextmanager
def pipelines_named(names: Sequence[str] | None) -> Iterator[None]:
    """Pass the pipelines that a run names, which may be none, to its hooks.

    Kedro's session for several runs passes ``__default__`` for none; ``kedro run`` does not.
    """
    token = _names_none.set(not names)
    try:
        yield
    finally:
        _names_none.reset(token)


@contextmanager
def before_start(check: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call a function with the pipeline and the catalog before a run's ``before_pipeline_run``.

    Hooks have changed the catalog by then, and none of a run was called. What the function raises
    ends the run without further hooks.
    """
    token = _on_start.set(check)
    try:
        yield
    finally:
        _on_start.reset(token)


def prepare_calls(hook_manager: PluginManager) -> None:
    """Have a session's hook manager call hooks as ``kedro run`` does."""
    hook_manager.add_hookcall_monitoring(_before, _after)


def _before(hook_name: str, hook_impls: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    if hook_name == "before_pipeline_run":
        check = _on_start.get()
        if check is not None:
            check(arguments["pipeline"], arguments["catalog"])
    if not hook_impls:
        return
    if hook_name in _AFTER:
        flush_logs()
    if hook_name == "before_pipeline_run" and _names_none.get():
        arguments["run_params"]["pipeline_names"] = []


def _after(*_: object) -> None:
    """Do nothing; pluggy asks for both."""
