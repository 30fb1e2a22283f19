"""Kedro's hooks, bound to one run: what they tell of nodes and datasets.

Kedro says with a dataset's hooks nothing of the run, and all runs share a hook manager. So each
run's tasks get one that stands in for it and knows its run. And Kedro's hooks say when a node's
function begins and ends, but nothing of a node whose dataset fails; the tasks themselves do.
"""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, wraps
from types import MethodType
from typing import Any

from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, ParallelRunner, Task
from pluggy import HookRelay, PluginManager

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import Report, at_work_on
from kedro_flask_server.project.failures import describe, safe_name

logger = logging.getLogger(__name__)

_NOT_TOLD = "Of node %s could not be told"


def report_nodes(runner: AbstractRunner, report: Report) -> None:
    """Have a runner's run told of, node by node.

    ``ParallelRunner`` calls no hooks in this process. Of its nodes the processes tell that it
    forks, where the report can be told from there.

    Args:
        runner: A runner that runs once.
        report: Takes down what happens.
    """
    is_parallel = isinstance(runner, ParallelRunner)
    if is_parallel and not (report.is_shared and _forks()):
        return
    run = runner._run
    signature = _signature_of(run)

    # What is to run is known here, where Kedro has left out the nodes that need not.
    def run_and_tell(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        pipeline, hooks = (bound.arguments.get(name) for name in ("pipeline", "hook_manager"))
        if pipeline is not None and hooks is not None:
            report.expect(len(pipeline.nodes))
            watcher = _RunWatcher(report)
            bound.arguments["hook_manager"] = _BoundHookManager(hooks, watcher)
            if is_parallel:
                _Forked.watcher = watcher
        return run(*bound.args, **bound.kwargs)

    runner._run = run_and_tell  # type: ignore[method-assign]


def _signature_of(run: Callable[..., Any]) -> inspect.Signature:
    """Return what `inspect.signature` does, which has each function analysed once."""
    method = inspect.unwrap(run, stop=lambda each: hasattr(each, "__signature__"))
    is_bound = isinstance(method, MethodType)
    return _signature_without_self(method.__func__) if is_bound else inspect.signature(run)


@lru_cache
def _signature_without_self(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    first, *others = signature.parameters.values()
    takes_more = first.kind is first.VAR_POSITIONAL
    return signature if takes_more else signature.replace(parameters=others)


def _forks() -> bool:
    """Whether ``ParallelRunner`` forks its processes."""
    context = os.environ.get("KEDRO_MP_CONTEXT")
    return multiprocessing.get_context(context).get_start_method() == "fork"


class _Forked:
    """What a process that ``ParallelRunner`` forks finds: the run that it belongs to."""

    watcher: _RunWatcher | None = None


def context_threads(executor_class: type[ThreadPoolExecutor]) -> type[ThreadPoolExecutor]:
    """Return executors whose threads work in the context of the caller of `submit`.

    A run is known to its threads by their context, which new threads have none of before
    Python 3.14 (``sys.flags.thread_inherit_context``).
    """

    class ContextThreads(executor_class):  # type: ignore[misc,valid-type]
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            submitted: Future[Any] = super().submit(copy_context().run, fn, *args, **kwargs)
            return submitted

    return ContextThreads


def reporting_task(execute: Callable[[Task], Node]) -> Callable[[Task], Node]:
    """Return what executes a task and emits the events of its node."""

    @wraps(execute)
    def execute_and_report(task: Task) -> Node:
        hooks: object = task.hook_manager
        watcher = hooks.watcher if isinstance(hooks, _BoundHookManager) else None
        if task.parallel:  # it gets its hook manager when it executes, in a process of its own
            watcher = _Forked.watcher
        if watcher is None:
            return execute(task)
        with watcher.node(task.node):
            return execute(task)

    return execute_and_report


def binding_hook_manager(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes a hook manager and binds it to the run that forked this process."""

    @wraps(create)
    def create_and_bind(*args: Any, **kwargs: Any) -> Any:
        hooks = create(*args, **kwargs)
        watcher = _Forked.watcher
        return hooks if watcher is None else _BoundHookManager(hooks, watcher)

    return create_and_bind


class _RunWatcher:
    """Tells what happens in a run. It never raises: the run is none of its failures."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._pid = os.getpid()
        self._safe_names: dict[str, str] = {}
        self._began: dict[tuple[EventType, str, str], float] = {}
        # What a node yields is saved chunk by chunk, of which there can be very many.
        self._chunks: dict[str, dict[str, tuple[int, float]]] = {}

    @contextmanager
    def node(self, node: Node) -> Iterator[None]:
        began = time.monotonic()
        if inspect.isgeneratorfunction(node.func):
            self._chunks[node.name] = {}
        self._tell(EventType.NODE_STARTED, node)
        try:
            with at_work_on(self._safe_name(node.name)):
                yield
        except BaseException as error:
            told = describe(error)
            what = {"type": told.type, "message": told.message}
            self._tell(EventType.NODE_FAILED, node, duration_ms=_since(began), error=what)
            raise
        for name, (number, taken_ms) in self._chunks.pop(node.name, {}).items():
            taken = {"duration_ms": round(taken_ms, 2), "chunks": number}
            self._tell(EventType.DATASET_SAVED, node, dataset=name, **taken)
        self._tell(EventType.NODE_FINISHED, node, duration_ms=_since(began))

    def begins(self, what: EventType, node: Node, dataset: str) -> None:
        self._began[what, node.name, dataset] = time.monotonic()

    def ends(self, what: EventType, node: Node, dataset: str) -> None:
        taken_ms = _since(self._began.pop((what, node.name, dataset), time.monotonic()))
        chunks = self._chunks.get(node.name)
        if chunks is None or what is EventType.DATASET_LOADED:
            self._tell(what, node, dataset=dataset, duration_ms=taken_ms)
            return
        number, before_ms = chunks.get(dataset, (0, 0.0))
        chunks[dataset] = (number + 1, before_ms + taken_ms)

    def _safe_name(self, name: str) -> str:
        if name not in self._safe_names:
            self._safe_names[name] = safe_name(name)
        return self._safe_names[name]

    def _tell(self, kind: EventType, node: Node, **data: Any) -> None:
        if os.getpid() != self._pid and _Forked.watcher is not self:
            return  # a node has forked, and its child goes on as if it were the run
        try:
            of_node = {"node": self._safe_name(node.name), **data}
            if "dataset" in data:
                of_node["dataset"] = self._safe_name(data["dataset"])
            self._report.tell(kind, of_node)
        except Exception:  # a run must not fail because it cannot be told of
            logger.exception(_NOT_TOLD, node)


class _BoundHookManager(PluginManager):
    """Stands in for a session's hook manager, in one run: the same plugins, with other callers."""

    def __init__(self, hook_manager: PluginManager, watcher: _RunWatcher) -> None:
        hooks = HookRelay()
        for name, call in vars(hook_manager.hook).items():
            setattr(hooks, name, _BoundCall(call, watcher) if name in _DATASET_HOOKS else call)
        vars(self).update(vars(hook_manager), hook=hooks)
        self.watcher = watcher


class _BoundCall:
    """Calls a dataset's hook, and tells of the dataset; otherwise the hook's own caller.

    The arguments are those of Kedro's hook specifications
    (https://docs.kedro.org/en/stable/api/framework/kedro.framework.hooks/).
    """

    def __init__(self, call: Any, watcher: _RunWatcher) -> None:
        self._call = call
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    # The time that the project's own hooks take is not the dataset's.
    def __call__(self, **arguments: Any) -> Any:
        is_before, what = _DATASET_HOOKS[self._call.name]
        if is_before:
            result = self._call(**arguments)
            self._tell(self._watcher.begins, what, arguments)
            return result
        self._tell(self._watcher.ends, what, arguments)
        return self._call(**arguments)

    @staticmethod
    def _tell(
        tell: Callable[[EventType, Node, str], None], what: EventType, arguments: dict[str, Any]
    ) -> None:
        try:
            tell(what, arguments["node"], arguments["dataset_name"])
        except Exception:  # as above
            logger.exception(_NOT_TOLD, arguments.get("node"))


_DATASET_HOOKS = {
    "before_dataset_loaded": (True, EventType.DATASET_LOADED),
    "after_dataset_loaded": (False, EventType.DATASET_LOADED),
    "before_dataset_saved": (True, EventType.DATASET_SAVED),
    "after_dataset_saved": (False, EventType.DATASET_SAVED),
}


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 2)
