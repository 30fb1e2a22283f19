"""The form that starts a run, and what it would run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import ServerError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.labels import LabelError, checked, split_label
from kedro_flask_server.model.media_types import JSON, media_type_of
from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY
from kedro_flask_server.model.run import DEFAULT_PIPELINE, ErrorDetail, Run, RunRequest
from kedro_flask_server.web.arguments import load_fields, refuse_interpolation
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.clients import is_gone
from kedro_flask_server.web.data_forms import DataForm, staged
from kedro_flask_server.web.errors import InvalidRequestError, answer_error, detail_of
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import ROOT
from kedro_flask_server.web.pages.formats import labelled
from kedro_flask_server.web.pages.parameters import (
    PREFIX,
    InvalidParameterError,
    ParameterField,
    changed_params,
    check,
    fields_of,
)
from kedro_flask_server.web.pages.rendering import render
from kedro_flask_server.web.pages.snapshots import describe_project, has_graph, nodes_of
from kedro_flask_server.web.pipelines import checked_data, names_in
from kedro_flask_server.web.routing import path_to
from kedro_flask_server.web.schemas.requests import PipelineRun, RunRequestSchema

_LINES = ("from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs", "namespaces")
"""Fields with a name in each line: those of nodes may hold commas."""

_PRIORITY = re.compile(r"-?(?:100|[1-9]?[0-9])")

RUNNERS = ("SequentialRunner", "ThreadRunner", "ParallelRunner")

_DATA = "data:"
_FILE = "file:"
_REQUEST_SCHEMA = RunRequestSchema()


@dataclass(slots=True)
class _Faults:
    """What is wrong with a form: by field, and as a whole."""

    by_field: dict[str, str] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)

    def add(self, problems: Sequence[Mapping[str, Any]]) -> None:
        for each in problems:
            message = str(each["msg"]).removeprefix("Value error, ")
            place = each["loc"][1:]
            if place and place[0] == "inputs" and len(place) > 1:
                self.by_field[f"{_DATA}{place[1]}"] = message
            elif place and place[0] == "params":
                self.by_field[f"{PREFIX}{'.'.join(map(str, place[1:]))}"] = message
            elif place:
                self.by_field[str(place[0])] = message
            else:
                self.whole.append(message)

    def __bool__(self) -> bool:
        return bool(self.by_field or self.whole)


def add_run_form(pages: Blueprint, server: KedroServer) -> None:
    """Add the form, what it would run, and what it starts."""

    @pages.get(f"{ROOT}/start")
    @needs(Scope.RUN)
    def start() -> ResponseReturnValue:
        runs = authorized_runs(server.runs)
        past = None
        with suppress(ServerError):  # a run that has gone fills in nothing
            past = runs.get(request.args["run"]) if request.args.get("run") else None
        names = request.args.getlist("pipeline")
        if past is not None and not names:
            names = [*past.request.pipelines]
        return _show(server, names or _first(runs), past=past)

    @pages.post(f"{ROOT}/start")
    @needs(Scope.RUN)
    def start_run() -> ResponseReturnValue:
        runs, faults = authorized_runs(server.runs), _Faults()
        names = request.form.getlist("pipeline")
        if "choose" in request.form or not names:  # other pipelines, with what was typed
            return _show(server, names)
        described = runs.describe_data(RunRequest(pipeline_names=names))
        fields = _fields(described)
        wanted, options = _wanted(server, names, fields, faults)
        if wanted is None:
            return _show(server, names, faults=faults, status=422)
        try:
            selected = runs.describe_data(replace(wanted, params=None))
            if isinstance(selected, ErrorDetail):
                faults.whole.append(f"{selected.type}: {selected.message}")
                return _show(server, names, faults=faults, status=422)
            run = _submit(server, runs, wanted, selected, options)
        except InvalidRequestError as error:
            faults.add(error.problems)
        except ServerError as error:
            answer = answer_error(error)
            faults.whole.append(str(detail_of(answer)))
            return _show(server, names, faults=faults, status=answer.status_code)
        else:
            return redirect(path_to(".run", run_id=run.run_id), 303)
        return _show(server, names, faults=faults, status=422)

    @pages.post(f"{ROOT}/start/plan")
    @needs(Scope.RUN)
    def plan() -> ResponseReturnValue:
        runs, faults = authorized_runs(server.runs), _Faults()
        names = request.form.getlist("pipeline") or _first(runs)
        described = runs.describe_data(RunRequest(pipeline_names=names))
        fields = check(_fields(described))
        wanted, _ = _wanted(server, names, fields, faults)
        found: Any = None
        if wanted is not None:
            found = runs.describe_data(replace(wanted, params=None))
            if isinstance(found, ErrorDetail):
                faults.whole.append(f"{found.type}: {found.message}")
                found = None
        return render("run_plan", found=found, fields=fields, faults=faults)


def _first(runs: AuthorizedRuns) -> list[str]:
    names = runs.pipeline_names()
    return [DEFAULT_PIPELINE] if DEFAULT_PIPELINE in names or not names else names[:1]


def _fields(
    described: dict[str, Any] | ErrorDetail | None, past: Run | None = None
) -> list[ParameterField]:
    if described is None or isinstance(described, ErrorDetail):
        return []
    params = None if past is None else past.request.params
    return fields_of(described["parameters"], request.form, params)


def _show(
    server: KedroServer,
    names: list[str],
    *,
    past: Run | None = None,
    faults: _Faults | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    """Show the form, with what was sent, or what another run was sent with."""
    runs = authorized_runs(server.runs)
    described = runs.describe_data(RunRequest(pipeline_names=names)) if names else None
    failed = described if isinstance(described, ErrorDetail) else None
    project = describe_project(runs)
    nodes = (
        nodes_of(project, names[0])
        if len(names) == 1 and not isinstance(project, ErrorDetail)
        else []
    )
    fields = check(_fields(described, past))
    return render(
        "start",
        status=status,
        names=names,
        pipelines=runs.pipeline_names(),
        failed=failed,
        described=None if failed else described,
        fields=fields,
        given=_given(past),
        faults=faults or _Faults(),
        runners=RUNNERS,
        tags=sorted({tag for node in nodes for tag in node["tags"]}),
        graph_pipeline=names[0] if has_graph(nodes) else None,
        past=past,
    )


def _given(past: Run | None) -> Mapping[str, str]:
    """Return the texts of the fields that are no parameters."""
    if request.method == "POST" or past is None:
        return request.form
    sent = past.request
    lines = {name: "\n".join(getattr(sent, name) or ()) for name in _LINES}
    return {
        **lines,
        "tags": ", ".join(sent.tags or ()),
        "runner": sent.runner or "",
        "only_missing_outputs": "on" if sent.only_missing_outputs else "",
        "is_async": "on" if sent.is_async else "",
        "labels": ", ".join(labelled(name, value) for name, value in past.labels.items()),
        "priority": str(past.priority or ""),
    }


def _wanted(
    server: KedroServer, names: list[str], fields: list[ParameterField], faults: _Faults
) -> tuple[RunRequest | None, dict[str, Any]]:
    """Return what the form asks for; what is wrong with it goes to `faults`."""
    form, options = request.form, dict[str, Any]()
    content: dict[str, Any] = {"pipeline_names": names}
    for name in _LINES:
        content[name] = [line.strip() for line in form.get(name, "").splitlines() if line.strip()]
    content["tags"] = [each for each in re.split(r"[,\s]+", form.get("tags", "")) if each]
    content["runner"] = form.get("runner") or None
    content["only_missing_outputs"] = form.get("only_missing_outputs") == "on"
    content["is_async"] = form.get("is_async") == "on"
    wrong = {each.field: each.fault for each in check(fields) if each.fault}
    faults.by_field.update({name: fault for name, fault in wrong.items() if fault})
    try:
        options["labels"] = _labels(form.get("labels", ""))
    except LabelError as error:
        faults.by_field["labels"] = str(error)
    priority = form.get("priority", "").strip()
    if priority and not _PRIORITY.fullmatch(priority):
        faults.by_field["priority"] = f"It takes a number from {MIN_PRIORITY} to {MAX_PRIORITY}."
    else:
        options["priority"] = int(priority) if priority else None
    if faults:
        return None, options
    try:
        content["params"] = changed_params(fields) or None
        if not server.config.allow_param_interpolation:
            refuse_interpolation(content["params"])
        wanted: RunRequest = load_fields(
            {name: value for name, value in content.items() if value not in (None, [], False)},
            _REQUEST_SCHEMA,
        )
    except InvalidParameterError as error:
        faults.whole.append(str(error))
        return None, options
    except InvalidRequestError as error:
        faults.add(error.problems)
        return None, options
    return wanted, options


def _labels(text: str) -> dict[str, str]:
    return checked(dict(map(split_label, filter(None, re.split(r",\s*", text.strip())))))


def _submit(
    server: KedroServer,
    runs: AuthorizedRuns,
    wanted: RunRequest,
    described: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Run:
    """Submit the run, with its data."""
    submitted = {**options, "key": None, "wait_s": 0, "is_gone": is_gone(request)}
    given = _data_names()
    if not given and not any(each["is_required"] for each in described["inputs"].values()):
        return runs.submit(wanted, **submitted)
    names = names_in(described)
    with staged(server.runs.data, names, max_content_bytes=0) as form:
        for name in given:
            _read_data(form, name)
        asked = PipelineRun(request=wanted, outputs=None, save=True)
        exchange = checked_data(form, asked, described, None)
        run = runs.submit(replace(wanted, data=exchange.dump()), **submitted)
        form.is_kept = True
        return run


def _data_names() -> list[str]:
    """Return the datasets that the form gives."""
    typed = [
        name.removeprefix(_DATA)
        for name, text in request.form.items()
        if name.startswith(_DATA) and text.strip()
    ]
    files = [
        name.removeprefix(_FILE)
        for name, file in request.files.items()
        if name.startswith(_FILE) and file.filename
    ]
    return [*dict.fromkeys([*typed, *files])]


def _read_data(form: DataForm, name: str) -> None:
    file = request.files.get(f"{_FILE}{name}")
    if file is not None and file.filename:
        form.write_raw(file.stream, name, media_type_of(PurePath(file.filename)))
    else:
        form.add(name, JSON, request.form[f"{_DATA}{name}"].encode())
