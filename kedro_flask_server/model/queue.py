"""The queue of runs: its limits, its pauses, and what a queued run waits for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MIN_PRIORITY, MAX_PRIORITY = -100, 100
"""The priorities of runs; the highest is next."""


class WaitReason(str, Enum):
    """Why a queued run has not started."""

    SLOT = "slot"
    """All workers are taken, or those before it are next."""

    PAUSED = "paused"
    """The queue is paused, for all pipelines or for one of the run's."""

    DATASET = "dataset"
    """Another run reads or writes what it writes, or writes what it reads."""

    LIMIT = "limit"
    """As many runs of one of its pipelines execute as may (setting ``concurrency``)."""

    POOL = "pool"
    """A pool has too few free slots (setting ``pools``)."""

    DELAY = "delay"
    """It is a retry whose delay is not over (setting ``retries``)."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFor:
    """What a queued run waits for.

    Attributes:
        reason: Why it waits.
        pipeline: The pipeline that is paused or at its limit; None if all are paused.
        pool: The pool without enough free slots.
        dataset: The dataset of this run that another run uses.
        run_id: That run.
        until: When its delay is over, in RFC 3339.
    """

    reason: WaitReason
    pipeline: str | None = None
    pool: str | None = None
    dataset: str | None = None
    run_id: str | None = None
    until: str | None = None

    def given(self) -> dict[str, Any]:
        """Return it as JSON data, without what does not apply."""
        found = {name: getattr(self, name) for name in self.__slots__}
        shown = {name: value for name, value in found.items() if value is not None}
        return {**shown, "reason": self.reason.value}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> WaitingFor:
        """Return what `given` has returned; fields of a later version are left out."""
        known = {name: data[name] for name in cls.__slots__ if name in data}
        reasons = {each.value: each for each in WaitReason}
        return cls(**{**known, "reason": reasons.get(data["reason"], WaitReason.SLOT)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Slots that some pipelines share, on all servers together.

    Attributes:
        slots: How many there are.
        pipelines: How many a run of a pipeline takes, by the pipeline's name.
    """

    slots: int
    pipelines: Mapping[str, int]

    def slots_for(self, pipelines: Mapping[str, int]) -> int:
        """Return how many slots runs take.

        Args:
            pipelines: How many runs each pipeline has.
        """
        return sum(self.pipelines.get(name, 0) * number for name, number in pipelines.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The limits of a queue, on all servers together.

    Attributes:
        concurrency: How many runs of a pipeline may execute at a time, by its name.
        pools: The pools, by their names.
    """

    concurrency: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.concurrency or self.pools)

    def dump(self) -> str:
        """Return them as JSON, the same text for the same limits."""
        pools = {
            name: {"slots": pool.slots, "pipelines": {**pool.pipelines}}
            for name, pool in self.pools.items()
        }
        return json.dumps({"concurrency": {**self.concurrency}, "pools": pools}, sort_keys=True)

    @classmethod
    def load(cls, dumped: str) -> QueueLimits:
        """Return the limits that `dump` has dumped."""
        content = json.loads(dumped)
        return cls(
            concurrency=content.get("concurrency", {}),
            pools={name: Pool(**each) for name, each in content.get("pools", {}).items()},
        )

    def renamed(self, rename: Callable[[str], str]) -> QueueLimits:
        """Return the same limits with other names of pipelines."""
        return QueueLimits(
            concurrency={rename(name): limit for name, limit in self.concurrency.items()},
            pools={
                name: Pool(
                    slots=pool.slots,
                    pipelines={rename(each): taken for each, taken in pool.pipelines.items()},
                )
                for name, pool in self.pools.items()
            },
        )

    def changes_from(self, former: QueueLimits) -> Iterator[str]:
        """Yield how these limits differ from former ones, for a person."""
        for name in sorted({*self.concurrency, *former.concurrency}):
            before, now = former.concurrency.get(name), self.concurrency.get(name)
            if before != now:
                yield f"concurrency of {name!r} from {before or 'any'} to {now or 'any'}"
        for name in sorted({*self.pools, *former.pools}):
            if self.pools.get(name) != former.pools.get(name):
                had, has = name in former.pools, name in self.pools
                how = "changed" if had and has else "added" if has else "removed"
                yield f"pool {name!r} {how}"
