"""What is usual for a pipeline: how long its runs and nodes take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from kedro_flask_server.model.provenance import FINISHED, RunSummary
from kedro_flask_server.model.run import Run

SLOW = 2.0
"""How many times its usual duration a node takes that is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualDurations:
    """The medians of a pipeline's last successes.

    Attributes:
        runs: How many runs there were; 0 where nothing is usual yet.
        run_ms: How long a run takes, in milliseconds.
        nodes: How long each node takes, in milliseconds, by its name.
    """

    runs: int = 0
    run_ms: float | None = None
    nodes: Mapping[str, float] = field(default_factory=dict)

    def is_slow(self, node: str, duration_ms: float | None) -> bool:
        """Return whether a node has taken much longer than usual."""
        usual_ms = self.nodes.get(node)
        if usual_ms is None or duration_ms is None:
            return False
        return duration_ms > SLOW * usual_ms

    @classmethod
    def of(cls, past: Iterable[tuple[Run, RunSummary | None]]) -> UsualDurations:
        """Return those of some runs that have succeeded."""
        of_runs: list[float] = []
        of_nodes: dict[str, list[float]] = defaultdict(list)
        for run, summary in past:
            if run.duration_ms is not None:
                of_runs.append(run.duration_ms)
            for name, node in () if summary is None else summary.nodes.items():
                if node.state == FINISHED and node.duration_ms is not None:
                    of_nodes[name].append(node.duration_ms)
        return cls(
            runs=len(of_runs),
            run_ms=median(of_runs) if of_runs else None,
            nodes={name: median(each) for name, each in of_nodes.items()},
        )
