"""The pages of pipelines: graph, last runs node by node, data, parameters, and what is served."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, redirect, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.provenance import RunSummary
from kedro_flask_server.model.run import ErrorDetail, Run, RunFilter, RunRequest
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.formats import node_state
from kedro_flask_server.web.pages.rendering import render_live
from kedro_flask_server.web.pages.snapshots import (
    describe_project,
    graph_of,
    has_graph,
    nodes_of,
    state_of_project,
)
from kedro_flask_server.web.routing import path_to

_COLUMNS = 25
_MAX_ROWS = 200


def add_pipelines(pages: Blueprint, server: KedroServer) -> None:
    """Add the pages of pipelines."""
    project_state = state_of_project(server)

    @pages.get(f"{ROOT}/pipelines")
    @needs(Scope.READ, Scope.RUN)
    def pipelines() -> ResponseReturnValue:
        def make() -> dict[str, Any]:
            runs = authorized_runs(server.runs)
            project = describe_project(runs)
            failed = project if isinstance(project, ErrorDetail) else None
            found = [] if isinstance(project, ErrorDetail) else project["pipelines"]
            sizes = {each["name"]: len(each["nodes"]) for each in found}
            names = runs.pipeline_names() or sorted(sizes)
            return {
                "failed": failed,
                "pipelines": [
                    {
                        "name": name,
                        "nodes": sizes.get(name),
                        "last": _last(runs, name),
                        "is_served": server.runs.served.get(name) is not None,
                    }
                    for name in names
                ],
            }

        return render_live("pipelines", project_state.get() + server.runs.state_token(), make)

    @pages.get(f"{ROOT}/pipelines/<name>")
    @needs(Scope.READ, Scope.RUN)
    def pipeline(name: str) -> ResponseReturnValue:
        def make() -> dict[str, Any]:
            runs = authorized_runs(server.runs)
            described = runs.describe_data(RunRequest(pipeline_names=[name]))
            failed = described if isinstance(described, ErrorDetail) else None
            project = describe_project(runs)
            nodes = [] if isinstance(project, ErrorDetail) else nodes_of(project, name)
            recent = runs.recent(RunFilter(pipeline=name), _COLUMNS)[::-1]
            return {
                "name": name,
                "failed": failed or (project if isinstance(project, ErrorDetail) else None),
                "described": None if failed else described,
                "nodes": nodes,
                "has_graph": has_graph(nodes),
                "grid": _grid([each["name"] for each in nodes], recent),
                "usual": runs.usual_durations((name,)),
                "served": runs.served(name),
                "viz_url": server.config.viz_url,
                "is_paused": name in runs.paused(),
            }

        served = server.runs.served.get(name)
        state = [
            project_state.get(),
            server.runs.state_token(),
            None if served is None else served.describe(),
        ]
        return render_live("pipeline", repr(state), make)

    @pages.get(f"{ROOT}/pipelines/<name>/graph.json")
    @needs(Scope.READ, Scope.RUN)
    def graph(name: str) -> ResponseReturnValue:
        project = describe_project(authorized_runs(server.runs))
        if isinstance(project, ErrorDetail):
            return jsonify(nodes=[], detail=f"{project.type}: {project.message}"), 503
        response: Response = jsonify(graph_of(nodes_of(project, name)))
        return response

    @pages.post(f"{ROOT}/pipelines/<name>/reload")
    @needs(Scope.ADMIN)
    def reload_pipeline(name: str) -> ResponseReturnValue:
        versions = {
            field.removeprefix("version:"): value.strip()
            for field, value in request.form.items()
            if field.startswith("version:") and value.strip()
        }
        authorized_runs(server.runs).reload(name, versions)
        return redirect(path_to(".pipeline", name=name), 303)


def _last(runs: AuthorizedRuns, pipeline: str) -> Run | None:
    found = runs.page(RunFilter(pipeline=pipeline), limit=1, cursor=None).runs
    return found[0] if found else None


def _grid(names: list[str], recent: list[tuple[Run, RunSummary | None]]) -> dict[str, Any] | None:
    """Return nodes in order by the last runs, the newest last."""
    if not recent:
        return None
    longest = max((run.duration_ms or 0 for run, _ in recent), default=0) or 1
    known = dict.fromkeys(names)
    for _, summary in recent:  # nodes that have gone since
        known.update(dict.fromkeys(() if summary is None else summary.nodes))
    rows = [*known]
    return {
        "runs": [
            {"run": run, "height": round(40 * (run.duration_ms or 0) / longest, 1)}
            for run, _ in recent
        ],
        "rows": [
            {"name": name, "cells": [_cell(name, run, summary) for run, summary in recent]}
            for name in rows[:_MAX_ROWS]
        ],
        "left_out": max(0, len(rows) - _MAX_ROWS),
    }


def _cell(name: str, run: Run, summary: RunSummary | None) -> dict[str, Any]:
    node = None if summary is None else summary.nodes.get(name)
    state = None
    if node is not None:
        state = node_state(node.state, run_status=run.status.value)
    elif not run.status.is_final:
        state = "waiting"
    elif summary is not None:
        state = "skipped"
    return {
        "run_id": run.run_id,
        "state": state,
        "duration_ms": None if node is None else node.duration_ms,
    }
