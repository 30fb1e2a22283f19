"""A queue as it is at a moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from kedro_flask_server.model.queue import Pool, QueueLimits
from kedro_flask_server.model.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue as it is at a moment.

    Attributes:
        is_paused: Whether no queued run starts.
        paused_pipelines: The pipelines whose queued runs do not start, sorted.
        limits: The limits in force.
        used: How many slots of each pool are taken, by its name.
        queued: How many runs are queued.
        running: How many runs execute.
        waiting: How many queued runs wait for each reason.
        runs: The queued runs that are next, in their order, as summaries.
    """

    is_paused: bool
    paused_pipelines: Sequence[str]
    limits: QueueLimits
    used: Mapping[str, int]
    queued: int
    running: int
    waiting: Mapping[str, int]
    runs: Sequence[Run] = ()

    def within(self, pipelines: Collection[str]) -> QueueState:
        """Return the same without the names of other pipelines."""
        concurrency = {
            name: limit for name, limit in self.limits.concurrency.items() if name in pipelines
        }
        pools = {
            name: Pool(
                slots=pool.slots,
                pipelines={each: n for each, n in pool.pipelines.items() if each in pipelines},
            )
            for name, pool in self.limits.pools.items()
        }
        return replace(
            self,
            paused_pipelines=[name for name in self.paused_pipelines if name in pipelines],
            limits=QueueLimits(concurrency=concurrency, pools=pools),
        )
