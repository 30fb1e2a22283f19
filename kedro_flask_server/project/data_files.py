"""The files of datasets as they are: size, time and ETag."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import AbstractDataset, get_protocol_and_path

from kedro_flask_server.project.datasets import (
    LOCAL_PROTOCOLS,
    PATHS,
    arguments_of,
    uncached,
    version_of,
)
from kedro_flask_server.text import rfc3339

# Of a folder; looking at more would take longer than a node may notice.
_MAX_FILES = 1_000

# What `IncrementalDataset` writes there when its data is confirmed.
_CHECKPOINT = "CHECKPOINT"

# Packages whose tables know their number of rows.
_TABLES = ("pandas", "polars", "pyarrow", "numpy")

FileState = Mapping[str, Any]
"""``size_bytes``, and where known ``modified_at`` (RFC 3339) and ``etag``, a text that differs if
the content may differ."""


def saved_version(dataset: AbstractDataset[Any, Any] | None) -> Path | None:
    """Return the file of the version that a run saves, if it is there and on this machine."""
    dataset = uncached(dataset)
    if dataset is None or version_of(dataset) is None:
        return None
    try:
        found = _path_of(dataset, is_saved=True)
        if found is None or found[0] not in LOCAL_PROTOCOLS:
            return None
        path = Path(found[1])
        return path if path.is_file() else None
    except Exception:  # as below
        return None


def state_of(dataset: AbstractDataset[Any, Any], *, is_saved: bool) -> FileState:
    """Return the state of a dataset's file or folder.

    Args:
        dataset: The dataset. Of a versioned one, it is that of one version.
        is_saved: Whether the version is that which the run saves, or that which it loads.

    Returns:
        The state; empty where there is no file, or none that can be looked at.
    """
    dataset = uncached(dataset)
    try:
        found = _path_of(dataset, is_saved=is_saved)
        if found is None:
            return {}
        protocol, path = found
        return _state_at(dataset, path, is_local=protocol in LOCAL_PROTOCOLS)
    except Exception:  # of any file system; the run goes on without
        return {}


def state_at(dataset: AbstractDataset[Any, Any], path: str) -> FileState:
    """Return the state of a file or folder of a dataset; empty where it cannot be looked at."""
    try:
        is_local = getattr(dataset, "_protocol", "file") in LOCAL_PROTOCOLS
        return _state_at(dataset, path, is_local=is_local)
    except Exception:  # as above
        return {}


def _state_at(dataset: AbstractDataset[Any, Any], path: str, *, is_local: bool) -> FileState:
    if is_local:
        return _local(path)
    system = getattr(dataset, "_fs", None) or getattr(dataset, "_filesystem", None)
    return {} if system is None else _remote(system.info(path))


def state_text(state: FileState) -> str:
    """Return a text that differs if the content may differ; empty where nothing is known."""
    return str(state.get("etag") or dict(state) or "")


def is_file_dataset(dataset: AbstractDataset[Any, Any]) -> bool:
    """Return whether a dataset has a file or folder."""
    return any(arguments_of(dataset).get(name) for name in PATHS)


def rows_of(data: Any) -> int | None:
    """Return the number of rows of a table that knows it; None of all else."""
    if type(data).__module__.partition(".")[0] not in _TABLES:
        return None
    shape = getattr(data, "shape", None)
    is_table = isinstance(shape, tuple) and len(shape) > 0 and isinstance(shape[0], int)
    return int(shape[0]) if is_table else None  # type: ignore[index]


def _path_of(dataset: AbstractDataset[Any, Any], *, is_saved: bool) -> tuple[str, str] | None:
    given = arguments_of(dataset)
    path = next((given[name] for name in PATHS if given.get(name)), None)
    if not isinstance(path, (str, os.PathLike)):
        return None
    path = os.fspath(path)
    protocol, path = ("file", path) if path.startswith("/") else get_protocol_and_path(path)
    version = version_of(dataset)
    if isinstance(dataset, AbstractVersionedDataset) and version is not None:
        wanted = version.save if is_saved else version.load
        if not wanted:
            return None
        path = str(dataset._get_versioned_path(wanted))
    return protocol, path


def _local(path: str) -> FileState:
    found = os.stat(path)  # noqa: PTH116  for each dataset of each run
    if not stat.S_ISDIR(found.st_mode):
        return _state(found.st_size, found.st_mtime_ns, f"{found.st_mtime_ns:x}-{found.st_size:x}")
    size, newest_ns, digest = 0, found.st_mtime_ns, hashlib.blake2b(digest_size=12)
    files = (each for each in _files_in(path, "") if each[0] != _CHECKPOINT)
    for number, (name, each) in enumerate(files):
        if number == _MAX_FILES:
            return {}
        size, newest_ns = size + each.st_size, max(newest_ns, each.st_mtime_ns)
        digest.update(f"{name}\0{each.st_mtime_ns:x}-{each.st_size:x}\0".encode("utf-8", "replace"))
    return _state(size, newest_ns, digest.hexdigest())


def _files_in(folder: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files_in(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.stat()


def _state(size: int, modified_ns: int, etag: str) -> FileState:
    modified = datetime.fromtimestamp(modified_ns / 1e9, timezone.utc)
    return {"size_bytes": size, "modified_at": rfc3339(modified), "etag": etag}


def _remote(info: Mapping[str, Any]) -> FileState:
    """Return the state of a file elsewhere, by what its file system says of it."""
    state: dict[str, Any] = {}
    if isinstance(info.get("size"), int):
        state["size_bytes"] = info["size"]
    modified = info.get("LastModified") or info.get("mtime") or info.get("updated")
    if isinstance(modified, datetime):
        state["modified_at"] = rfc3339(modified)
    etag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
    if isinstance(etag, str):
        state["etag"] = etag.strip('"')
    return state
