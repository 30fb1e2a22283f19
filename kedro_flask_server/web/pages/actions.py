"""What the buttons of pages do: cancel, retry, pause and resume."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.errors import RetryRefusedError, RunEndedError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.retry import FAILURE, FORCEABLE, STARTING_POINTS, RetryOptions
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render
from kedro_flask_server.web.pages.sessions import local_path
from kedro_flask_server.web.routing import path_to


def add_actions(pages: Blueprint, server: KedroServer) -> None:
    """Add what forms are sent to."""

    @pages.post(f"{ROOT}/runs/<run_id>/cancel")
    @needs(Scope.RUN)
    def cancel(run_id: str) -> ResponseReturnValue:
        with suppress(RunEndedError):  # before the button was pressed, as its page says
            authorized_runs(server.runs).cancel(run_id)
        return redirect(path_to(".run", run_id=run_id), 303)

    @pages.get(f"{ROOT}/runs/<run_id>/retry")
    @needs(Scope.RUN)
    def plan_retry(run_id: str) -> ResponseReturnValue:
        return _show_plan(server, run_id, _start(request.args.get("from")))

    @pages.post(f"{ROOT}/runs/<run_id>/retry")
    @needs(Scope.RUN)
    def retry(run_id: str) -> ResponseReturnValue:
        start = _start(request.form.get("from"))
        force = frozenset(request.form.getlist("force")) & {*FORCEABLE}
        try:
            run, _ = authorized_runs(server.runs).retry(
                run_id,
                RetryOptions(start=start, force=force),
                key=None,
                priority=None,
                wait_s=0,
                is_gone=is_gone(request),
            )
        except RetryRefusedError:  # something has changed since the plan, which says what
            return _show_plan(server, run_id, start, status=409)
        return redirect(path_to(".run", run_id=run.run_id), 303)

    @pages.post(f"{ROOT}/queue/<any(pause, resume):action>")
    @needs(Scope.ADMIN)
    def change_queue(action: str) -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        change = runs.pause if action == "pause" else runs.resume
        change(request.form.get("pipeline") or None)
        back = local_path(request.form.get("next", ""))
        return redirect(f"{request.script_root}{back}", 303)


def _start(given: str | None) -> str:
    return given if given in STARTING_POINTS else FAILURE


def _show_plan(
    server: KedroServer, run_id: str, start: str, *, status: int = 200
) -> ResponseReturnValue:
    """Show what a retry would run, before it is sent."""
    runs = authorized_runs(server.runs)
    run = runs.get(run_id)
    plan = runs.plan_retry(run_id, RetryOptions(start=start))
    return render(
        "retry",
        status=status,
        run=run,
        plan=plan,
        start=start,
        forceable=[each for each in plan.refusals if each.type in FORCEABLE],
        final=[each for each in plan.refusals if each.type not in FORCEABLE],
    )
