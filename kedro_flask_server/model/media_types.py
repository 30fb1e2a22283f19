"""The media types of data, and the endings of their files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import PurePath

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TEXT = "text/plain"
OCTETS = "application/octet-stream"
PNG = "image/png"
JPEG = "image/jpeg"

SUFFIXES = {
    JSON: ".json",
    CSV: ".csv",
    PARQUET: ".parquet",
    ARROW_STREAM: ".arrows",
    ARROW_FILE: ".arrow",
    EXCEL: ".xlsx",
    TEXT: ".txt",
    OCTETS: ".bin",
    PNG: ".png",
    JPEG: ".jpg",
}
"""The ending of a file, by its media type."""


_BY_SUFFIX = {suffix: media_type for media_type, suffix in SUFFIXES.items()} | {
    ".jpeg": JPEG,
    ".feather": ARROW_FILE,
}


def media_type_of(path: PurePath, default: str = OCTETS) -> str:
    """Return the media type of a file, by the ending of its name."""
    return _BY_SUFFIX.get(path.suffix.lower(), default)


def tables() -> tuple[str, ...]:
    """Return the media types that tables have here; Parquet and Arrow's need pyarrow."""
    has_arrow = find_spec("pyarrow") is not None
    return (JSON, CSV, PARQUET, ARROW_STREAM) if has_arrow else (JSON, CSV)
