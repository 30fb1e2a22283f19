"""Pipelines that take data in a request, and return data in the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Request, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotAcceptable

from kedro_flask_server.model.caller import Scope
from kedro_flask_server.model.data_exchange import MAX_CONTENT_BYTES, DataRequest
from kedro_flask_server.model.media_types import JSON
from kedro_flask_server.model.run import ErrorDetail, RunRequest, RunStatus
from kedro_flask_server.project.snapshot import parse_params
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.web.arguments import (
    is_json,
    load_fields,
    load_query,
    refuse_interpolation,
    report,
)
from kedro_flask_server.web.authentication import authorized_runs, needs
from kedro_flask_server.web.core import answer, run_or_submit
from kedro_flask_server.web.data_answers import answer_failure, answer_with_outputs
from kedro_flask_server.web.data_forms import (
    FORM,
    GIVEN_TWICE,
    MULTIPART,
    DataForm,
    read_form,
    refuse_forms_of_other_sites,
    staged,
)
from kedro_flask_server.web.errors import InvalidRequestError
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.preferences import Preferences
from kedro_flask_server.web.schemas.fields import Problem
from kedro_flask_server.web.schemas.requests import (
    DataQuerySchema,
    PipelineRunSchema,
)
from kedro_flask_server.web.schemas.responses import ServedSchema
from kedro_flask_server.web.served import answer_call, is_plain, sent_with_key

# Of data in one request.
_MAX_PROBLEMS = 20

_ALL_RUN = Problem(
    "value_error", "Value error, with data that is given, or without saving, all nodes run"
)
_MISSING = Problem("missing", "Field required")

_RUN_SCHEMA, _DATA_QUERY = PipelineRunSchema(), DataQuerySchema()

PIPELINES_BLUEPRINT = "kedro_server_pipelines"


def create_pipelines_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/pipelines/<name>`` and ``/pipelines/<name>/run``."""
    runs, config = server.runs, server.config
    blueprint = Blueprint(PIPELINES_BLUEPRINT, __name__)
    shown = ServedSchema()

    @blueprint.errorhandler(_NotDescribedError)
    def answer_not_described(error: _NotDescribedError) -> ResponseReturnValue:
        return {"detail": f"{error.found.type}: {error.found.message}"}, 500

    @blueprint.get("/pipelines/<pipeline>")
    @needs(Scope.READ, Scope.RUN)
    def get_pipeline(pipeline: str) -> ResponseReturnValue:
        """Get a pipeline.

        The data that it takes and returns, and its parameters: what must be given, what the
        catalog has, media types and JSON schemas.
        ---
        operationId: get_pipeline
        tags: [pipeline]
        responses:
          200:
            description: What it takes and returns.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Pipeline"}
          404: {$ref: "#/components/responses/UnknownPipeline"}
          500: {$ref: "#/components/responses/ProjectFailed"}
          503: {$ref: "#/components/responses/ServerBusy"}
        """
        described = _shown(_describe(RunRequest(pipeline_names=[pipeline]), runs))
        served = authorized_runs(runs).served(pipeline)
        return jsonify({**described, "served": None if served is None else shown.dump(served)})

    @blueprint.post("/pipelines/<pipeline>/run")
    @needs(Scope.RUN)
    def call_pipeline(pipeline: str) -> ResponseReturnValue:
        """Run a pipeline on data.

        Takes data for its inputs, runs it, and returns its outputs: as JSON, or one of them in
        another media type (`Accept`). Data comes as JSON, in parts (`multipart/form-data`, one
        part for each dataset, and a part `request` for the rest), or as a body that is the data of
        the one input that must be given (or of `?input=`). A run that fails is a 500;
        `Prefer: handling=lenient` makes it a 200.
        ---
        operationId: call_pipeline
        tags: [pipeline]
        parameters:
          - Prefer
          - IdempotencyKey
          - RunLabels
          - {in: query, schema: SubmissionQuerySchema}
          - {in: query, schema: DataQuerySchema}
        requestBody:
          required: false
          content:
            application/json:
              schema: {$ref: "#/components/schemas/PipelineRun"}
              example: {save: false}
            multipart/form-data:
              schema: {type: object, additionalProperties: true}
            "*/*":
              schema: {}
        responses:
          200:
            description: How the run ended, and its outputs.
            headers:
              Kedro-Run-Id: {$ref: "#/components/headers/KedroRunId"}
              Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
              Idempotent-Replayed: {$ref: "#/components/headers/IdempotentReplayed"}
            content:
              application/json:
                schema:
                  oneOf:
                    - {$ref: "#/components/schemas/PipelineRunSuccess"}
                    - {$ref: "#/components/schemas/RunFailure"}
                  discriminator:
                    propertyName: status
                    mapping:
                      success: "#/components/schemas/PipelineRunSuccess"
                      failure: "#/components/schemas/RunFailure"
              "*/*":
                schema: {}
          202: {$ref: "#/components/responses/RunAccepted"}
          400: {$ref: "#/components/responses/UnreadableBody"}
          404: {$ref: "#/components/responses/UnknownPipeline"}
          406: {$ref: "#/components/responses/NotAcceptable"}
          409: {$ref: "#/components/responses/KeyInUse"}
          410: {$ref: "#/components/responses/DataGone"}
          413: {$ref: "#/components/responses/BodyTooLarge"}
          415: {$ref: "#/components/responses/NotTaken"}
          422: {$ref: "#/components/responses/InvalidRequest"}
          429: {$ref: "#/components/responses/QuotaUsed"}
          500: {$ref: "#/components/responses/CallFailed"}
          503: {$ref: "#/components/responses/ServerBusy"}
          504: {$ref: "#/components/responses/CallTimedOut"}
          507: {$ref: "#/components/responses/StorageFull"}
        """
        refuse_forms_of_other_sites(request)
        request.max_content_length = config.max_data_bytes
        preferences = Preferences.of(request)
        described = _describe(RunRequest(pipeline_names=[pipeline]), runs)
        keeper, served = runs.data, runs.served.get(pipeline)
        max_content_bytes = 0 if served is None else MAX_CONTENT_BYTES
        with staged(keeper, names_in(described), max_content_bytes=max_content_bytes) as form:
            given = _read(server, form, described)
            wanted, exchange = given.request, given.exchange
            stands_for = None
            if served is not None:
                if not exchange.saves and is_plain(request, preferences):
                    return answer_call(server, wanted, form, preferences)
                stands_for = sent_with_key(wanted)
                versions = {**served.load_versions, **(wanted.load_versions or {})}
                wanted = keeper.with_files(replace(wanted, load_versions=versions or None))
                form.has_files = True
            run = run_or_submit(server, wanted, preferences, key_stands_for=stands_for)
            form.is_kept = not run.is_replay

        def end() -> Response:
            if run.status is RunStatus.SUCCESS:
                kept = server.runs.data.outputs(run.run_id)
                return answer_with_outputs(server, run, exchange, kept)
            return answer_failure(run, is_lenient=preferences.is_lenient)

        return answer(run, preferences, end)

    return blueprint


class _NotDescribedError(Exception):
    """Raised where the project cannot tell what a pipeline takes.

    Attributes:
        found: Why.
    """

    def __init__(self, found: ErrorDetail) -> None:
        super().__init__(found.message)
        self.found = found


def _describe(wanted: RunRequest, runs: RunService) -> dict[str, Any]:
    found = authorized_runs(runs).describe_data(wanted)
    if isinstance(found, ErrorDetail):
        raise _NotDescribedError(found)
    return found


def _describe_selected(wanted: RunRequest, runs: RunService) -> dict[str, Any]:
    try:
        return _describe(wanted, runs)
    except _NotDescribedError as error:  # of which the pipeline itself is none
        message = f"Value error, {error.found.type}: {error.found.message}"
        problem = Problem("value_error", message)
        raise InvalidRequestError([report(problem, (), None)]) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A request that was read: what to run, and what it says of data, which is in that, too."""

    request: RunRequest
    exchange: DataRequest


def _read(server: KedroServer, form: DataForm, described: Mapping[str, Any]) -> _Given:
    """Read and check the current request.

    Args:
        server: The parts of the application.
        form: Takes the data.
        described: The pipeline.
    """
    config, keeper, name = server.config, server.runs.data, str(described["name"])
    query = load_query(request, _DATA_QUERY)
    size_bytes = request.content_length
    raw_input = query["input"] or _only_input(request, described)
    size_bytes = config.max_data_bytes if size_bytes is None else size_bytes
    needs_space = size_bytes > form.max_content_bytes
    with keeper.reserved(size_bytes) if needs_space else nullcontext():
        read_form(request, form, raw_input=raw_input, max_fields_bytes=config.max_body_bytes)
    given = load_fields({**form.fields}, _RUN_SCHEMA)
    if query["params"] is not None:
        params = _params_of(query["params"])
        given = replace(given, request=replace(given.request, params=params))
    wanted = replace(given.request, pipeline_names=[name])
    if not config.allow_param_interpolation:
        refuse_interpolation(wanted.params)
    if replace(wanted, params=None) != RunRequest(pipeline_names=[name]):
        described = _describe_selected(wanted, server.runs)
    if given.save is None:
        given = replace(given, save=server.runs.served.get(name) is None)
    exchange = checked_data(form, given, described, request.accept_mimetypes or None)
    return _Given(request=replace(wanted, data=exchange.dump()), exchange=exchange)


def names_in(described: Mapping[str, Any]) -> set[str]:
    """Return the datasets that a selection of a pipeline's nodes may take."""
    names = {*described["inputs"], *described["intermediates"], *described["outputs"]}
    return names.union(*(each["names"] for each in described["inputs"].values()))


def _shown(described: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {
        name: {key: value for key, value in each.items() if key != "names"}
        for name, each in described["inputs"].items()
    }
    return {**described, "inputs": inputs}


def _only_input(request: Request, described: Mapping[str, Any]) -> str | None:
    """Return the dataset of a raw body; None where the body has another form.

    Raises:
        InvalidRequestError: If there is not one input that must be given.
    """
    kind = request.mimetype
    if kind in ("", MULTIPART, FORM) or is_json(kind):
        return None
    required: list[str] = [
        name for name, each in described["inputs"].items() if each["is_required"]
    ]
    if len(required) == 1:
        return required[0]
    names = ", ".join(required) or "none"
    problem = Problem("missing", f"Field required, for the inputs that must be given are: {names}")
    raise InvalidRequestError([report(problem, ("input",), None, "query")])


def _params_of(text: str) -> dict[str, Any]:
    try:
        return parse_params(text)
    except ValueError as error:
        problem = Problem("value_error", f"Value error, {error}")
        raise InvalidRequestError([report(problem, ("params",), text, "query")]) from error


def checked_data(
    form: DataForm, given: Any, described: Mapping[str, Any], accepted: Any
) -> DataRequest:
    """Return what a request says of data, where the pipeline takes and returns that.

    Raises:
        InvalidRequestError: If it takes or returns none of that.
        werkzeug.exceptions.NotAcceptable: If the client accepts no media type of its output.
    """
    problems = [*_problems_of_inputs(form, described), *_problems_of_outputs(given, described)]
    if given.request.only_missing_outputs and (form.inputs or not given.save):
        problems.append(report(_ALL_RUN, ("only_missing_outputs",), True))
    problems = problems[:_MAX_PROBLEMS]
    if problems:
        raise InvalidRequestError(problems)
    outputs = given.outputs
    if outputs is None:
        outputs = [*described["outputs"]]
    offers = {name: _offers(name, described) for name in outputs}
    return DataRequest(
        inputs=form.inputs,
        outputs=tuple(outputs),
        accept=_chosen(offers, accepted),
        saves=given.save,
        folder=form.folder if form.inputs else None,
    )


def _problems_of_inputs(form: DataForm, described: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    known = described["inputs"]
    bare = {each: name for name, found in known.items() for each in (name, *found["names"])}
    for name, given in form.inputs.items():
        found = known.get(bare.get(name, name))
        if found is None:
            names = ", ".join(known) or "none"
            problem = Problem("extra_forbidden", f"The inputs of the pipeline are: {names}")
            yield report(problem, ("inputs", name), None)
        elif given.media_type not in found["media_types"]:
            types = ", ".join(found["media_types"]) or "none: it cannot be given"
            problem = Problem(
                "value_error",
                f"Value error, {given.media_type} is not taken for it. Its media types are: "
                f"{types}",
            )
            yield report(problem, ("inputs", name), None)
    missing = {name for name, each in known.items() if each["is_required"]}
    for name, each in known.items():
        sent = {alias for alias in (name, *each["names"]) if alias in form.inputs}
        if name in sent and len(sent) > 1:
            yield report(GIVEN_TWICE, ("inputs", name), None)
        lacks = name not in sent and {*each["names"]} - sent
        if lacks and (name in missing or sent):
            yield report(_MISSING, ("inputs", name), None)


def _problems_of_outputs(given: Any, described: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    known = {*described["outputs"], *described["intermediates"]}
    for at, name in enumerate(given.outputs or ()):
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            problem = Problem("value_error", f"Value error, the pipeline makes: {names}")
            yield report(problem, ("outputs", at), None)


def _offers(name: str, described: Mapping[str, Any]) -> list[str]:
    found: dict[str, Any] = {**described["intermediates"], **described["outputs"]}[name]
    offers: list[str] = found["media_types"]
    return offers


def _chosen(offers: Mapping[str, list[str]], accepted: Any) -> str:
    """Return the media type in which to return outputs.

    Raises:
        werkzeug.exceptions.NotAcceptable: If the client accepts none.
    """
    if accepted is None:
        return JSON
    others = next(iter(offers.values())) if len(offers) == 1 else []
    chosen: str | None = accepted.best_match([JSON, *others])
    if chosen is None:
        kinds = ", ".join(dict.fromkeys([JSON, *others]))
        raise NotAcceptable(f"The answer may be: {kinds}. Another than JSON is for one output.")
    return chosen
