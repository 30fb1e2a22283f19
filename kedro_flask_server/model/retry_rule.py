"""Rules by which failed runs are retried without being asked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

BREAKDOWNS = frozenset({"RunLost", "WorkerCrashed"})
"""The errors of runs that did not end by themselves, which a second try may not survive either."""

NEVER = frozenset({"RunCancelled", "InvalidInput"})
"""The errors that no rule retries."""

# A delay is longer by up to this part, so that runs that failed together do not start together.
_JITTER = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How often and when a failed run is retried.

    Attributes:
        times: How often, in a chain.
        delay_s: After how many seconds.
        errors: The errors that count, by the names of their classes, or of classes above.
    """

    times: int
    delay_s: float = 0.0
    errors: tuple[str, ...] = ("Exception",)

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, dumped: str) -> RetryRule:
        """Return what `dump` has returned."""
        content = json.loads(dumped)
        return cls(**{**content, "errors": tuple(content["errors"])})

    def counts(self, attempt: int, errors: Collection[str]) -> bool:
        """Return whether a run is to be retried.

        Args:
            attempt: Its number in its chain, from 1.
            errors: The name of its error's class, and of those above.
        """
        return (
            attempt <= self.times
            and NEVER.isdisjoint(errors)
            and not {*self.errors}.isdisjoint(errors)
        )

    def delay_ms(self, chance: Callable[[], float] = random.random) -> int:
        """Return the delay of a retry in milliseconds, with jitter."""
        return round(self.delay_s * (1 + _JITTER * chance()) * 1000)


def rule_for(rules: Mapping[str, RetryRule], pipelines: Iterable[str]) -> RetryRule | None:
    """Return the rule of a run; of several pipelines with one, that with the fewest retries."""
    found = [rules[name] for name in pipelines if name in rules]
    return min(found, key=lambda rule: rule.times, default=None)
