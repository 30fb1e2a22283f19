"""The JSON and the queries of requests, read with ``unknown = RAISE``."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load

from kedro_flask_server.model.run import RunFilter, RunPart, RunRequest, RunStatus
from kedro_flask_server.model.run_id import RUN_ID_FORM, is_run_id
from kedro_flask_server.web.schemas.fields import (
    MAX_PROBLEMS,
    UNKNOWN_FIELD,
    Problem,
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
_NOT_A_CURSOR = [Problem("value_error", "Input should be `next` of another page")]
_PARTS = [part.value for part in RunPart]
_NOT_A_PART = [Problem("enum", f"Input should be of: {', '.join(_PARTS)}")]

_MAX_EVENTS = 1_000
_MAX_EVENT_ID = 2**31 - 1


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


def _check_status(status: str) -> None:
    if status not in _STATUSES:
        raise ValidationError(_NOT_A_STATUS)


def _check_cursor(cursor: str) -> None:
    if not is_run_id(cursor):
        raise ValidationError(_NOT_A_CURSOR)


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

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    status = fields.List(
        fields.String(validate=_check_status, metadata={"enum": _STATUSES}),
        load_default=(),
        metadata={"description": "Runs in this state; given again, in any of them."},
    )
    pipeline = fields.String(metadata={"description": "Runs of this pipeline."})
    since = moment_field("Runs that were taken in at this time or later.")
    until = moment_field("Runs that were taken in at this time or earlier.")
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
    limit = whole_field("How many runs at most; fewer where they are large.", 50, 1, 200)
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

    error_messages = {"unknown": UNKNOWN_FIELD}  # type: ignore[dict-item]  # noqa: RUF012

    after = whole_field("Those after the event of this id.", 0, 0, _MAX_EVENT_ID)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return data["after"]


class EventQuerySchema(LogQuerySchema):
    """Which of a run's events to list, and how many."""

    limit = whole_field("How many events at most, on a page.", 200, 1, _MAX_EVENTS)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[int, int]:
        return data["after"], data["limit"]
