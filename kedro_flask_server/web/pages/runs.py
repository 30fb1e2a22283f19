"""The list of runs, and what differs between two."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.labels import LabelError, checked, split_label
from kedro_flask_server.model.run import RunFilter, RunStatus
from kedro_flask_server.model.run_id import is_run_id
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.rendering import render, render_live
from kedro_flask_server.web.routing import path_to

_AT_A_TIME = 50
_FILTERS = ("status", "pipeline", "label", "by", "since", "until", "retried")


def add_runs(pages: Blueprint, server: KedroServer) -> None:
    """Add the pages about several runs."""

    @pages.get(f"{ROOT}/runs")
    @needs(Scope.READ, Scope.RUN)
    def runs() -> ResponseReturnValue:
        wanted, fault = _filter_of_query()
        cursor = request.args.get("cursor")
        cursor = cursor if cursor and is_run_id(cursor) else None

        def make() -> dict[str, Any]:
            page = authorized_runs(server.runs).page(wanted, limit=_AT_A_TIME, cursor=cursor)
            filters = {
                name: request.args.getlist(name) for name in _FILTERS if name in request.args
            }
            return {
                "runs": page.runs,
                "here": path_to(".runs", **filters),
                "next": path_to(".runs", **filters, cursor=page.next) if page.next else None,
                "is_first": cursor is None,
                "statuses": [*map(str, RunStatus)],
                "pipelines": authorized_runs(server.runs).pipeline_names(),
                "given": request.args,
                "fault": fault,
            }

        return render_live("runs", server.runs.state_token(), make)

    @pages.get(f"{ROOT}/runs/<run_id>/compare/<other_id>")
    @needs(Scope.READ, Scope.RUN)
    def compare(run_id: str, other_id: str) -> ResponseReturnValue:
        visible = authorized_runs(server.runs)
        one, other = visible.get(run_id), visible.get(other_id)
        found = visible.compare(run_id, other_id)
        parts = {name: each for name, each in found.items() if isinstance(each, dict)}
        return render("compare", one=one, other=other, parts=parts)

    @pages.get(f"{ROOT}/runs/<run_id>/compare")
    @needs(Scope.READ, Scope.RUN)
    def choose_other(run_id: str) -> ResponseReturnValue:
        other = request.args.get("with", "").strip()
        if is_run_id(other):
            return redirect(path_to(".compare", run_id=run_id, other_id=other), 303)
        visible = authorized_runs(server.runs)
        run = visible.get(run_id)
        wanted = RunFilter(pipeline=run.request.pipelines[0])
        others = [
            each
            for each in visible.page(wanted, limit=_AT_A_TIME, cursor=None).runs
            if each.run_id != run_id
        ]
        return render("compare_with", run=run, others=others, fault=other)


def _filter_of_query() -> tuple[RunFilter, str | None]:
    """Return the filter of the current request, and what of it is not valid."""
    given, fault = request.args, None
    statuses = [each for each in RunStatus if each.value in given.getlist("status")]
    labels: tuple[tuple[str, str | None], ...] = ()
    label = given.get("label", "").strip()
    if label:
        try:
            name, value = split_label(label)
            checked({name: value})
            labels = ((name, value if "=" in label else None),)
        except LabelError as error:
            fault = f"label: {error}"
    times = {}
    for name in ("since", "until"):
        try:
            times[name] = _time(given.get(name, ""))
        except ValueError:
            fault = f"{name}: a time is written as 2026-01-31 or 2026-01-31T12:00"
    wanted = RunFilter(
        statuses=tuple(statuses),
        pipeline=given.get("pipeline") or None,
        submitted_by=given.get("by") or None,
        since=times.get("since"),
        until=times.get("until"),
        labels=labels,
        has_retried=given.get("retried") == "1",
    )
    return wanted, fault


def _time(text: str) -> datetime | None:
    """Return a time of a form's field, in UTC where it names no zone; None for none.

    Raises:
        ValueError: If it is not valid.
    """
    if not text.strip():
        return None
    found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
