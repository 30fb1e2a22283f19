"""Lists of runs are summaries, bounded whatever the runs hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import psutil
import pytest

from kedro_flask_server.model.run import (
    WHOLE,
    ErrorDetail,
    RunFilter,
    RunOutcome,
    RunPart,
    RunRequest,
    RunStatus,
)
from kedro_flask_server.store import RunStore
from tests.store.conftest import (
    add,
    claim,
    finish,
    get,
)


def failed(store: RunStore, error: ErrorDetail, **request) -> str:
    run_id = add(store, RunRequest(**request)).run_id
    assert claim(store) == run_id
    outcome = RunOutcome(status=RunStatus.FAILURE, duration_ms=2.5, error=error)
    assert finish(store, run_id, outcome)
    return run_id


STRINGS = [
    "short",
    "",
    'quotes " and \\ and ", "node": "x", "traceback": "y',
    "é" * 400,
    "😀" * 3_000,
    "\\" * 9_000,
    '"' * 9_000,
    "line\n" * 2_000,
]


def test_summary_has_the_beginning_of_the_error_and_no_traceback(
    store: RunStore,
) -> None:
    for message, node in zip(STRINGS, [None, *STRINGS[:-1]], strict=True):
        error = ErrorDetail(type="ValueError", message=message, node=node, traceback="t" * 16_384)
        failed(store, error, params={"x": "y" * 10_000}, pipeline_names=["b", "c", "a"])
        [shown] = store.page(RunFilter(), limit=1, cursor=None).runs
        assert shown.error is not None
        assert (shown.error.type, shown.error.traceback) == ("ValueError", None)
        for whole, seen in ((message, shown.error.message), (node, shown.error.node)):
            if whole is None or len(whole) <= 400:
                assert seen == whole
            else:
                assert seen is not None
                assert seen.encode()
                assert seen[:300] == whole[:300]
                assert len(seen) < 600
        assert shown.request == RunRequest(pipeline_names=["a", "b", "c"])


@pytest.mark.parametrize("include", [WHOLE, {RunPart.REQUEST}, {RunPart.TRACEBACK}, set()])
def test_list_has_of_the_whole_run_what_is_included(
    store: RunStore,
    include: set[RunPart],
) -> None:
    error = ErrorDetail(type="A", message="m" * 8_000, node="n", traceback="t")
    run_id = failed(store, error, params={"x": [1]})
    whole = get(store, run_id)
    [shown] = store.page(RunFilter(), limit=9, cursor=None, include=include).runs
    assert (shown.request == whole.request) is (RunPart.REQUEST in include)
    assert (shown.error == whole.error) is (RunPart.TRACEBACK in include)
    assert (shown == whole) is (set(include) == WHOLE)


def test_summary_is_small_whatever_the_run_holds(store: RunStore) -> None:
    many = [f"pipeline_{number:04d}" for number in range(2_000)]
    names = ["x" * 250 + str(number) for number in range(30)]
    for some in (many, names, ["n" * 300], None):
        add(store, RunRequest(pipeline_names=some, params={"x": "y" * 100_000}))
    page = store.page(RunFilter(), limit=9, cursor=None)
    shown = [run.request.pipeline_names for run in page.runs]
    assert shown[0] == ["__default__"]
    assert shown[1] == ["…"]
    assert shown[2] == [*sorted(names)[:20], "…"]
    assert shown[3] == [*many[:20], "…"]
    assert len(json.dumps([run.request.given() for run in page.runs])) < 10_000


def test_requests_are_not_read_for_a_list(store: RunStore) -> None:
    if not store.is_local or not psutil.LINUX:
        pytest.skip("what is read cannot be counted here")
    for _ in range(30):
        failed(store, ErrorDetail(type="A", message="m"), params={"x": "y" * 500_000})
    store.tidy()
    pages_read = pages_read_by(lambda: store.page(RunFilter(), limit=30, cursor=None), store)
    assert pages_read < 1_000  # of 3,600 and more


def pages_read_by(act: Callable[[], object], store: RunStore) -> int:
    """Return how much is read, in pages of 4 kB."""
    store.close()
    read_before = psutil.Process().io_counters().read_chars
    act()
    return (psutil.Process().io_counters().read_chars - read_before) // 4096


def test_pipelines_that_are_not_stored_are_known_to_be_there(
    store: RunStore,
) -> None:
    allowed = frozenset({"a", *(f"pipeline_{number}" for number in range(2_000))})
    for names in (["a", "n" * 300], [*sorted(allowed)], ["a"]):
        add(store, RunRequest(pipeline_names=names))
    page = store.page(RunFilter(within=allowed), limit=9, cursor=None)
    assert [run.request.pipeline_names for run in page.runs] == [["a"]]
