"""Snapshots of a project, and the fingerprint of what one depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import _split_params
from kedro.framework.startup import ProjectMetadata
from kedro.inspection import get_project_snapshot

from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.project.configuration.caching_loader import recording_uncached
from kedro_flask_server.project.configuration.files import bytes_in, listing_of, stamps_in
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.redaction import redact_snapshot

_SUFFIXES = (".yml", ".yaml", ".json")

_MAX_BYTES = 5_000_000


def snapshot_of(
    metadata: ProjectMetadata,
    configuration: SelectedConfiguration,
    runtime_params: dict[str, Any] | None,
) -> Snapshot:
    """Describe a project whose pipelines are loaded, without running anything.

    Args:
        metadata: The project's, from its pyproject.toml.
        configuration: Its configuration.
        runtime_params: Runtime parameters.

    Returns:
        The snapshot, with a fingerprint where it may be used again for as long as that is the same.

    Raises:
        Exception: What the project's code raises.
    """
    began_ns, before = time.time_ns(), _state_of_files(configuration)
    with recording_uncached() as uncached:
        found = get_project_snapshot(
            env=configuration.env,
            conf_source=configuration.conf_source,
            metadata=metadata,
            runtime_params=runtime_params,
        )
    content = dataclasses.asdict(found)
    sources = sources_in(content, metadata.project_path)
    content = redact_snapshot(content)
    # What was edited meanwhile, or depends on more than files, is made again each time.
    is_lasting = not uncached and before == _state_of_files(configuration)
    if not is_lasting or changed_since(sources, began_ns):
        return Snapshot(content=content)
    shown = tuple(map(str, sources))
    return Snapshot(content=content, fingerprint=fingerprint(configuration, shown), sources=shown)


def fingerprint(configuration: SelectedConfiguration, sources: Iterable[str]) -> str | None:
    """Return what a snapshot depends on, beside its parameters, as short text.

    Args:
        configuration: The project's configuration.
        sources: The files of Python that the snapshot says lines of.

    Returns:
        A text that changes whenever the configuration or the sources do; None where there is no
        such text: of a project's own configuration loader, and of what is no folder here.
    """
    folders = configuration.folders()
    return fingerprint_of(folders, map(Path, sources)) if folders else None


def _state_of_files(configuration: SelectedConfiguration) -> object:
    """Return what also changes when a file is edited, and edited back."""
    folders = configuration.folders()
    return fingerprint(configuration, ()), [stamps_in(str(each)) for each in folders]


def fingerprint_of(folders: Iterable[Path], sources: Iterable[Path]) -> str | None:
    """Return what changes whenever a project's configuration or one of its sources does.

    Args:
        folders: The folders of the configuration; every byte in their files counts.
        sources: Files of Python, of which the time and the size count.

    Returns:
        A text that is the same for as long as they are; None where they cannot be read, or are
        too much to read each time.
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
    """Return whether one of some files has changed since a time, or may have within a second."""
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


def parse_params(text: str) -> dict[str, Any]:
    """Return runtime parameters from the format of ``kedro run --params``.

    Raises:
        ValueError: If the text is not of that format.
    """
    try:
        # Kedro reports a fault through a click context: without one, as an AttributeError.
        parsed: dict[str, Any] = _split_params(None, None, text)  # type: ignore[arg-type]
    except Exception as error:
        raise ValueError(
            f"Invalid 'params' value: {text!r}. It takes name=value pairs separated by commas, "
            "such as 'version=02,model.lr=0.01', and no commas within values."
        ) from error
    return parsed


def _times_of(sources: Iterable[Path]) -> list[tuple[str, int, int]] | None:
    try:
        return [
            (str(path), found.st_mtime_ns, found.st_size)
            for path in sources
            for found in [path.stat()]
        ]
    except OSError:
        return None
