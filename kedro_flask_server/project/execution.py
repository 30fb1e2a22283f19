"""The execution of pipelines, and its outcome whatever the project's code raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from kedro.framework.session import KedroServiceSession
from kedro.runner import AbstractRunner

from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, RunStatus, StopReason
from kedro_flask_server.model.stop import RunInterrupted, StopRequest
from kedro_flask_server.project.configuration.class_guard import classes_guarded
from kedro_flask_server.project.configuration.resolvers import resolvers_of_run
from kedro_flask_server.project.failures import PLAIN, bases_of, describe_run
from kedro_flask_server.project.hook_calls import pipelines_named
from kedro_flask_server.project.runner import RunPostponed, RunStopped

logger = logging.getLogger(__name__)


def run_pipelines(
    session: KedroServiceSession,
    runner: AbstractRunner,
    run_id: str,
    request: RunRequest,
    runtime_params: dict[str, Any] | None,
) -> None:
    """Run the pipelines of a request, with what the command passes: hooks find it in `run_params`.

    Args:
        session: Has the pipelines.
        runner: Runs once.
        run_id: The run's id.
        request: What to run.
        runtime_params: Its parameters as the loader is to have them.
    """
    with pipelines_named(request.pipeline_names):
        session.run(
            run_id=run_id,
            runner=runner,
            pipeline_names=request.pipeline_names or [],
            tags=tuple(request.tags or ()),
            node_names=tuple(request.node_names or ()),
            from_nodes=request.from_nodes or [],
            to_nodes=request.to_nodes or [],
            from_inputs=request.from_inputs or [],
            to_outputs=request.to_outputs or [],
            load_versions=request.load_versions or {},
            namespaces=request.namespaces or [],
            only_missing_outputs=request.only_missing_outputs,
            runtime_params=runtime_params,
        )


def outcome_of(run: Callable[[], None], stop: StopRequest, *, is_alone: bool) -> RunOutcome:
    """Run something and return what became of it.

    Args:
        run: The run.
        stop: Whether it is to stop.
        is_alone: Whether it has the process to itself.

    Returns:
        The outcome. Whatever the run raises, ``SystemExit`` and ``KeyboardInterrupt`` included, is
        in it.
    """
    started_at = time.perf_counter()
    error: ErrorDetail | None = None
    bases: tuple[str, ...] = ()
    is_stopped = False
    try:
        with resolvers_of_run(is_alone=is_alone), classes_guarded(), stop.enforced():
            run()
    except (RunStopped, RunInterrupted):
        is_stopped = True
    except RunPostponed:
        if stop.reason is None:
            return RunOutcome(status=RunStatus.QUEUED, duration_ms=0)
        is_stopped = True
    except BaseException as raised:  # a node may raise anything, and only its own run fails
        error, bases = describe_run(raised), bases_of(raised)
    duration_ms = round((time.perf_counter() - started_at) * 1000, 2)
    # A run that is cancelled during its last node has done all that it was to do. One that
    # took longer than it may has failed by that alone.
    if is_stopped or (error is None and stop.reason is StopReason.TIMEOUT):
        return stop.outcome(duration_ms)
    status = RunStatus.SUCCESS if error is None else RunStatus.FAILURE
    return RunOutcome(status=status, duration_ms=duration_ms, error=error, error_bases=bases)


def log_outcome(run_id: str, outcome: RunOutcome) -> None:
    """Log what became of a run."""
    if outcome.status is RunStatus.QUEUED:
        logger.info("Run %s is queued again: another run uses what it writes, or reads", run_id)
        return
    if outcome.error is None:
        logger.info("Run %s succeeded in %.2f ms", run_id, outcome.duration_ms)
        return
    if outcome.status is RunStatus.CANCELLED:
        logger.warning("Run %s was cancelled", run_id)
        return
    logger.error(
        "Run %s failed: %s: %s\n%s",
        run_id,
        outcome.error.type,
        outcome.error.message,
        outcome.error.traceback or "",
        extra=PLAIN,
    )
