"""The JSON and the queries of requests, read with ``unknown = RAISE``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, post_load

from kedro_flask_server.model.labels import (
    LABEL_FORM,
    MAX_LABELS,
    LabelError,
    checked,
    labels_in_query,
    split_label,
)
from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY
from kedro_flask_server.model.retry import FAILURE, FORCEABLE, STARTING_POINTS, RetryOptions
from kedro_flask_server.model.run import ACTIVE, RunFilter, RunPart, RunRequest, RunStatus
from kedro_flask_server.model.run_id import RUN_ID_FORM, is_run_id
from kedro_flask_server.web.schemas.fields import (
    MAX_PROBLEMS,
    UNKNOWN_FIELD,
    Problem,
    Texts,
    flag_field,
    moment_field,
    object_field,
    text_field,
    texts_field,
    whole_field,
)

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

_STATUSES = [status.value for status in RunStatus]
_NOT_A_STATUS = [Problem("enum", f"Input should be one of: {', '.join(_STATUSES)}")]
_ACTIVE = [status.value for status in ACTIVE]
_NOT_ACTIVE = [Problem("enum", f"Input should be one of: {', '.join(_ACTIVE)}")]
_NOT_A_START = [Problem("enum", f"Input should be one of: {', '.join(STARTING_POINTS)}")]
_NOT_FORCEABLE = (Problem("enum", f"Input should be of: {', '.join(FORCEABLE)}"),)
_NOT_A_CURSOR = [Problem("value_error", "Input should be `next` of another page")]
_PARTS = [part.value for part in RunPart]

PROVENANCE = "provenance"
"""What a run is shown with, if that is asked for: what it was made of."""

_MAX_EVENTS = 1_000
MAX_EVENT_ID = 2**31 - 1


def _check_runner(name: str) -> None:
    if not re.fullmatch(_RUNNER_FORM, name):
        raise ValidationError(_NOT_A_RUNNER)


def _check_version(version: str) -> None:
    if not re.fullmatch(_VERSION_FORM, version):
        raise ValidationError(_NOT_A_VERSION)


class RunRequestSchema(Schema):
    """What to run; the fields mean what ``kedro run``'s options mean."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    from_inputs = texts_field("Datasets to start from.")
    to_outputs = texts_field("Datasets to end with.")
    from_nodes = texts_field("Nodes to start from.")
    to_nodes = texts_field("Nodes to end with.")
    node_names = texts_field("Nodes to run, and no others.")
    runner = text_field(
        "A class of `kedro.runner`, or the dotted path of a permitted one.",
        load_default=None,
        allow_none=True,
        validate=_check_runner,
        pattern=_RUNNER_FORM,
    )
    is_async = flag_field("Load and save each node's datasets in threads.")
    tags = texts_field("Run the nodes that carry any of these tags.")
    load_versions = object_field(
        "The version to load, by dataset.",
        values=text_field(validate=_check_version, pattern=_VERSION_FORM),
    )
    pipeline_names = texts_field("Registered pipelines to run; `__default__` if none is given.")
    namespaces = texts_field("Run the nodes in these namespaces.")
    params = object_field("Runtime parameters.")
    only_missing_outputs = flag_field("Leave out nodes whose outputs exist.")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RunRequest:
        return RunRequest(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """What a request says beside its data.

    Attributes:
        request: What to run.
        outputs: The datasets to return; None for what no other node takes.
        save: Whether datasets are saved as the catalog says; None for the default.
    """

    request: RunRequest
    outputs: list[str] | None
    save: bool | None


class PipelineRunSchema(RunRequestSchema):
    """A run of a pipeline on data."""

    class Meta:
        unknown = RAISE
        exclude = ("pipeline_names",)

    inputs = object_field("The data, by dataset. A table is a list of rows.")
    outputs = texts_field("The datasets to return; by default those that no other node takes.")
    save = flag_field(
        "Whether datasets are saved as the catalog says; by default true, and false of a pipeline "
        "that is served. Otherwise what the run makes is passed on in memory, and nothing is "
        "written to the project's files.",
        default=None,
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        outputs, save = data.pop("outputs"), data.pop("save", None)
        data.pop("inputs")
        return PipelineRun(request=RunRequest(**data), outputs=outputs, save=save)


class DataQuerySchema(Schema):
    """What a raw body is. Other parameters are left out."""

    class Meta:
        unknown = EXCLUDE

    input = fields.String(
        load_default=None,
        metadata={"description": "The dataset whose data the body is."},
    )
    params = fields.String(
        load_default=None,
        metadata={"description": "Runtime parameters, in the format of `kedro run --params`."},
    )


def _label_text() -> fields.String:
    return fields.String(metadata={"pattern": f"^{LABEL_FORM}$"})


class _Labels(fields.List[Any]):
    """The labels of a run, one in each parameter."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        try:
            return self._labels(value)
        except LabelError as error:
            raise ValidationError([Problem("value_error", f"Value error, {error}")]) from error

    def _labels(self, given: list[str]) -> Any:
        return labels_in_query(given)


class _WantedLabels(_Labels):
    """The labels of the runs to list, where a name alone stands for any value."""

    def _labels(self, given: list[str]) -> tuple[tuple[str, str | None], ...]:
        pairs = [(split_label(each), "=" in each) for each in given]
        for (name, value), _ in pairs:
            checked({name: value})
        return tuple((name, value if has_value else None) for (name, value), has_value in pairs)


class SubmissionQuerySchema(Schema):
    """How a run is submitted. Other parameters are left out, as Kedro's own server does."""

    class Meta:
        unknown = EXCLUDE

    priority = whole_field(
        "Its priority; the highest is next. By default that of its pipelines (setting "
        "`priorities`), or 0.",
        None,
        MIN_PRIORITY,
        MAX_PRIORITY,
    )
    label = _Labels(
        _label_text(),
        load_default=dict,
        metadata={
            "description": "A label, `name=value`, or a name alone for the value `true`.",
            "maxItems": MAX_LABELS,
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"priority": data["priority"], "labels": data["label"]}


def _starting_point() -> fields.String:
    return fields.String(
        load_default=FAILURE,
        validate=_check_starting_point,
        error_messages={"invalid": _NOT_A_START, "null": _NOT_A_START},
        metadata={
            "description": "`failure`: what had not finished; `start`: all of it.",
            "enum": [*STARTING_POINTS],
        },
    )


def _check_starting_point(value: str) -> None:
    if value not in STARTING_POINTS:
        raise ValidationError(_NOT_A_START)


class RetryQuerySchema(Schema):
    """Where a retry would begin. Other parameters are left out."""

    class Meta:
        unknown = EXCLUDE

    start = _starting_point()
    start.data_key = "from"

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> str:
        start: str = data["start"]
        return start


class _Forced(Texts):
    """The types of refusals that do not count."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        given: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        wrong = [at for at, each in enumerate(given) if each not in FORCEABLE]
        if wrong:
            raise ValidationError(dict.fromkeys(wrong[:MAX_PROBLEMS], _NOT_FORCEABLE))
        return given


class RetrySchema(Schema):
    """How to retry a run."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    start = _starting_point()
    start.data_key = "from"
    params = object_field("Runtime parameters beside those of the run, or instead of some.")
    force = _Forced(
        fields.String(metadata={"enum": [*FORCEABLE]}),
        load_default=None,
        allow_none=True,
        metadata={"description": "The types of refusals that do not count."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RetryOptions:
        return RetryOptions(
            start=data["start"], params=data["params"] or {}, force=frozenset(data["force"] or ())
        )


class PauseSchema(Schema):
    """What to pause or resume."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    pipeline = text_field(
        "The pipeline whose queued runs do not start; null for all.",
        required=True,
        allow_none=True,
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> str | None:
        pipeline: str | None = data["pipeline"]
        return pipeline


class ReloadSchema(Schema):
    """What a served pipeline is to load."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    load_versions = object_field(
        "The versions to load, by dataset; of the others, the newest.", text_field()
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, str]:
        return {**(data["load_versions"] or {})}


def _check_status(status: str) -> None:
    if status not in _STATUSES:
        raise ValidationError(_NOT_A_STATUS)


def _check_active(status: str) -> None:
    if status not in _ACTIVE:
        raise ValidationError(_NOT_ACTIVE)


def _check_cursor(cursor: str) -> None:
    if not is_run_id(cursor):
        raise ValidationError(_NOT_A_CURSOR)


class _Parts(fields.List[Any]):
    """What to include of a run: names with commas between, given once or again."""

    def __init__(self, names: list[str], **options: Any) -> None:
        super().__init__(fields.String(metadata={"enum": names}), **options)
        self._names = names

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        given = [[name.strip() for name in each.split(",")] for each in value]
        wrong = [at for at, names in enumerate(given) if not {*names, ""} <= {*self._names, ""}]
        if wrong:
            problems = (Problem("enum", f"Input should be of: {', '.join(self._names)}"),)
            raise ValidationError(dict.fromkeys(wrong[:MAX_PROBLEMS], problems))
        return [*{name for names in given for name in names if name}]


class RunPartsQuerySchema(Schema):
    """What to show of a run, beside the run. Other parameters are left out."""

    class Meta:
        unknown = EXCLUDE

    include = _Parts(
        [PROVENANCE],
        load_default=(),
        metadata={"description": "`provenance`: what the run was made of."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> frozenset[str]:
        return frozenset(data["include"])


class RunQuerySchema(Schema):
    """Which runs to list, and how many."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    status = fields.List(
        fields.String(validate=_check_status, metadata={"enum": _STATUSES}),
        load_default=(),
        metadata={"description": "Runs in this state; given again, in any of them."},
    )
    pipeline = fields.String(metadata={"description": "Runs of this pipeline."})
    label = _WantedLabels(
        _label_text(),
        load_default=(),
        metadata={
            "description": "Runs with this label, `name=value`, or a name for any value; given "
            "again, with all of them."
        },
    )
    retried = flag_field(
        "Whether to list runs that were retried, too; otherwise the newest run of a chain of "
        "retries stands for it."
    )
    since = moment_field("Runs that were taken in at this time or later.")
    until = moment_field("Runs that were taken in at this time or earlier.")
    idempotency_key = fields.String(
        metadata={"description": "The run that was sent with this key."}
    )
    include = _Parts(
        _PARTS,
        load_default=(),
        metadata={
            "description": "What a list leaves out: each run's `request`, and of its error the "
            "`traceback` and the whole message. Several with commas between, or given again."
        },
    )
    limit = whole_field("How many runs at most; fewer where they are large.", 50, 1, 200)
    cursor = fields.String(
        validate=_check_cursor,
        metadata={"description": "`next` of the page before.", "pattern": f"^{RUN_ID_FORM}$"},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[RunFilter, dict[str, Any]]:
        page = {"limit": data.pop("limit"), "cursor": data.pop("cursor", None)}
        page["include"] = frozenset(map(RunPart, data.pop("include")))
        statuses = tuple(RunStatus(status) for status in data.pop("status"))
        labels = data.pop("label")
        has_retried = data.pop("retried") or "idempotency_key" in data
        wanted = RunFilter(statuses=statuses, labels=labels, has_retried=has_retried, **data)
        return wanted, page


class CancelQuerySchema(Schema):
    """Which runs to cancel."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    status = fields.List(
        fields.String(validate=_check_active, metadata={"enum": _ACTIVE}),
        required=True,
        error_messages={"required": [Problem("missing", "Field required")]},
        metadata={"description": "Runs in this state; given again, in any of them."},
    )
    pipeline = fields.String(metadata={"description": "Runs of this pipeline."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RunFilter:
        statuses = tuple(RunStatus(status) for status in data["status"])
        return RunFilter(statuses=statuses, pipeline=data.get("pipeline"))


class LogQuerySchema(Schema):
    """Which part of a run's log to return."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    after = whole_field("Those after the event of this id.", 0, 0, MAX_EVENT_ID)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return data["after"]


class EventQuerySchema(LogQuerySchema):
    """Which of a run's events to list, and how many."""

    limit = whole_field("How many events at most, on a page.", 200, 1, _MAX_EVENTS)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[int, int]:
        return data["after"], data["limit"]
