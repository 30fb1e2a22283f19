"""Data that the Python client sends and receives: tables, files and values."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from kedro_flask_server.data_frames import PANDAS, TABLES, is_of, to_arrow
from kedro_flask_server.model.media_types import (
    ARROW_STREAM,
    CSV,
    JSON,
    OCTETS,
    PARQUET,
    TEXT,
    media_type_of,
)

File = tuple[str, bytes, str]
"""A file to send: its name, its content and its media type."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """The result of a pipeline that was run on data.

    Attributes:
        run_id: The id of the run.
        outputs: The data that it returned, by dataset: data frames of pandas, where it is
            installed, and values.
        not_returned: Why a dataset is not among them, by dataset.
    """

    run_id: str
    outputs: Mapping[str, Any]
    not_returned: Mapping[str, str] = dataclasses.field(default_factory=dict)


def body_of(
    fields: Mapping[str, Any], inputs: Mapping[str, Any], described: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how a request with data is sent, as arguments of httpx.

    Args:
        fields: What is no data.
        inputs: The data, by dataset: a table of pandas, Polars or Arrow, the path of a file, bytes,
            or a value that JSON has.
        described: Returns what the pipeline takes, as ``GET /pipelines/<name>`` does.

    Returns:
        ``content`` and ``headers`` of a JSON body, or ``files`` in parts.

    Raises:
        TypeError: If data has no form in which it can be sent.
        OSError: If a file cannot be read.
    """
    files: dict[str, File] = {}
    values: dict[str, Any] = {}
    for name, data in inputs.items():
        sent = _file_of(name, data, described)
        if sent is None:
            values[name] = data
        else:
            files[name] = sent
    content = json.dumps(_json_of({**fields, "inputs": values})).encode()
    if not files:
        return {"content": content, "headers": {"Content-Type": JSON}}
    return {"files": {"request": ("request", content, JSON), **files}}


def _file_of(name: str, data: Any, described: Callable[[], Mapping[str, Any]]) -> File | None:
    if isinstance(data, PurePath):
        return (data.name, Path(data).read_bytes(), media_type_of(data))
    if isinstance(data, (bytes, bytearray)):
        return (name, bytes(data), OCTETS)
    if not is_of(data, *TABLES):
        return None
    known = described().get("inputs", {}).get(name.partition("@")[0], {})
    media_types = known.get("media_types", ())
    if PARQUET in media_types and find_spec("pyarrow") is not None:
        with suppress(Exception):  # of columns with values of several kinds
            return (f"{name}.parquet", _parquet(data), PARQUET)
    return None


def _parquet(table: Any) -> bytes:
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(to_arrow(table), sink)
    return sink.getvalue()


def _json_of(value: Any) -> Any:
    """Return the JSON form of a value (docs/data.md)."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _json_of(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [*map(_json_of, value)]
    return _json_of(_plain(value))


def _plain(value: Any) -> Any:
    """Return the JSON form of what JSON does not have (docs/data.md)."""
    if isinstance(value, (date, datetime, time, Decimal, UUID)):
        return str(value) if isinstance(value, (Decimal, UUID)) else value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    for method in ("model_dump", "to_dicts", "to_pylist", "tolist", "to_list"):
        if hasattr(value, method):
            return getattr(value, method)()
    if is_of(value, PANDAS):
        rows = value.to_dict("records")
        return [{name: _known(each) for name, each in row.items()} for row in rows]
    raise TypeError(f"{type(value).__qualname__} cannot be sent as JSON")


def _known(value: Any) -> Any:
    is_missing = isinstance(value, float) and math.isnan(value)
    return None if is_missing or str(value) in ("NaT", "<NA>") else value


def exact_form(described: Mapping[str, Any], outputs: Sequence[str]) -> str:
    """Return the media type in which the outputs of a pipeline keep their types.

    Args:
        described: What the pipeline returns, as ``GET /pipelines/<name>`` tells it.
        outputs: The datasets to return.
    """
    if len(outputs) != 1 or not all(map(find_spec, ("pyarrow", "pandas"))):
        return JSON
    known = {**described.get("intermediates", {}), **described.get("outputs", {})}
    found = known.get(outputs[0], {})
    is_table = found.get("schema", {}).get("type") == "array"
    return PARQUET if is_table and PARQUET in found.get("media_types", ()) else JSON


def load(content: bytes, media_type: str, *, as_table: bool) -> Any:
    """Return the data of an output.

    Args:
        content: What the server sends.
        media_type: Its media type.
        as_table: Whether JSON is a table.

    Returns:
        A data frame of pandas, where it is installed; a value; or bytes.
    """
    if media_type == JSON:
        value = json.loads(content)
        return frame_of(value) if as_table else value
    if media_type == TEXT:
        return content.decode()
    if media_type in (CSV, PARQUET) and find_spec("pandas") is not None:
        import pandas

        read = pandas.read_csv if media_type == CSV else pandas.read_parquet
        return read(io.BytesIO(content))
    if media_type == ARROW_STREAM and find_spec("pyarrow") is not None:
        import pyarrow

        return pyarrow.ipc.open_stream(content).read_all()
    return content


def frame_of(rows: Any) -> Any:
    """Return a data frame of pandas from rows; the rows where it is not installed."""
    if find_spec("pandas") is None:
        return rows
    import pandas

    if isinstance(rows, Mapping):
        return pandas.DataFrame(rows["data"], columns=rows["columns"])
    return pandas.DataFrame(rows)
