"""Counts and latencies of calls."""

from __future__ import annotations

from kedro_flask_server.model.run import RunStatus
from kedro_flask_server.runs.call_statistics import CallStatistics


def test_nothing_is_known_before_the_first_call() -> None:
    assert CallStatistics().dump() == {
        "calls": {"success": 0, "failure": 0, "cancelled": 0, "refused": 0},
        "latency_ms": {"p50": None, "p90": None, "p99": None},
    }


def test_calls_are_counted_and_the_newest_are_measured() -> None:
    statistics = CallStatistics()
    for latency_ms in (9_000, *range(1_000, 0, -1)):
        statistics.add(RunStatus.SUCCESS, latency_ms)
    statistics.add(RunStatus.FAILURE, 1_000.005)
    statistics.add_refused()
    found = statistics.dump()
    assert found["calls"] == {"success": 1_001, "failure": 1, "cancelled": 0, "refused": 1}
    assert found["latency_ms"] == {"p50": 500, "p90": 900, "p99": 990}
