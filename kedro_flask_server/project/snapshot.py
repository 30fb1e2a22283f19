"""What a snapshot of a project depends on, told in few bytes and in less time than to make one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro_flask_server.project.configuration.files import bytes_in, listing_of

_SUFFIXES = (".yml", ".yaml", ".json")

_MAX_BYTES = 5_000_000


def fingerprint_of(folders: Iterable[Path], sources: Iterable[Path]) -> str | None:
    """Return what changes whenever a project's configuration or one of its sources does.

    Args:
        folders: The folders of the configuration; every byte in their files counts.
        sources: Files of Python, of which the time and the size count.

    Returns:
        A text that is the same for as long as they are; None where that cannot be told.
    """
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    for folder in folders:
        listing = listing_of(str(folder))
        if listing is None:
            return None
        digest.update(repr(listing).encode("utf-8", "surrogatepass"))
        for path, is_folder in listing:
            if is_folder or not path.endswith(_SUFFIXES):
                continue
            data = bytes_in(path)
            if data is None:
                return None
            size += len(data)
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
    times = _times_of(sources)
    if times is None or size > _MAX_BYTES:
        return None
    digest.update(repr(times).encode())
    return digest.hexdigest()


def changed_since(sources: Iterable[Path], moment_ns: int) -> bool:
    """Whether one of some files has changed since a time, or may have within its granularity."""
    times = _times_of(sources)
    return times is None or any(modified_ns > moment_ns - 10**9 for _, modified_ns, _ in times)


def sources_in(snapshot: dict[str, Any], project_path: Path) -> list[Path]:
    """Return the files of Python that a snapshot says lines of."""
    found = {
        node["source"]["filepath"]
        for pipeline in snapshot["pipelines"]
        for node in pipeline["nodes"]
        if node.get("source")
    }
    return [project_path / each for each in sorted(found)]


def _times_of(sources: Iterable[Path]) -> list[tuple[str, int, int]] | None:
    try:
        return [
            (str(path), found.st_mtime_ns, found.st_size)
            for path in sources
            for found in [path.stat()]
        ]
    except OSError:
        return None
