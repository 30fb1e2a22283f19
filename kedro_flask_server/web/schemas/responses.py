"""The JSON of answers, which openapi.json describes."""

from __future__ import annotations

import json
from typing import Any

from marshmallow import INCLUDE, Schema, fields

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.web.schemas.fields import time_field

_EVENT_TYPES = [kind.value for kind in EventType]
_STATUSES = [status.value for status in RunStatus]


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
    created_at = time_field("When it was taken in.", allow_none=False)
    started_at = time_field("When it began to execute.")
    finished_at = time_field("When it ended.")
    duration_ms = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "How long it executed, in milliseconds."},
    )
    cancel_requested_at = time_field("When it was first asked to be cancelled.")
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
    time = time_field("When it happened.", allow_none=False)
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
