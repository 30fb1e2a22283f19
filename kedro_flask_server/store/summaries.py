"""Summaries of runs for lists, cut in SQL so that only what is shown is read."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Select, func, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from kedro_flask_server.model.run import ErrorDetail, Run, RunPart, RunRequest
from kedro_flask_server.store import rows
from kedro_flask_server.store.schema import run_pipelines, runs
from kedro_flask_server.text import bounded, printable

_MAX_PIPELINES = 20
_MAX_CHARS = 500

# A character takes at most six in a JSON document in ASCII.
_READ_CHARS = 8 * _MAX_CHARS

# These occur only between strings, in which quotes are escaped.
_NODE = ', "node": '
_TRACEBACK = ', "traceback": '

_STRING = r'"((?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)'
_ERROR = re.compile(rf'\{{"type": {_STRING}(?:", "message": {_STRING})?')


class octets(GenericFunction[int]):  # noqa: N801  a function of SQL
    """The size of a text in ASCII; PostgreSQL knows it without reading the text."""

    type = Integer()
    inherit_cache = True


@compiles(octets, "sqlite")
def _octets_in_sqlite(element: octets, compiler: Any, **options: Any) -> str:
    return f"length({compiler.process(element.clauses, **options)})"


@compiles(octets, "postgresql")
def _octets_in_postgresql(element: octets, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


class position_in(GenericFunction[int]):  # noqa: N801  a function of SQL
    """The position of a part in a text, from 1; 0 if it does not occur."""

    type = Integer()
    inherit_cache = True


@compiles(position_in, "sqlite")
def _position_in_sqlite(element: position_in, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(position_in, "postgresql")
def _position_in_postgresql(element: position_in, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


def size_of(include: Collection[RunPart]) -> Any:
    """Return the size of what a list adds to a run's summary, in characters."""
    sizes = {RunPart.REQUEST: runs.c.request, RunPart.TRACEBACK: runs.c.error}
    return sum((func.coalesce(octets(sizes[each]), 0) for each in include), literal_column("0"))


def read_summaries(
    connection: Connection, run_ids: Sequence[str], include: Collection[RunPart]
) -> list[Run]:
    """Return runs without their requests and tracebacks, the newest first.

    The request of a summary has the run's pipelines alone, as many as a list shows.

    Args:
        connection: A transaction.
        run_ids: The runs.
        include: Parts to return nevertheless.
    """
    if not run_ids:
        return []
    statement = _summaries(include).where(runs.c.run_id.in_(run_ids))
    found = connection.execute(statement.order_by(runs.c.run_id.desc())).all()
    pipelines = {} if RunPart.REQUEST in include else _pipelines(connection, run_ids)
    return [_load(row, pipelines, include) for row in found]


def _summaries(include: Collection[RunPart]) -> Select[Any]:
    left_out = {"request", "error"} - {"request" if RunPart.REQUEST in include else ""}
    columns = [column for column in runs.c if column.name not in left_out]
    if RunPart.TRACEBACK in include:
        return select(*columns, runs.c.error)
    node_at = position_in(runs.c.error, _NODE)
    return select(
        *columns,
        func.substr(runs.c.error, 1, _READ_CHARS).label("error_head"),
        func.substr(runs.c.error, node_at + len(_NODE), _READ_CHARS).label("error_node"),
        node_at.label("node_at"),
    )


def _pipelines(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[str]]:
    number = func.row_number().over(
        partition_by=run_pipelines.c.run_id, order_by=run_pipelines.c.pipeline
    )
    numbered = (
        select(run_pipelines, number.label("number"))
        .where(run_pipelines.c.run_id.in_(run_ids))
        .subquery()
    )
    some = select(numbered).where(numbered.c.number <= _MAX_PIPELINES + 1)
    found = defaultdict(list)
    for row in connection.execute(some.order_by(numbered.c.run_id, numbered.c.number)):
        is_over = row.number > _MAX_PIPELINES
        found[row.run_id].append(rows.OTHERS if is_over else json.loads(f'"{row.pipeline}"'))
    return found


def _load(row: Any, pipelines: dict[str, list[str]], include: Collection[RunPart]) -> Run:
    if RunPart.REQUEST in include:
        request = RunRequest(**json.loads(row.request))
    else:
        request = RunRequest(pipeline_names=pipelines.get(row.run_id) or [rows.OTHERS])
    if RunPart.TRACEBACK not in include:
        error = _cut_error(row)
    else:
        error = None if row.error is None else ErrorDetail(**json.loads(row.error))
    return rows.make_run(row, request=request, error=error)


def _cut_error(row: Any) -> ErrorDetail | None:
    if row.error_head is None:
        return None
    head = row.error_head[: row.node_at - 1] if row.node_at else row.error_head
    found = _ERROR.match(head)
    kind, message = found.groups() if found else ("", "")
    node, _, _ = row.error_node.partition(_TRACEBACK)
    named = re.match(_STRING, node) if row.node_at else None
    return ErrorDetail(
        type=_text(kind), message=_text(message or ""), node=_text(named[1]) if named else None
    )


def _text(content: str) -> str:
    """Return the text of a JSON string's content, which may be truncated."""
    text = json.loads(f'"{content}"')
    if "\ud800" <= text[-1:] <= "\udbff":  # half of a surrogate pair was cut off
        text = text[:-1]
    return printable(bounded(text, _MAX_CHARS))
