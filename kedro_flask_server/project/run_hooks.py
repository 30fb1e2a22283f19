"""The events of a run's nodes and datasets, emitted from Kedro's hooks and tasks.

Kedro passes nothing of the run to a dataset's hooks, and all runs share a hook manager. So each
run's tasks get a hook manager that is bound to the run. And Kedro calls hooks when a node's
function begins and ends, but not for a node whose dataset fails; so the tasks emit a node's events.
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
from functools import partial, wraps
from typing import Any

from kedro.io import MemoryDataset
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, ParallelRunner, Task
from pluggy import HookRelay, PluginManager

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import Report, at_work_on
from kedro_flask_server.project.data_files import rows_of, state_of
from kedro_flask_server.project.failures import describe, safe_name

logger = logging.getLogger(__name__)

_NOT_EMITTED = "An event of node %s could not be emitted"


def report_nodes(
    runner: AbstractRunner, report: Report, describe_run: Callable[[Pipeline, Any], None]
) -> None:
    """Have a runner emit the events of its nodes and datasets, and say first what they are.

    ``ParallelRunner`` calls no hooks in this process. The processes that it forks emit the events
    of its nodes, where the report can be reached from there.

    Args:
        runner: A runner that runs once.
        report: Records the events.
        describe_run: Is called with the pipeline and the catalog.
    """
    is_parallel = isinstance(runner, ParallelRunner)
    has_events = not is_parallel or (report.is_shared and _forks())
    run = runner._run
    signature = inspect.signature(run)

    # Here Kedro has left out the nodes that need not run.
    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        pipeline, catalog, hooks = (
            bound.arguments.get(name) for name in ("pipeline", "catalog", "hook_manager")
        )
        if pipeline is not None and catalog is not None:
            describe_run(pipeline, catalog)
        if has_events and pipeline is not None and hooks is not None:
            report.expect(len(pipeline.nodes))
            events = _RunEvents(report, catalog)
            bound.arguments["hook_manager"] = _BoundHookManager(hooks, events)
            if is_parallel:
                _forked_run.events = events
        return run(*bound.args, **bound.kwargs)

    runner._run = run_and_report  # type: ignore[method-assign]


def _forks() -> bool:
    """Return whether ``ParallelRunner`` forks its processes."""
    context = os.environ.get("KEDRO_MP_CONTEXT")
    return multiprocessing.get_context(context).get_start_method() == "fork"


class _ForkedRun:
    """The run that a process belongs to which ``ParallelRunner`` has forked."""

    def __init__(self) -> None:
        self.events: _RunEvents | None = None


_forked_run = _ForkedRun()


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
        events = hooks.events if isinstance(hooks, _BoundHookManager) else None
        if task.parallel:  # it gets its hook manager when it executes, in a process of its own
            events = _forked_run.events
        if events is None:
            return execute(task)
        with events.node(task.node):
            return execute(task)

    return execute_and_report


def binding_hook_manager(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes a hook manager and binds it to the run that forked this process."""

    @wraps(create)
    def create_and_bind(*args: Any, **kwargs: Any) -> Any:
        hooks = create(*args, **kwargs)
        events = _forked_run.events
        return hooks if events is None else _BoundHookManager(hooks, events)

    return create_and_bind


class _RunEvents:
    """Emits the events of a run's nodes and datasets; it never raises, whatever fails."""

    def __init__(self, report: Report, catalog: Any = None) -> None:
        self._report = report
        self._catalog = catalog
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
        self._emit(EventType.NODE_STARTED, node)
        try:
            with at_work_on(self._safe_name(node.name)):
                yield
        except BaseException as error:
            described = describe(error)
            shown = {"type": described.type, "message": described.message}
            self._emit(EventType.NODE_FAILED, node, duration_ms=_since(began), error=shown)
            raise
        for name, (number, taken_ms) in self._chunks.pop(node.name, {}).items():
            saved = {"duration_ms": round(taken_ms, 2), "chunks": number}
            saved |= self._state_of(name, is_saved=True)
            self._emit(EventType.DATASET_SAVED, node, dataset=name, **saved)
        self._emit(EventType.NODE_FINISHED, node, duration_ms=_since(began))

    def begin(self, kind: EventType, node: Node, dataset: str) -> None:
        self._began[kind, node.name, dataset] = time.monotonic()

    def end(self, kind: EventType, node: Node, dataset: str, data: Any = None) -> None:
        taken_ms = _since(self._began.pop((kind, node.name, dataset), time.monotonic()))
        chunks = self._chunks.get(node.name)
        if chunks is None or kind is EventType.DATASET_LOADED:
            facts = self._state_of(dataset, is_saved=kind is EventType.DATASET_SAVED)
            rows = rows_of(data)
            if rows is not None:
                facts["rows"] = rows
            self._emit(kind, node, dataset=dataset, duration_ms=taken_ms, **facts)
            return
        number, before_ms = chunks.get(dataset, (0, 0.0))
        chunks[dataset] = (number + 1, before_ms + taken_ms)

    def _state_of(self, dataset: str, *, is_saved: bool) -> dict[str, Any]:
        """Return the state of a dataset's file, where it has one."""
        if self._catalog is None or is_parameter(dataset):
            return {}
        found = self._catalog.get(dataset)
        if found is None or type(found) is MemoryDataset:
            return {}
        return {**state_of(found, is_saved=is_saved)}

    def _safe_name(self, name: str) -> str:
        if name not in self._safe_names:
            self._safe_names[name] = safe_name(name)
        return self._safe_names[name]

    def _emit(self, kind: EventType, node: Node, **data: Any) -> None:
        if os.getpid() != self._pid and _forked_run.events is not self:
            return  # a node has forked, and its child goes on as if it were the run
        try:
            of_node = {"node": self._safe_name(node.name), **data}
            if "dataset" in data:
                of_node["dataset"] = self._safe_name(data["dataset"])
            self._report.emit(kind, of_node)
        except Exception:  # a run must not fail because its events are lost
            logger.exception(_NOT_EMITTED, node)


class _BoundHookManager(PluginManager):
    """A session's hook manager, bound to one run: the same plugins, with other callers."""

    def __init__(self, hook_manager: PluginManager, events: _RunEvents) -> None:
        hooks = HookRelay()
        for name, call in vars(hook_manager.hook).items():
            setattr(hooks, name, _BoundCall(call, events) if name in _DATASET_HOOKS else call)
        vars(self).update(vars(hook_manager), hook=hooks)
        self.events = events


class _BoundCall:
    """Calls a dataset's hook and emits the dataset's event; in all else the hook's own caller.

    The arguments are those of Kedro's hook specifications
    (https://docs.kedro.org/en/stable/api/framework/kedro.framework.hooks/).
    """

    def __init__(self, call: Any, events: _RunEvents) -> None:
        self._call = call
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    # The time that the project's own hooks take is not the dataset's.
    def __call__(self, **arguments: Any) -> Any:
        is_before, kind = _DATASET_HOOKS[self._call.name]
        if is_before:
            result = self._call(**arguments)
            self._record(self._events.begin, kind, arguments)
            return result
        self._record(partial(self._events.end, data=arguments.get("data")), kind, arguments)
        return self._call(**arguments)

    @staticmethod
    def _record(
        record: Callable[[EventType, Node, str], None], kind: EventType, arguments: dict[str, Any]
    ) -> None:
        try:
            record(kind, arguments["node"], arguments["dataset_name"])
        except Exception:  # as above
            logger.exception(_NOT_EMITTED, arguments.get("node"))


_DATASET_HOOKS = {
    "before_dataset_loaded": (True, EventType.DATASET_LOADED),
    "after_dataset_loaded": (False, EventType.DATASET_LOADED),
    "before_dataset_saved": (True, EventType.DATASET_SAVED),
    "after_dataset_saved": (False, EventType.DATASET_SAVED),
}


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 2)
