"""Rules by which failed runs are retried."""

from __future__ import annotations

import pytest

from kedro_flask_server.model.retry_rule import RetryRule, rule_for


@pytest.mark.parametrize(
    ("errors", "attempt", "expected"),
    [
        ({"DatasetError", "Exception"}, 1, True),
        ({"MyError", "DatasetError", "Exception"}, 2, True),
        ({"DatasetError", "Exception"}, 3, False),
        ({"ValueError", "Exception"}, 1, False),
        ({"RunLost"}, 1, True),
        ({"WorkerCrashed"}, 1, False),
        ({"RunCancelled", "DatasetError"}, 1, False),
    ],
)
def test_errors_count_by_their_classes(errors: set[str], attempt: int, *, expected: bool) -> None:
    rule = RetryRule(times=2, errors=("DatasetError", "RunLost"))
    assert rule.counts(attempt, errors) is expected


def test_delay_is_longer_by_chance() -> None:
    rule = RetryRule(times=1, delay_s=60)
    assert rule.delay_ms(lambda: 0.0) == 60_000
    assert rule.delay_ms(lambda: 1.0) == 75_000
    assert RetryRule.load(rule.dump()) == rule


def test_rule_of_several_pipelines_is_the_most_cautious() -> None:
    rules = {"a": RetryRule(times=3), "b": RetryRule(times=1)}
    assert rule_for(rules, ["a", "b", "c"]) == rules["b"]
    assert rule_for(rules, ["c"]) is None
