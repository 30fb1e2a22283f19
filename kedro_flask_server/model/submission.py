"""Runs as they are submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kedro_flask_server.model.run import ANONYMOUS, RunRequest, Submitter


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOf:
    """What a retry retries.

    Attributes:
        run_id: The run.
        plan: What the retry runs and why (`RetryPlan.dump`), as JSON; None for all of it.
    """

    run_id: str
    plan: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run as it is submitted.

    Attributes:
        request: What to run.
        submitter: The caller who submits it; keys are unique per submitter.
        key: An idempotency key.
        key_stands_for: What was sent with the key, if that is not the request: the same again
            returns the same run.
        priority: Its priority; None for that of its pipelines.
        labels: Its labels.
        retry_of: The run that it retries.
    """

    request: RunRequest
    submitter: Submitter = ANONYMOUS
    key: str | None = None
    key_stands_for: str | None = None
    priority: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    retry_of: RetryOf | None = None
