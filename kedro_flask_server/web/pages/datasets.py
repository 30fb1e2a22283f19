"""The pages of datasets: where they are, who reads and writes them, and what they hold."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import DataGoneError, UnknownOutputError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.media_types import CSV, JSON
from kedro_flask_server.model.run import ErrorDetail, Run, RunFilter
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render, render_live
from kedro_flask_server.web.pages.snapshots import datasets_of, describe_project, state_of_project

_AMONG = 100
_PREVIEW_BYTES = 4_000
_TEXTS = (JSON, CSV, "text/plain")


def add_datasets(pages: Blueprint, server: KedroServer) -> None:
    """Add the pages of datasets."""
    project_state = state_of_project(server)

    @pages.get(f"{ROOT}/datasets")
    @needs(Scope.READ, Scope.RUN)
    def datasets() -> ResponseReturnValue:
        def make() -> dict[str, Any]:
            runs = authorized_runs(server.runs)
            project = describe_project(runs)
            if isinstance(project, ErrorDetail):
                return {"failed": project, "datasets": [], "written": {}, "among": _AMONG}
            written = _last_writers(runs)
            return {
                "failed": None,
                "datasets": datasets_of(project),
                "written": written,
                "among": _AMONG,
            }

        return render_live("datasets", project_state.get() + server.runs.state_token(), make)

    @pages.get(f"{ROOT}/datasets/<path:name>")
    @needs(Scope.READ, Scope.RUN)
    def dataset(name: str) -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        project = describe_project(runs)
        known = [] if isinstance(project, ErrorDetail) else datasets_of(project)
        found = next((each for each in known if each["name"] == name), None)
        if found is None:
            raise NotFound(f"The project has no dataset {name!r} that you may see.")
        run = _last_writers(runs).get(name)
        preview = None if run is None else _preview(server, runs, run, name)
        return render("dataset", dataset=found, run=run, preview=preview, among=_AMONG)


def _last_writers(runs: AuthorizedRuns) -> dict[str, Run]:
    """Return the last run that has saved each dataset, among the newest runs."""
    found: dict[str, Run] = {}
    for run, summary in runs.recent(RunFilter(), _AMONG):
        for name, actions in () if summary is None else summary.datasets.items():
            if "saved" in actions:
                found.setdefault(name.split("@")[0], run)
    return found


def _preview(
    server: KedroServer, runs: AuthorizedRuns, run: Run, name: str
) -> dict[str, Any] | None:
    """Return the beginning of what a run has made of a dataset; None where it may not be seen."""
    if not runs.caller.may_see_data(run):
        return None
    kept = runs.outputs(run.run_id)
    output = kept.outputs.get(name)
    if output is None:
        return None
    if output.value is not None:
        return {"value": output.value, "text": None, "output": output}
    text = None
    if output.media_type in _TEXTS:
        try:
            with server.runs.data.open(run.run_id, name, kept) as file:
                text = file.read(_PREVIEW_BYTES).decode("utf-8", "replace")
        except (DataGoneError, UnknownOutputError):
            return None
    return {"value": None, "text": text, "output": output}
