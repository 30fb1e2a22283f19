"""The JSON of answers, which openapi.json describes."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.queue_state import QueueState
from kedro_flask_server.model.retry import ALWAYS_REFUSED, FORCEABLE, STARTING_POINTS
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.model.served import RECORDS, RELOADS
from kedro_flask_server.web.schemas.fields import plain_json, time_field

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


class PipelineRunSuccessSchema(RunSuccessSchema):
    """A run on data that succeeded."""

    outputs = fields.Dict(
        required=True,
        metadata={
            "description": "The data, by dataset; of one that is too large, or has no JSON form, "
            "`href`, `media_type` and `size`."
        },
    )
    tables = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Which of them are tables."},
    )
    not_returned = fields.Dict(
        metadata={"description": "Why a dataset is not returned, by dataset."}
    )


class ExchangedDatasetSchema(_AnswerSchema):
    """A dataset that a pipeline takes or returns."""

    type = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Its class; null where the catalog does not name it."},
    )
    media_types = _answers("The media types in which it is taken, or returned.")
    schema = fields.Dict(metadata={"description": "The JSON schema of its data."})
    example = fields.Raw(metadata={"description": "What the catalog gives as an example."})
    is_required = fields.Boolean(
        metadata={"description": "Of an input: whether it must be given; the catalog has others."}
    )
    is_saved = fields.Boolean(
        metadata={"description": "Of an output: whether the catalog says where it is saved."}
    )


class ServedCallsSchema(_AnswerSchema):
    """How many calls have ended how, since the server has started."""

    success = fields.Integer(required=True)
    failure = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    refused = fields.Integer(
        required=True, metadata={"description": "Those that were not executed."}
    )


class LatencySchema(_AnswerSchema):
    """Percentiles of the newest calls, in milliseconds, with the time that they waited."""

    p50 = fields.Float(required=True, allow_none=True)
    p90 = fields.Float(required=True, allow_none=True)
    p99 = fields.Float(required=True, allow_none=True)


class ServedSchema(_AnswerSchema):
    """What is served of a pipeline, by the server that answers."""

    generation = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "How often it has loaded data; null where it has none yet."},
    )
    since = time_field("Since when that is served.")
    versions = fields.Dict(
        required=True,
        metadata={"description": "The version of each preloaded dataset; null without versions."},
    )
    pinned = fields.Dict(
        required=True, metadata={"description": "The versions that were asked for."}
    )
    fault = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Why it takes no calls, or could not load newer data."},
    )
    workers = fields.Integer(required=True)
    executing = fields.Integer(required=True, metadata={"description": "Calls that execute."})
    waiting = fields.Integer(required=True, metadata={"description": "Calls that wait."})
    max_waiting = fields.Integer(required=True)
    record = _answer("Which calls are recorded.", enum=[*RECORDS])
    reload = _answer("When it loads newer data.", enum=[*RELOADS])
    calls = fields.Nested(ServedCallsSchema, required=True)
    latency_ms = fields.Nested(LatencySchema, required=True)


class PipelineSchema(_AnswerSchema):
    """What data a pipeline takes and returns."""

    name = _answer("Its name.")
    nodes = _answers("The names of its nodes, in order.")
    inputs = fields.Dict(
        values=fields.Nested(ExchangedDatasetSchema),
        required=True,
        metadata={"description": "The datasets that it takes and no node of it makes."},
    )
    outputs = fields.Dict(
        values=fields.Nested(ExchangedDatasetSchema),
        required=True,
        metadata={"description": "The datasets that it makes and no node of it takes."},
    )
    intermediates = fields.Dict(
        values=fields.Nested(ExchangedDatasetSchema),
        required=True,
        metadata={
            "description": "The datasets that it makes and takes; a request may name them, too."
        },
    )
    parameters = fields.Dict(
        required=True,
        metadata={"description": "Its parameters, each with its `schema` and `value`, no secrets."},
    )
    served = fields.Nested(ServedSchema, allow_none=True)


class OutputSchema(_AnswerSchema):
    """A dataset that a run has made."""

    media_type = fields.String(
        required=True, allow_none=True, metadata={"description": "The media type of its data."}
    )
    size = fields.Integer(required=True, metadata={"description": "The size of it, in bytes."})
    sha256 = fields.String(
        required=True, allow_none=True, metadata={"description": "The SHA-256 of it."}
    )
    is_table = fields.Boolean(required=True, metadata={"description": "Whether it is a table."})
    is_returned = fields.Boolean(
        required=True, metadata={"description": "Whether the request asked for it."}
    )
    href = fields.String(required=True, allow_none=True, metadata={"description": "Where it is."})
    value = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "The JSON object that it is, where that is small."},
    )
    reason = fields.String(
        required=True, allow_none=True, metadata={"description": "Why it is not returned."}
    )


class OutputsSchema(_AnswerSchema):
    """What a run has returned."""

    outputs = fields.Dict(
        values=fields.Nested(OutputSchema),
        required=True,
        metadata={"description": "The datasets, by name."},
    )
    is_deleted = fields.Boolean(
        required=True, metadata={"description": "Whether their data was deleted."}
    )


class RunErrorSchema(ErrorDetailSchema):
    """Why a run did not succeed."""

    node = fields.String(
        allow_none=True, metadata={"description": "The node that failed, where it is known."}
    )
    traceback = fields.String(
        allow_none=True, metadata={"description": "The end of the traceback, where there is one."}
    )
    problems = fields.List(
        fields.Dict(),
        allow_none=True,
        metadata={"description": "What is wrong with the data that the request gave."},
    )


def _given(run: Run) -> dict[str, Any]:
    """Return what a request says, in JSON that every reader takes."""
    shown: dict[str, Any] = plain_json(run.request.given())
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
    priority = fields.Integer(
        required=True,
        metadata={"description": "Its priority, from -100 to 100; the highest is next."},
    )
    waiting_for = fields.Function(
        lambda run: run.waiting_for and run.waiting_for.given(),
        required=True,
        metadata={
            "type": ["object", "null"],
            "description": "What it waits for while it is queued: a `reason`, and what holds it.",
        },
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
    has_locks = fields.Function(
        lambda run: run.has_locks,
        required=True,
        metadata={
            "type": "boolean",
            "description": "Whether it and other runs keep out of each other's way where both use "
            "a dataset that one of them writes.",
        },
    )
    warnings = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "What was noticed about it, for a person."},
    )
    labels = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "Its labels."},
    )
    retry_of = fields.String(
        required=True, allow_none=True, metadata={"description": "The run that it retries."}
    )
    retried_by = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The newest run of its chain of retries, if that is another."},
    )
    attempt = fields.Integer(
        required=True, metadata={"description": "Its number in its chain of retries, from 1."}
    )
    project = _answer("The project that it belongs to.")
    env = _answer("The configuration environment that it belongs to.")
    provenance = fields.Nested(
        "ProvenanceSchema",
        allow_none=True,
        metadata={
            "description": "With `include=provenance`: what it was made of; null for a run that "
            "has not begun, or of an earlier version."
        },
    )


class RevisionSchema(_AnswerSchema):
    """The revision of a project's code."""

    id = _answer("The commit, or what the setting `project_revision` says.")
    branch = fields.String(required=True, allow_none=True, metadata={"description": "The branch."})
    is_clean = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={"description": "Whether no file of the project differed from the commit."},
    )


class NodeSummarySchema(_AnswerSchema):
    """A node of a run, in brief."""

    name = _answer("The node's name.")
    state = _answer(
        "What became of it; while the run executes, `interrupted` is a node that executes.",
        enum=["finished", "failed", "interrupted", "not_started"],
    )
    started_at = fields.String(
        required=True, allow_none=True, metadata={"description": "When it began."}
    )
    duration_ms = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "How long it took, in milliseconds."},
    )


class DatasetUseSchema(_AnswerSchema):
    """A dataset of a run."""

    type = _answer("Its class, as in the catalog.")
    place = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Its path from the project's folder, or its table."},
    )
    loaded = fields.Dict(
        required=True,
        allow_none=True,
        metadata={
            "description": "What was loaded: where known its `version`, `size_bytes`, "
            "`modified_at`, `etag` and `rows`; null if it was not loaded."
        },
    )
    saved = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "What was saved, likewise."},
    )


class LinkSchema(_AnswerSchema):
    """A link that a hook or a node has added."""

    title = _answer("Its title.")
    url = _answer("Its URL.")


class ProvenanceSchema(_AnswerSchema):
    """What a run was made of."""

    versions = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "The versions of Python, Kedro, the server and Kedro's plugins."},
    )
    revision = fields.Nested(RevisionSchema, required=True, allow_none=True)
    machine = fields.String(
        required=True, allow_none=True, metadata={"description": "The machine that executed it."}
    )
    parameters = fields.Dict(
        keys=fields.String(),
        required=True,
        metadata={"description": "The parameters of its nodes, as resolved, without secrets."},
    )
    datasets = fields.Dict(
        keys=fields.String(), values=fields.Nested(DatasetUseSchema), required=True
    )
    nodes = fields.List(fields.Nested(NodeSummarySchema), required=True)
    links = fields.List(fields.Nested(LinkSchema), required=True)
    submitted_from = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The address that it was sent from."},
    )
    kedro_command = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The `kedro run` that does the same; null where that cannot take the "
            "parameters."
        },
    )
    curl_command = _answer("The `curl` that sends the same.")
    is_whole = fields.Boolean(
        required=True, metadata={"description": "Whether nothing was left out for its size."}
    )


class PlannedNodeSchema(_AnswerSchema):
    """A node of a retry."""

    name = _answer("The node's name.")
    runs = fields.Boolean(required=True, metadata={"description": "Whether it runs."})
    reason = _answer("Why, or why not.")


class RefusalSchema(_AnswerSchema):
    """Why a run is not retried."""

    type = _answer(
        "What `force` may name, or what can not be forced.", enum=[*FORCEABLE, *ALWAYS_REFUSED]
    )
    loc = _answers("Where the reason is: a kind of thing, and its name.")
    msg = _answer("The reason.")


class RetryPlanSchema(_AnswerSchema):
    """What a retry runs, and why."""

    retry_of = _answer("The run that it retries.")
    start = fields.String(
        data_key="from",
        attribute="from",
        required=True,
        metadata={"description": "Where it begins.", "enum": [*STARTING_POINTS]},
    )
    request = fields.Dict(
        allow_none=True,
        metadata={"description": "Of a plan alone: the request of the retry, if there is one."},
    )
    nodes = fields.List(fields.Nested(PlannedNodeSchema), required=True)
    load_versions = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "The versions that it loads, by dataset: those of the run."},
    )
    changed = fields.Dict(
        required=True,
        metadata={
            "description": "What has changed since the run: the `revision` and the `parameters`, "
            "each with its value `before` and `after`."
        },
    )
    refusals = fields.List(fields.Nested(RefusalSchema), required=True)


class RetriedRunSchema(RunSchema):
    """A retry, and its plan."""

    plan = fields.Nested(RetryPlanSchema, required=True, allow_none=True)


class RetryRefusedSchema(_AnswerSchema):
    """Why a run is not retried."""

    detail = fields.List(fields.Nested(RefusalSchema), required=True)
    run_id = fields.String(
        metadata={"description": "The run of the same chain that has not ended, if there is one."}
    )


def _difference(meaning: str) -> fields.Dict:
    return fields.Dict(
        keys=fields.String(), values=fields.Dict(), required=True, metadata={"description": meaning}
    )


class ComparisonSchema(_AnswerSchema):
    """What differs between two runs: by dotted names, the values of both."""

    a = _answer("The first run.")
    b = _answer("The second run.")
    code = _difference("The revision, its branch, and whether it was clean.")
    versions = _difference("The versions of Python, Kedro, the server and plugins.")
    request = _difference("What was asked for.")
    parameters = _difference("The parameters, as they were resolved.")
    datasets = _difference("The classes and places of datasets, and the versions loaded.")
    nodes = _difference("The states and durations of nodes.")
    ends = _difference("The status, the duration, the error and the machine.")
    outputs = _difference(
        "Small JSON objects that the runs have made, such as metrics, for who may see their data."
    )
    outputs.required = False


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


class PoolSchema(_AnswerSchema):
    """Slots that pipelines share."""

    slots = fields.Integer(required=True, metadata={"description": "How many there are."})
    used = fields.Integer(required=True, metadata={"description": "How many are taken."})
    pipelines = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "How many a run takes, by its pipeline."},
    )


def _pools(state: QueueState) -> dict[str, Any]:
    return {
        name: {
            "slots": pool.slots,
            "used": state.used.get(name, 0),
            "pipelines": {**pool.pipelines},
        }
        for name, pool in state.limits.pools.items()
    }


class QueueSchema(_AnswerSchema):
    """The queue, as it is now."""

    paused = fields.Boolean(
        attribute="is_paused",
        required=True,
        metadata={"description": "Whether no queued run starts."},
    )
    paused_pipelines = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "The pipelines whose queued runs do not start."},
    )
    queued = fields.Integer(required=True, metadata={"description": "How many runs are queued."})
    running = fields.Integer(required=True, metadata={"description": "How many runs execute."})
    waiting = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "How many queued runs wait for each reason."},
    )
    concurrency = fields.Function(
        lambda state: {**state.limits.concurrency},
        required=True,
        metadata={
            "type": "object",
            "description": "How many runs of a pipeline may execute at a time, by its name.",
        },
    )
    pools = fields.Function(
        _pools,
        required=True,
        metadata={
            "type": "object",
            "additionalProperties": {"$ref": "#/components/schemas/Pool"},
            "description": "The pools, by their names.",
        },
    )
    runs = fields.List(
        fields.Nested(RunSummarySchema(exclude=["request", "error.traceback"])),
        required=True,
        metadata={"description": "The queued runs that are next, in order, up to 100."},
    )


class CancelledRunsSchema(_AnswerSchema):
    """The runs that are cancelled."""

    run_ids = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Their ids, the oldest first; they have ended or will."},
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
    warnings = fields.Dict(
        values=fields.String(),
        metadata={
            "description": "What is wrong beside that, such as a pipeline that is not served."
        },
    )


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
