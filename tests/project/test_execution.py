"""The outcome of a run, whatever it raises."""

from __future__ import annotations

import logging

import pytest

from kedro_flask_server.model.run import RunOutcome, RunStatus, StopReason
from kedro_flask_server.model.stop import RunInterrupted, StopRequest
from kedro_flask_server.project.execution import log_outcome, outcome_of
from kedro_flask_server.project.runner import RunPostponed, RunStopped


def run_that_raises(error: BaseException | None, stop: StopRequest | None = None) -> RunOutcome:
    def run() -> None:
        if error is not None:
            raise error

    return outcome_of(run, stop or StopRequest(), is_alone=False)


def test_run_that_returns_has_succeeded() -> None:
    outcome = outcome_of(lambda: None, StopRequest(), is_alone=True)
    assert (outcome.status, outcome.error) == (RunStatus.SUCCESS, None)
    assert outcome.duration_ms >= 0


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_run_that_raises_has_failed_with_it(error: BaseException) -> None:
    outcome = run_that_raises(error)
    assert outcome.status is RunStatus.FAILURE
    assert outcome.error is not None
    assert outcome.error.type == type(error).__name__


@pytest.mark.parametrize("error", [RunStopped(), RunInterrupted()])
def test_run_that_is_stopped_is_cancelled(error: BaseException) -> None:
    stop = StopRequest()
    stop.ask(StopReason.CANCEL, "cancelled")
    outcome = run_that_raises(error, stop)
    assert outcome.status is RunStatus.CANCELLED


def test_run_that_another_is_in_the_way_of_is_queued_again_unless_it_is_to_stop() -> None:
    assert run_that_raises(RunPostponed()).status is RunStatus.QUEUED
    stop = StopRequest()
    stop.ask(StopReason.CANCEL, "cancelled")
    assert run_that_raises(RunPostponed(), stop).status is RunStatus.CANCELLED


def test_run_that_ends_by_itself_after_its_time_has_failed() -> None:
    stop = StopRequest()
    stop.ask(StopReason.TIMEOUT, "too long")
    outcome = run_that_raises(None, stop)
    assert outcome.status is RunStatus.FAILURE


def test_outcome_is_logged_with_its_level(caplog: pytest.LogCaptureFixture) -> None:
    stop = StopRequest()
    stop.ask(StopReason.CANCEL, "cancelled")
    with caplog.at_level(logging.INFO):
        for error, request in ((None, None), (RunStopped(), stop), (ValueError("no"), None)):
            log_outcome("a-run", run_that_raises(error, request))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR"]
    assert all("a-run" in record.getMessage() for record in caplog.records)
