"""The JSON of requests and answers: one declaration validates, dumps and documents.

Requests are read with ``unknown = RAISE``. What is wrong with one is reported as Kedro's own
server does it, in a list of ``{type, loc, msg, input}`` whose types are Pydantic's
(https://docs.pydantic.dev/latest/errors/validation_errors/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, post_load

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import Run, RunFilter, RunPart, RunRequest, RunStatus
from kedro_flask_server.model.run_id import RUN_ID_FORM, is_run_id
from kedro_flask_server.text import rfc3339

MAX_PROBLEMS = 100
"""How many problems of one body are listed; each costs more to say than to make."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one value.

    Attributes:
        type: Pydantic's name for the kind of error.
        msg: The same for a person.
    """

    type: str
    msg: str


_NOT_A_STRING = [Problem("string_type", "Input should be a valid string")]
_NOT_A_LIST = [Problem("list_type", "Input should be a valid list")]
_NOT_AN_OBJECT = [Problem("dict_type", "Input should be a valid dictionary")]
_NOT_A_BOOL = [Problem("bool_type", "Input should be a valid boolean")]
_NOT_READABLE_AS_BOOL = [
    Problem("bool_parsing", "Input should be a valid boolean, unable to interpret input")
]
_UNKNOWN_FIELD = Problem("extra_forbidden", "Extra inputs are not permitted")
_NOT_A_RUNNER = [
    Problem(
        "value_error",
        "Value error, a runner is the name of a class or its dotted path, "
        "such as 'SequentialRunner' or 'my_package.runners.MyRunner'",
    )
]

_NOT_A_VERSION = [
    Problem(
        "value_error",
        "Value error, a version is up to 128 letters, digits and '._+:-', and no '..'",
    )
]

# It becomes a part of a path.
_VERSION_FORM = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._+:\-]{0,127}"
_RUNNER_FORM = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_TRUE = {"true", "yes", "on", "t", "y", "1"}
_FALSE = {"false", "no", "off", "f", "n", "0"}


def _is_int64(value: float) -> bool:
    return -(2**63) <= value < 2**63 and value == int(value)


class _Flag(fields.Boolean):
    """A boolean as Pydantic reads it: true, 1, 1.0, or a word such as "yes" in any case."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._read(value.lower(), _TRUE, _FALSE)
        if isinstance(value, (int, float)) and _is_int64(value):
            return self._read(value, {1}, {0})
        raise ValidationError(_NOT_A_BOOL)

    @staticmethod
    def _read(value: Any, true: set[Any], false: set[Any]) -> bool:
        if value in true:
            return True
        if value in false:
            return False
        raise ValidationError(_NOT_READABLE_AS_BOOL)


def _check_runner(name: str) -> None:
    if not re.fullmatch(_RUNNER_FORM, name):
        raise ValidationError(_NOT_A_RUNNER)


def _check_version(version: str) -> None:
    if not re.fullmatch(_VERSION_FORM, version):
        raise ValidationError(_NOT_A_VERSION)


def _text(meaning: str = "", **options: Any) -> fields.String:
    pattern = options.pop("pattern", None)
    metadata = {"description": meaning} if meaning else {}
    if pattern:
        metadata["pattern"] = f"^{pattern}$"
    return fields.String(
        error_messages={"invalid": _NOT_A_STRING, "null": _NOT_A_STRING},
        metadata=metadata,
        **options,
    )


class _Texts(fields.List[Any]):
    """A list of strings, of whose wrong items the first are told: there can be very many."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError(_NOT_A_LIST)
        wrong = (index for index, item in enumerate(value) if not isinstance(item, str))
        problems = dict.fromkeys(islice(wrong, MAX_PROBLEMS), _NOT_A_STRING)
        if problems:
            raise ValidationError(problems)
        return value


def _texts(meaning: str) -> fields.List[Any]:
    return _Texts(
        _text(),
        load_default=None,
        allow_none=True,
        metadata={"description": meaning},
    )


def _object(meaning: str, values: fields.Field[Any] | None = None) -> fields.Dict:
    return fields.Dict(
        keys=_text() if values else None,
        values=values,
        load_default=None,
        allow_none=True,
        error_messages={"invalid": _NOT_AN_OBJECT},
        metadata={"description": meaning},
    )


def _flag(meaning: str) -> fields.Boolean:
    return _Flag(
        load_default=False,
        error_messages={"null": _NOT_A_BOOL},
        metadata={"description": meaning},
    )


class RunRequestSchema(Schema):
    """What to run; the fields mean what ``kedro run``'s options mean."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": _UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    from_inputs = _texts("Datasets to start from.")
    to_outputs = _texts("Datasets to end with.")
    from_nodes = _texts("Nodes to start from.")
    to_nodes = _texts("Nodes to end with.")
    node_names = _texts("Nodes to run, and no others.")
    runner = _text(
        "A class of `kedro.runner`, or the dotted path of a permitted one.",
        load_default=None,
        allow_none=True,
        validate=_check_runner,
        pattern=_RUNNER_FORM,
    )
    is_async = _flag("Load and save each node's datasets in threads.")
    tags = _texts("Run the nodes that carry any of these tags.")
    load_versions = _object(
        "The version to load, by dataset.",
        values=_text(validate=_check_version, pattern=_VERSION_FORM),
    )
    pipeline_names = _texts("Registered pipelines to run; `__default__` if none is given.")
    namespaces = _texts("Run the nodes in these namespaces.")
    params = _object("Runtime parameters.")
    only_missing_outputs = _flag("Leave out nodes whose outputs exist.")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RunRequest:
        return RunRequest(**data)


_EVENT_TYPES = [kind.value for kind in EventType]
_STATUSES = [status.value for status in RunStatus]
_NOT_A_STATUS = [Problem("enum", f"Input should be one of: {', '.join(_STATUSES)}")]
_NOT_A_NUMBER = [Problem("int_parsing", "Input should be a whole number")]
_NOT_A_CURSOR = [Problem("value_error", "Input should be `next` of another page")]
_NOT_A_TIME = [
    Problem("datetime_parsing", "Input should be a time of RFC 3339, such as 2024-01-01T00:00:00Z")
]


def _moment(meaning: str) -> fields.AwareDateTime:
    return fields.AwareDateTime(
        format="iso",
        default_timezone=timezone.utc,
        error_messages={"invalid": _NOT_A_TIME},
        metadata={"description": meaning},
    )


def _check_status(status: str) -> None:
    if status not in _STATUSES:
        raise ValidationError(_NOT_A_STATUS)


_MAX_EVENTS = 1_000
_MAX_EVENT_ID = 2**31 - 1


def _whole(meaning: str, default: int, minimum: int, maximum: int) -> fields.Integer:
    outside = [Problem("value_error", f"Input should be from {minimum:,} to {maximum:,}")]

    def check(value: int) -> None:
        if not minimum <= value <= maximum:
            raise ValidationError(outside)

    return fields.Integer(
        load_default=default,
        validate=check,
        error_messages={"invalid": _NOT_A_NUMBER, "too_large": _NOT_A_NUMBER},
        metadata={"description": meaning, "minimum": minimum, "maximum": maximum},
    )


def _check_cursor(cursor: str) -> None:
    if not is_run_id(cursor):
        raise ValidationError(_NOT_A_CURSOR)


_PARTS = [part.value for part in RunPart]
_NOT_A_PART = [Problem("enum", f"Input should be of: {', '.join(_PARTS)}")]


class _Parts(fields.List[Any]):
    """What to include of each run: names with commas between, given once or again."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        given = [[name.strip() for name in each.split(",")] for each in value]
        wrong = [at for at, names in enumerate(given) if not {*names, ""} <= {*_PARTS, ""}]
        if wrong:
            raise ValidationError(dict.fromkeys(wrong[:MAX_PROBLEMS], _NOT_A_PART))
        return [*{RunPart(name) for names in given for name in names if name}]


class RunQuerySchema(Schema):
    """Which runs to list, and how many."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": _UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    status = fields.List(
        fields.String(validate=_check_status, metadata={"enum": _STATUSES}),
        load_default=(),
        metadata={"description": "Runs in this state; given again, in any of them."},
    )
    pipeline = fields.String(metadata={"description": "Runs of this pipeline."})
    since = _moment("Runs that were taken in at this time or later.")
    until = _moment("Runs that were taken in at this time or earlier.")
    idempotency_key = fields.String(
        metadata={"description": "The run that was sent with this key."}
    )
    include = _Parts(
        fields.String(metadata={"enum": _PARTS}),
        load_default=(),
        metadata={
            "description": "What a list leaves out: each run's `request`, and of its error the "
            "`traceback` and the whole message. Several with commas between, or given again."
        },
    )
    limit = _whole("How many runs at most; fewer where they are large.", 50, 1, 200)
    cursor = fields.String(
        validate=_check_cursor,
        metadata={"description": "`next` of the page before.", "pattern": f"^{RUN_ID_FORM}$"},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[RunFilter, dict[str, Any]]:
        page = {"limit": data.pop("limit"), "cursor": data.pop("cursor", None)}
        page["include"] = frozenset(data.pop("include"))
        statuses = tuple(RunStatus(status) for status in data.pop("status"))
        return RunFilter(statuses=statuses, **data), page


class LogQuerySchema(Schema):
    """Which part of a run's log to return."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": _UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    after = _whole("Those after the event of this id.", 0, 0, _MAX_EVENT_ID)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return data["after"]


class EventQuerySchema(LogQuerySchema):
    """Which of a run's events to list, and how many."""

    limit = _whole("How many events at most, on a page.", 200, 1, _MAX_EVENTS)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[int, int]:
        return data["after"], data["limit"]


def problems_of(error: ValidationError) -> list[tuple[tuple[str | int, ...], Problem]]:
    """Return what a schema found wrong, each with its location.

    Args:
        error: What `RunRequestSchema` raised.

    Returns:
        Pairs of a path into the body (names and indexes) and what is wrong there.
    """
    found: list[tuple[tuple[str | int, ...], Problem]] = []
    _collect(error.messages, (), found.append)
    return found


def _collect(messages: Any, path: tuple[Any, ...], add: Callable[[Any], None]) -> None:
    if isinstance(messages, dict):
        for step, inner in messages.items():
            _collect(inner, (*path, step), add)
        return
    # marshmallow says for an object's entry whether its key or its value is wrong.
    location = path[:-1] if len(path) == 3 and path[-1] in ("key", "value") else path
    for problem in messages:
        add((location, problem))


def _answer(meaning: str, **metadata: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": meaning, **metadata})


def _answers(meaning: str) -> fields.List[Any]:
    return fields.List(fields.String(), metadata={"description": meaning})


class _AnswerSchema(Schema):
    """An answer: open, so that a client made from the description takes what comes to be added."""

    class Meta:
        unknown = INCLUDE


class HealthResponseSchema(_AnswerSchema):
    """How the server is."""

    status = _answer("`healthy` as long as the server answers.", enum=["healthy", "unhealthy"])
    kedro_version = fields.String(
        metadata={"description": "The version of Kedro, for callers who are known."}
    )


class ErrorDetailSchema(_AnswerSchema):
    """Why something failed."""

    type = _answer("The exception's name.")
    message = _answer("The exception's message.")


class RunSuccessSchema(_AnswerSchema):
    """A run that succeeded."""

    status = _answer("How the run ended.", enum=["success"])
    run_id = _answer("The run's id, and the save version of its versioned datasets.")
    duration_ms = fields.Float(
        required=True, metadata={"description": "How long the run took, in milliseconds."}
    )


class RunFailureSchema(RunSuccessSchema):
    """A run that failed."""

    status = _answer("How the run ended.", enum=["failure"])
    error = fields.Nested(ErrorDetailSchema, required=True)


class RunErrorSchema(ErrorDetailSchema):
    """Why a run did not succeed."""

    node = fields.String(
        allow_none=True, metadata={"description": "The node that failed, where it is known."}
    )
    traceback = fields.String(
        allow_none=True, metadata={"description": "The end of the traceback, where there is one."}
    )


class _Moment(fields.DateTime):
    """A UTC time as RFC 3339 writes it, to the millisecond."""

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else rfc3339(value)


def _time(meaning: str, *, allow_none: bool = True) -> fields.DateTime:
    return _Moment(required=True, allow_none=allow_none, metadata={"description": meaning})


def _given(run: Run) -> dict[str, Any]:
    """Return what a request says, in JSON that every reader takes."""
    shown: dict[str, Any] = json.loads(json.dumps(run.request.given()), parse_constant=str)
    return shown


class RunProgressSchema(_AnswerSchema):
    """How far a run is."""

    done = fields.Integer(
        required=True, metadata={"description": "How many of its nodes have finished."}
    )
    total = fields.Integer(
        required=True, metadata={"description": "How many it has that are to run."}
    )


class RunSchema(_AnswerSchema):
    """A run, as it is now."""

    run_id = _answer("The run's id, and the save version of its versioned datasets.")
    status = _answer(
        "Where it stands. `lost`: the server that executed it died without a word.",
        enum=_STATUSES,
    )
    position = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "Its position in the queue, from 1."},
    )
    request = fields.Function(
        _given,
        required=True,
        metadata={
            "type": "object",
            "description": "What was asked for, but for what was left out; numbers that JSON "
            'does not have are strings, such as "NaN".',
        },
    )
    created_at = _time("When it was taken in.", allow_none=False)
    started_at = _time("When it began to execute.")
    finished_at = _time("When it ended.")
    duration_ms = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "How long it executed, in milliseconds."},
    )
    cancel_requested_at = _time("When it was first asked to be cancelled.")
    progress = fields.Nested(RunProgressSchema, required=True, allow_none=True, dump_default=None)
    error = fields.Nested(RunErrorSchema, required=True, allow_none=True)
    submitted_by = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Who sent it, where that is known."},
    )
    project = _answer("The project that it belongs to.")
    env = _answer("The configuration environment that it belongs to.")


class RunSummarySchema(RunSchema):
    """A run in a list: what can be large is there where it is asked for."""

    request = fields.Function(
        _given,
        metadata={"type": "object", "description": "With `include=request`: what was asked for."},
    )
    pipelines = fields.Function(
        lambda run: [*run.request.pipelines],
        metadata={
            "type": "array",
            "items": {"type": "string"},
            "description": "Without `include=request`: the pipelines, sorted; of more than 20, "
            "the first and `…`.",
        },
    )


class RunPageSchema(_AnswerSchema):
    """Runs, the newest first."""

    runs = fields.List(fields.Nested(RunSummarySchema), required=True)
    next = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The cursor of the page that follows; null on the last one."},
    )


class EventSchema(_AnswerSchema):
    """One fact about a run."""

    id = fields.Integer(
        required=True, metadata={"description": "Its number within the run, from 1."}
    )
    time = _time("When it happened.", allow_none=False)
    type = _answer("What happened, such as `node.finished`.", examples=_EVENT_TYPES)
    data = fields.Dict(required=True, metadata={"description": "What is to be said of it."})


class EventPageSchema(_AnswerSchema):
    """Events of a run, in order."""

    events = fields.List(fields.Nested(EventSchema), required=True)
    next = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "The id after which those that follow begin; null where the run has "
            "ended and these are the last."
        },
    )


class ReadinessSchema(_AnswerSchema):
    """Whether runs can be taken in."""

    status = _answer("Whether they can.", enum=["ready", "not ready"])


class LivenessSchema(_AnswerSchema):
    """That the server is there."""

    status = _answer("`alive`.", enum=["alive"])


class ProjectMetadataSnapshotSchema(_AnswerSchema):
    """What the project's pyproject.toml says of it."""

    project_name = _answer("The project's name.")
    package_name = _answer("The project's Python package.")
    kedro_version = _answer("The version of Kedro that the project was made with.")


class NodeSourceSnapshotSchema(_AnswerSchema):
    """Where a node's function stands."""

    filepath = _answer("The file, from the project's folder.")
    line_start = fields.Integer(required=True, metadata={"description": "Its first line, from 1."})
    line_end = fields.Integer(required=True, metadata={"description": "Its last line."})


class NodeSnapshotSchema(_AnswerSchema):
    """A node of a pipeline."""

    name = _answer("The node's name, its namespace included.")
    func_name = fields.String(metadata={"description": "Its function's name."})
    namespace = fields.String(allow_none=True, metadata={"description": "Its namespace."})
    tags = _answers("Its tags, sorted.")
    inputs = _answers("The datasets that it loads, in order.")
    outputs = _answers("The datasets that it saves, in order.")
    source = fields.Nested(NodeSourceSnapshotSchema, allow_none=True)


class PipelineSnapshotSchema(_AnswerSchema):
    """A registered pipeline."""

    name = _answer("Its name in the registry.")
    nodes = fields.List(fields.Nested(NodeSnapshotSchema), required=True)
    inputs = _answers("The datasets that it needs, sorted.")
    outputs = _answers("The datasets that it ends with, sorted.")


class DatasetSnapshotSchema(_AnswerSchema):
    """A dataset of the catalog."""

    name = _answer("The dataset's name.")
    type = _answer("Its class, as the catalog has it.")
    filepath = fields.String(allow_none=True, metadata={"description": "Its file, if it has one."})


class SnapshotSuccessSchema(_AnswerSchema):
    """The project: its pipelines, datasets and parameters."""

    status = _answer("Whether there is a snapshot.", enum=["success"])
    metadata = fields.Nested(ProjectMetadataSnapshotSchema, required=True)
    pipelines = fields.List(fields.Nested(PipelineSnapshotSchema), required=True)
    datasets = fields.Dict(
        keys=fields.String(), values=fields.Nested(DatasetSnapshotSchema), required=True
    )
    parameters = fields.List(
        fields.String(), required=True, metadata={"description": "Parameter names, sorted."}
    )


class SnapshotFailureSchema(_AnswerSchema):
    """Why there is no snapshot."""

    status = _answer("Whether there is a snapshot.", enum=["failure"])
    error = fields.Nested(ErrorDetailSchema, required=True)


class ErrorResponseSchema(_AnswerSchema):
    """Why a request was not served."""

    detail = _answer("What is wrong, and what to do.")


class ValidationErrorSchema(_AnswerSchema):
    """One thing that is wrong with a request."""

    type = _answer("The kind of error, by Pydantic's name for it.")
    loc = fields.List(
        fields.Raw(metadata={"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        required=True,
        metadata={"description": "Where it is: `body`, then names and indexes."},
    )
    msg = _answer("What is wrong.")
    input = fields.Raw(metadata={"description": "What was sent, or its type and size."})
    ctx = fields.Dict(metadata={"description": "More about the error."})


class HTTPValidationErrorSchema(_AnswerSchema):
    """All that is wrong with a request."""

    detail = fields.List(fields.Nested(ValidationErrorSchema), required=True)


DOCUMENTED: tuple[type[Schema], ...] = (
    RunRequestSchema,
    HealthResponseSchema,
    ErrorDetailSchema,
    RunSuccessSchema,
    RunFailureSchema,
    ProjectMetadataSnapshotSchema,
    NodeSourceSnapshotSchema,
    NodeSnapshotSchema,
    PipelineSnapshotSchema,
    DatasetSnapshotSchema,
    SnapshotSuccessSchema,
    SnapshotFailureSchema,
    RunErrorSchema,
    RunProgressSchema,
    RunSchema,
    RunSummarySchema,
    RunPageSchema,
    EventSchema,
    EventPageSchema,
    LivenessSchema,
    ReadinessSchema,
    ErrorResponseSchema,
    ValidationErrorSchema,
    HTTPValidationErrorSchema,
)
"""Every schema that openapi.json names; there, each without its ``Schema``."""
