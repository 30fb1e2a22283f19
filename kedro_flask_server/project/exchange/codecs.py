"""The standard codecs: JSON, CSV, Parquet, Arrow streams, text and octets."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kedro_flask_server.data_frames import PANDAS, POLARS, is_of, to_arrow
from kedro_flask_server.model.media_types import (
    ARROW_STREAM,
    CSV,
    JSON,
    OCTETS,
    PARQUET,
    TEXT,
)
from kedro_flask_server.project.exchange import tables
from kedro_flask_server.project.exchange.bounds import (
    check_parquet,
    check_values,
    refuse_large,
    refuse_many_columns,
)
from kedro_flask_server.project.exchange.data_types import DataType, Kind, adapter_of
from kedro_flask_server.project.exchange.problems import InvalidInput


def decode(
    dataset: str,
    source: Path | bytes,
    media_type: str,
    data_type: DataType,
    load_args: Mapping[str, Any] | None = None,
) -> Any:
    """Return the data in a file.

    Args:
        dataset: The dataset that it is for.
        source: The file, or JSON itself.
        media_type: One of the media types of its type.
        data_type: The type of the data.
        load_args: The arguments with which the catalog reads a CSV file, which count for JSON.

    Raises:
        InvalidInput: If it cannot be read, or is not what its type says.
    """
    try:
        if isinstance(source, bytes):
            return _decode_json(dataset, source, data_type, load_args)
        if media_type == JSON:
            return _decode_json(dataset, source.read_bytes(), data_type, load_args)
        if media_type == TEXT:
            return source.read_text(encoding="utf-8")
        if media_type == OCTETS:
            return source.read_bytes()
        return _READERS[media_type](source, data_type.kind)
    except InvalidInput:
        raise
    except Exception as error:  # of libraries
        raise InvalidInput(dataset, f"{type(error).__qualname__}: {error}") from None


def _decode_json(
    dataset: str, data: bytes, data_type: DataType, load_args: Mapping[str, Any] | None
) -> Any:
    kind = data_type.kind
    if kind is Kind.OBJECT:
        return _validated(dataset, data, data_type.annotation)
    from pydantic_core import from_json

    content = from_json(data, allow_inf_nan=False)
    if kind is Kind.ANY:
        return content
    if kind in (Kind.TEXT, Kind.BYTES):
        if not isinstance(content, str):
            raise InvalidInput(dataset, "it is no text")
        return content if kind is Kind.TEXT else _octets(dataset, content)
    return tables.load(kind, content, load_args)


def _octets(dataset: str, content: str) -> bytes:
    try:
        return base64.b64decode(content.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise InvalidInput(dataset, "it is no base64") from error


def _validated(dataset: str, data: bytes, annotation: Any) -> Any:
    from pydantic import ValidationError

    try:
        return adapter_of(annotation).validate_json(data)
    except ValidationError as error:
        problems = [
            (tuple(each["loc"]), str(each["type"]), str(each["msg"])) for each in error.errors()
        ]
        first = problems[0][2] if problems else str(error)
        raise InvalidInput(dataset, first, problems) from None  # it has the data in its text


def _read_csv(path: Path, kind: Kind) -> Any:
    check_values(path)
    if kind is Kind.POLARS:
        import polars

        return polars.read_csv(path)
    if kind is Kind.ARROW:
        from pyarrow import csv

        return csv.read_csv(path)
    import pandas

    return pandas.read_csv(path)


def _read_parquet(path: Path, kind: Kind) -> Any:
    check_parquet(path)
    from pyarrow import parquet

    return _of_arrow(parquet.ParquetFile(path).read(), kind)


def _read_arrow_stream(path: Path, kind: Kind) -> Any:
    import pyarrow

    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
        return _of_arrow(_bounded_table(reader.schema, iter(reader)), kind)


def _bounded_table(schema: Any, batches: Any) -> Any:
    import pyarrow

    refuse_many_columns(len(schema))
    kept, size = [], 0
    for batch in batches:
        size += batch.nbytes
        refuse_large(size)
        kept.append(batch)
    return pyarrow.Table.from_batches(kept, schema)


def _of_arrow(table: Any, kind: Kind) -> Any:
    if kind is Kind.ARROW:
        return table
    if kind is Kind.POLARS:
        import polars

        return polars.from_arrow(table)
    return table.to_pandas()


_READERS: Mapping[str, Callable[[Path, Kind], Any]] = {
    CSV: _read_csv,
    PARQUET: _read_parquet,
    ARROW_STREAM: _read_arrow_stream,
}


def encode(data: Any, media_type: str, path: Path) -> None:
    """Write data to a file.

    Args:
        data: What a node has returned.
        media_type: The media type of the file.
        path: The file.

    Raises:
        TypeError: If the data has no such form.
        Exception: Of the libraries that write it.
    """
    if media_type == JSON:
        path.write_bytes(to_json(data))
    elif media_type == TEXT:
        path.write_text(_checked(data, str, media_type), encoding="utf-8")
    elif media_type == OCTETS:
        path.write_bytes(_checked(data, bytes, media_type))
    else:
        _WRITERS[media_type](data, path)


def to_json(data: Any) -> bytes:
    """Return the JSON form of data (`tables`, and pydantic for all else).

    Raises:
        TypeError: If it has none.
    """
    if isinstance(data, bytes):
        return json.dumps(base64.b64encode(data).decode()).encode()
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(data, inf_nan_mode="strings", bytes_mode="base64", fallback=tables.dump)
    except (PydanticSerializationError, ValueError) as error:
        raise TypeError(str(error)) from error


def _checked(data: Any, kind: type, media_type: str) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"{type(data).__qualname__} has no form of {media_type}")
    return data


def _write_csv(data: Any, path: Path) -> None:
    if is_of(data, PANDAS):
        data.to_csv(path, index=tables.has_index(data), index_label=tables.index_names(data))
    elif is_of(data, POLARS):
        data.write_csv(path)
    else:
        from pyarrow import csv

        csv.write_csv(to_arrow(data), path)


def _write_parquet(data: Any, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(to_arrow(data), path)


def _write_arrow_stream(data: Any, path: Path) -> None:
    import pyarrow

    table = to_arrow(data)
    with (
        pyarrow.OSFile(str(path), "wb") as file,
        pyarrow.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)


_WRITERS: Mapping[str, Callable[[Any, Path], None]] = {
    CSV: _write_csv,
    PARQUET: _write_parquet,
    ARROW_STREAM: _write_arrow_stream,
}
