"""The events of a run's nodes and datasets, with Kedro's own runners."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kedro.framework.hooks import _create_hook_manager, hook_impl
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner, ThreadRunner
from pluggy import PluginManager

from kedro_flask_server.logs import logs_of, make_records_safe
from kedro_flask_server.model.event import Event
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import Progress
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import stop_between_nodes

logger = logging.getLogger("probe")


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    make = logging.getLogRecordFactory()
    make_records_safe(str)
    kedro_patches.apply()
    yield
    logging.setLogRecordFactory(make)


class CountingHooks:
    """A project's hooks."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        self.calls.append(("load", dataset_name))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        self.calls.append(("saved", dataset_name))

    @hook_impl
    def before_node_run(self, node: Node) -> dict[str, Any] | None:
        self.calls.append(("node", node.name))
        return {"raw": 5} if node.name == "replace" else None


def execute(
    runner: AbstractRunner,
    pipeline: Pipeline,
    hooks: object = None,
    datasets: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[list[Event], RunReport]:
    report = RunReport(after=0, max_log_bytes=100_000)
    manager = _create_hook_manager()
    if hooks is not None:
        manager.register(hooks)
    report_nodes(runner, report, describe_nothing)
    catalog = DataCatalog({"raw": MemoryDataset(1)} | (datasets or {}))
    with contextlib.suppress(ValueError, DatasetError), logs_of("a run", report):
        runner.run(pipeline, catalog, manager, run_id="a-run", **options)
    return report.drain(), report


def test_datasets_are_shown_by_their_names_whatever_they_look_like() -> None:
    names = ["sales#csv", "why?yes", "https://me@host/#x"]
    pipeline = Pipeline([Node(lambda *each: each, names, "password=x", name="read")])
    events, _ = execute(
        SequentialRunner(), pipeline, datasets={name: MemoryDataset(1) for name in names}
    )
    reported = [each.data["dataset"] for each in events if "dataset" in each.data]
    assert reported == [*names, "password=x"]


def shown(events: list[Event]) -> list[tuple[str, str]]:
    return [
        (event.type, str(event.data.get("dataset") or event.data["node"]))
        for event in events
        if event.type != "log"
    ]


def same(value: Any) -> Any:
    return value


def fail(value: Any) -> Any:
    raise ValueError("no [bold]\x1b")


def chunks(value: Any) -> Iterator[Any]:
    yield 1
    yield 2


TWO = Pipeline([Node(same, "raw", "half", name="a"), Node(same, "half", "whole", name="b")])


@pytest.mark.parametrize("is_async", [False, True])
def test_nodes_are_reported_from_loading_to_saving_and_hooks_go_on(is_async: bool) -> None:
    hooks = CountingHooks()
    events, report = execute(SequentialRunner(is_async=is_async), TWO, hooks)
    assert shown(events) == [
        ("node.started", "a"),
        ("dataset.loaded", "raw"),
        ("dataset.saved", "half"),
        ("node.finished", "a"),
        ("node.started", "b"),
        ("dataset.loaded", "half"),
        ("dataset.saved", "whole"),
        ("node.finished", "b"),
    ]
    reported = [event for event in events if event.type != "log"]
    assert [(e.data["done"], e.data["total"]) for e in reported if "done" in e.data] == [
        (0, 2),
        (1, 2),
        (1, 2),
        (2, 2),
    ]
    assert all(event.data["duration_ms"] >= 0 for event in reported if "started" not in event.type)
    assert report.progress == Progress(done=2, total=2)
    assert hooks.calls == [
        ("load", "raw"),
        ("node", "a"),
        ("saved", "half"),
        ("load", "half"),
        ("node", "b"),
        ("saved", "whole"),
    ]


def test_what_a_projects_hook_returns_reaches_the_node() -> None:
    seen: list[Any] = []
    pipeline = Pipeline([Node(seen.append, "raw", None, name="replace")])
    execute(SequentialRunner(), pipeline, CountingHooks())
    assert seen == [5]


def test_node_that_raises_has_failed_with_its_error() -> None:
    pipeline = Pipeline([Node(fail, "raw", "x", name="a"), Node(same, "x", "y", name="b")])
    events, report = execute(SequentialRunner(), pipeline)
    assert shown(events) == [
        ("node.started", "a"),
        ("dataset.loaded", "raw"),
        ("node.failed", "a"),
    ]
    failed = next(event for event in events if event.type == "node.failed")
    assert failed.data["error"] == {"type": "ValueError", "message": "no [bold]\x1b"}
    assert (failed.data["done"], failed.data["total"]) == (0, 2)
    assert report.progress == Progress(done=0, total=2)


class BrokenDataset(MemoryDataset):
    """Cannot be read or written."""

    def load(self) -> Any:
        raise ValueError("unreadable")

    def save(self, data: Any) -> None:
        raise ValueError("unwritable")


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
@pytest.mark.parametrize("place", ["raw", "x"])
def test_node_whose_dataset_fails_has_failed(runner: type[AbstractRunner], place: str) -> None:
    pipeline = Pipeline([Node(same, "raw", "x", name="a")])
    events, _ = execute(runner(), pipeline, datasets={place: BrokenDataset()})
    kinds = [event.type for event in events if event.type != "log"]
    assert kinds[0] == "node.started"
    assert kinds[-1] == "node.failed"


def test_what_a_node_yields_is_saved_once() -> None:
    pipeline = Pipeline([Node(chunks, "raw", "parts", name="a")])
    events, _ = execute(SequentialRunner(), pipeline)
    assert shown(events)[-2:] == [("dataset.saved", "parts"), ("node.finished", "a")]
    saved = [event for event in events if event.type == "dataset.saved"]
    assert [event.data["chunks"] for event in saved] == [2]


def test_nodes_that_need_not_run_are_not_counted(tmp_path) -> None:
    from kedro_datasets.json import JSONDataset

    stored = {
        name: JSONDataset(filepath=str(tmp_path / f"{name}.json")) for name in ("half", "whole")
    }
    stored["half"].save(1)
    events, report = execute(SequentialRunner(), TWO, datasets=stored, only_missing_outputs=True)
    assert report.progress == Progress(done=1, total=1)
    assert ("node.started", "a") not in shown(events)
    events, report = execute(SequentialRunner(), TWO, datasets=stored, only_missing_outputs=True)
    assert (report.progress, shown(events)) == (Progress(done=0, total=0), [])


class IdleParallelRunner(ParallelRunner):
    """Starts no process."""

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None) -> Any:
        assert not hasattr(hook_manager, "events")


def test_parallel_runner_is_described_and_emits_no_events_of_its_nodes() -> None:
    runner, report = IdleParallelRunner(max_workers=1), RunReport(after=0, max_log_bytes=0)
    described: list[Pipeline] = []
    report_nodes(runner, report, lambda pipeline, _: described.append(pipeline))
    runner._run(Pipeline([]), DataCatalog(), _create_hook_manager())
    assert len(described) == 1
    assert (report.progress, report.drain()) == (None, [])
    runner._manager.shutdown()


class KeywordRunner(SequentialRunner):
    """Calls Kedro's loop in a way of its own."""

    def run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, **_: Any) -> Any:
        for name in pipeline.datasets():
            catalog.get(name, fallback_to_runtime_pattern=True)
        return self._run(pipeline=pipeline, catalog=catalog, hook_manager=hook_manager, run_id="x")


class DryRunner(SequentialRunner):
    """Runs nothing."""

    def run(self, pipeline: Pipeline, catalog: Any, *_: Any, **__: Any) -> Any:
        return self._run(pipeline, catalog)

    def _run(self, pipeline: Pipeline, catalog: Any, *_: Any, **__: Any) -> None:
        return None


def test_runner_of_the_projects_own_may_call_kedros_loop_as_it_likes() -> None:
    events, report = execute(KeywordRunner(), TWO)
    assert report.progress == Progress(done=2, total=2)
    assert len(shown(events)) == 8
    events, report = execute(DryRunner(), TWO)
    assert (report.progress, shown(events)) == (None, [])


def describe_nothing(pipeline: Pipeline, catalog: object) -> None:
    """Describe nothing."""


class BrokenReport(RunReport):
    def tell(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("out of order")


def test_run_does_not_fail_because_its_events_are_lost() -> None:
    runner = SequentialRunner()
    report_nodes(runner, BrokenReport(after=0, max_log_bytes=0), describe_nothing)
    result = runner.run(TWO, DataCatalog({"raw": MemoryDataset(1)}), _create_hook_manager())
    assert result["whole"].load() == 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_runs_at_the_same_time_keep_their_events_and_logs_apart(
    runner: type[AbstractRunner], is_async: bool
) -> None:
    together = threading.Barrier(8)

    def run(tag: str) -> list[Event]:
        def work(value: Any) -> str:
            logger.warning("work of %s", tag)
            return tag

        nodes = [Node(work, "raw", f"{tag}_{number}", name=f"{tag}{number}") for number in range(8)]
        together.wait(10)
        return execute(runner(is_async=is_async), Pipeline(nodes))[0]

    tags = [chr(ord("a") + number) * 5 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for tag, events in zip(tags, pool.map(run, tags), strict=True):
            reported = [event for event in events if event.type != "log"]
            assert {str(event.data["node"])[:5] for event in reported} == {tag}
            assert len(reported) == 8 * 4
            saved = {e.data["dataset"] for e in reported if e.type == "dataset.saved"}
            assert saved == {f"{tag}_{number}" for number in range(8)}
            messages = [str(event.data["message"]) for event in events if event.type == "log"]
            assert messages.count(f"work of {tag}") == 8
            assert not [m for m in messages if any(other in m for other in tags if other != tag)]
            # Kedro's own threads load and save: what they log is the run's, too.
            assert sum("Saving data to" in message for message in messages) == 8
            assert sum("Loading data from" in message for message in messages) == 8


def undecorated(run: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs)

    return timed


class DecoratedRunner(SequentialRunner):
    _run = undecorated(SequentialRunner._run)  # type: ignore[assignment]


class WrappedRunner(SequentialRunner):
    _run = functools.wraps(SequentialRunner._run)(undecorated(SequentialRunner._run))


class ForwardingRunner(SequentialRunner):
    def _run(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super()._run(*args, **kwargs)


class StaticRunner(SequentialRunner):
    @staticmethod
    def _run(*args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return SequentialRunner()._run(*args, **kwargs)


@pytest.mark.parametrize(
    ("runner_class", "reported"),
    [(DecoratedRunner, 0), (WrappedRunner, 8), (ForwardingRunner, 0), (StaticRunner, 0)],
)
def test_runner_may_take_its_arguments_in_any_way(
    runner_class: type[AbstractRunner], reported: int
) -> None:
    for _ in range(2):
        events, _ = execute(runner_class(), TWO)
        assert len(shown(events)) == reported  # whose arguments have no names, is not looked into
        own = runner_class()
        stop_between_nodes(own, StopRequest())
        catalog = DataCatalog({"raw": MemoryDataset(1)})
        report_nodes(own, RunReport(after=0, max_log_bytes=0), describe_nothing)
        assert [*own.run(TWO, catalog, _create_hook_manager())] == ["whole"]


class CuriousRunner(SequentialRunner):
    """Looks at the hooks."""

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, *args: Any) -> None:
        assert isinstance(hook_manager, PluginManager)
        call = hook_manager.hook.before_dataset_loaded
        found = [each.plugin for each in call.get_hookimpls()]
        assert found == [each for each in hook_manager.get_plugins() if has_hook(each)]
        assert hook_manager.get_hookcallers(found[0])
        assert "after_node_run" in dir(hook_manager.hook)
        late = CountingHooks()
        hook_manager.register(late)
        super()._run(pipeline, catalog, hook_manager, *args)
        assert late.calls == found[0].calls
        hook_manager.unregister(late)


def has_hook(plugin: Any) -> bool:
    return hasattr(plugin, "before_dataset_loaded")


def test_hook_manager_answers_a_runner_as_it_is_asked() -> None:
    hooks = CountingHooks()
    events, _ = execute(CuriousRunner(), TWO, hooks)
    assert ("load", "raw") in hooks.calls
    assert ("dataset.loaded", "raw") in shown(events)
