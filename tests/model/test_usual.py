"""What is usual for a pipeline."""

from __future__ import annotations

from datetime import datetime, timezone

from kedro_flask_server.model.provenance import NodeSummary, RunSummary
from kedro_flask_server.model.run import Run, RunRequest, RunStatus
from kedro_flask_server.model.usual import UsualDurations


def past(run_ms: float | None, **nodes: float) -> tuple[Run, RunSummary]:
    run = Run(
        run_id="2026-01-01T00.00.00.000Z",
        project="p",
        env="local",
        status=RunStatus.SUCCESS,
        request=RunRequest(),
        created_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
        duration_ms=run_ms,
    )
    found = {name: NodeSummary("finished", duration_ms=ms) for name, ms in nodes.items()}
    return run, RunSummary(nodes={**found, "failed": NodeSummary("failed", duration_ms=9)})


def test_medians_are_of_what_finished() -> None:
    usual = UsualDurations.of([past(10, a=1), past(1_000, a=3, b=5), past(30, a=2)])
    assert (usual.runs, usual.run_ms, usual.nodes) == (3, 30, {"a": 2, "b": 5})


def test_nothing_is_usual_without_history() -> None:
    assert UsualDurations.of([]) == UsualDurations()
    assert not UsualDurations().is_slow("a", 10_000)


def test_node_is_slow_above_twice_its_median() -> None:
    usual = UsualDurations(runs=1, run_ms=1, nodes={"a": 10})
    assert [usual.is_slow("a", ms) for ms in (None, 20, 20.1)] == [False, False, True]
