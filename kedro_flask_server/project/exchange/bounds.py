"""Bounds on what data may take once it is read, whatever its size as it comes.

Sizes that a file tells of itself are its sender's. What cannot be told before it is decompressed is
bounded by the memory that this process may take meanwhile, where it executes one run alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MAX_DECODED_BYTES = 1 << 30
"""More bytes than a file may have once it is decompressed."""

MAX_CELLS = 50_000_000
"""More cells than a table in a file may have."""

MAX_JSON_CELLS = 10_000_000
"""More cells than a table in JSON may have, each of which is an object of its own at first."""

MAX_COLUMNS = 10_000
"""More columns than a table may have: each takes as much as many cells."""

# Memory beside the data while it is read.
_WORKING_BYTES = 2 * MAX_DECODED_BYTES

# The longest first line of a text of values.
_MAX_HEADER_BYTES = 1_000_000


def refuse_many_columns(count: int) -> None:
    """Refuse a table with too many columns.

    Raises:
        ValueError: If it has.
    """
    if count > MAX_COLUMNS:
        raise ValueError(f"the table has more than {MAX_COLUMNS:,} columns")


def check_values(path: Path) -> None:
    """Refuse a text of separated values with too many columns.

    Raises:
        ValueError: If it has, as far as its first line tells.
    """
    with path.open("rb") as file:
        line = file.readline(_MAX_HEADER_BYTES)
    if len(line) == _MAX_HEADER_BYTES:
        raise ValueError(f"its first line is longer than {_MAX_HEADER_BYTES:,} bytes")
    refuse_many_columns(max(line.count(each) for each in b",;\t|"))


def check_parquet(path: Path) -> None:
    """Refuse a file of Parquet that is too large once it is decompressed.

    Raises:
        ValueError: If it is.
    """
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    metadata, schema = file.metadata, file.schema_arrow
    refuse_many_columns(metadata.num_columns)
    if metadata.num_rows * metadata.num_columns > MAX_CELLS:
        raise ValueError(f"the table has more than {MAX_CELLS:,} cells")
    has_texts = any(
        not pyarrow.types.is_primitive(each) and not pyarrow.types.is_boolean(each)
        for each in schema.types
    )
    if not has_texts:
        return
    # A long text that is stored once may stand in each row: as a dictionary, it is read once.
    texts = [
        name
        for name, each in zip(schema.names, schema.types, strict=True)
        if pyarrow.types.is_binary(each) or pyarrow.types.is_string(each)
    ]
    size = 0
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches():
            size += sum(map(_decoded_bytes, batch.columns))
            refuse_large(size)


def refuse_large(size_bytes: int) -> None:
    """Refuse data that is too large once it is decompressed.

    Raises:
        ValueError: If it is.
    """
    if size_bytes > MAX_DECODED_BYTES:
        raise ValueError(f"it is larger than {MAX_DECODED_BYTES:,} bytes, decompressed")


def _decoded_bytes(column: Any) -> int:
    """Return the size of a column without a dictionary."""
    import pyarrow
    from pyarrow import compute

    if not pyarrow.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary)
    return int(compute.sum(lengths.take(column.indices)).as_py() or 0) + len(column) * 4


@contextmanager
def bounded_memory(*, is_alone: bool) -> Iterator[None]:
    """Bound the memory of this process while data is read (Linux, RLIMIT_DATA).

    Beyond it, the libraries that read raise `MemoryError`, or an error of their own.

    Args:
        is_alone: Whether the process executes one run alone; others would get no memory, either.
    """
    if sys.platform != "linux" or not is_alone:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + MAX_DECODED_BYTES + _WORKING_BYTES
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Return the size of this process's data, as the limit counts it (proc(5), statm)."""
    import resource

    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
