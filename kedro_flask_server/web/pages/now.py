"""What happens now: what executes, what waits and on what, what has failed, and who works."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.model.run import Run, RunFilter, RunStatus
from kedro_flask_server.runs.state_token import StateToken
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render_live

_MOST = 50
_LAST = 8


def add_now(pages: Blueprint, server: KedroServer) -> None:
    """Add the first page."""
    health = StateToken(lambda: json.dumps(_health(server)))

    @pages.get(ROOT)
    @needs(Scope.READ, Scope.RUN)
    def now() -> ResponseReturnValue:
        runs, found = authorized_runs(server.runs), health.get()
        state = f"{server.runs.state_token()} {found}"

        def make() -> dict[str, Any]:
            return {"health": _shown(json.loads(found), runs.caller), **_runs_now(runs)}

        return render_live("now", state, make)


def _shown(health: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return what a caller may know of how the server is."""
    health = dict(health)
    if caller.pipelines is not None:
        allowed = caller.pipelines
        health["warnings"] = {n: each for n, each in health["warnings"].items() if n in allowed}
    if not caller.sees_messages:
        for kind in ("faults", "warnings"):
            health[kind] = dict.fromkeys(health[kind], "See the server's log.")
    return health


def _runs_now(runs: AuthorizedRuns) -> dict[str, Any]:
    def of(*statuses: RunStatus, limit: int = _MOST) -> list[Run]:
        return runs.page(RunFilter(statuses=statuses), limit=limit, cursor=None).runs

    running = of(RunStatus.RUNNING)
    return {
        "running": [
            (run, runs.usual_durations(run.request.pipelines, before=run.run_id)) for run in running
        ],
        "queued": of(RunStatus.QUEUED),
        "failed": of(RunStatus.FAILURE, RunStatus.LOST, limit=_LAST),
        "ended": of(RunStatus.SUCCESS, limit=_LAST),
    }


def _health(server: KedroServer) -> dict[str, Any]:
    """Return how the server is: what stands in the way of runs, and its workers."""
    return {
        "faults": server.runs.faults(),
        "warnings": server.runs.served.warnings(),
        "dead": server.runs.dead_threads(),
        "workers": server.config.workers,
    }
