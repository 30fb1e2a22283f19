"""What could be loaded for datasets now: their versions, or the state of their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import AbstractDataset, DatasetNotFoundError, generate_timestamp
from kedro.io.data_catalog import DataCatalog

from kedro_flask_server.model.served import DatasetVersion, DatasetVersions
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.data_files import (
    FileState,
    is_file_dataset,
    state_at,
    state_of,
    state_text,
)
from kedro_flask_server.project.datasets import uncached, version_of
from kedro_flask_server.project.planned_access import planned_catalog

# Of one dataset: the newest, and how many of these are looked at.
_MAX_VERSIONS = 10_000
_MAX_STATES = 50


def find_dataset_versions(
    configuration: SelectedConfiguration, names: Iterable[str]
) -> DatasetVersions:
    """Return what could be loaded for datasets now.

    Args:
        configuration: The project's configuration.
        names: The datasets.

    Raises:
        DatasetNotFoundError: If the catalog has none of a name.
        Exception: What the project's configuration raises, as in a run.
    """
    _, resolver = planned_catalog(configuration, configuration.runtime_params(None))
    catalog = DataCatalog(config_resolver=resolver, save_version=generate_timestamp())
    found = {}
    for name in names:
        dataset = catalog.get(name)
        if dataset is None:
            raise DatasetNotFoundError(f"The catalog has no dataset '{name}'.")
        found[name] = tuple(_versions_of(uncached(dataset)))
    return found


def _versions_of(dataset: AbstractDataset[Any, Any]) -> Iterator[DatasetVersion]:
    if not isinstance(dataset, AbstractVersionedDataset) or version_of(dataset) is None:
        state = state_of(dataset, is_saved=False)
        if state or not is_file_dataset(dataset):
            yield _version(None, state)
        return
    dataset.release()  # what its file system remembers of folders
    pattern = str(dataset._get_versioned_path("*"))
    paths = sorted(dataset._glob_function(pattern), reverse=True)[:_MAX_VERSIONS]
    for number, path in enumerate(paths):
        state = state_at(dataset, path) if number < _MAX_STATES else {}
        yield _version(PurePath(path).parent.name, state)


def _version(version: str | None, state: FileState) -> DatasetVersion:
    modified_at = state.get("modified_at")
    age_s = None
    if modified_at is not None:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(
            modified_at.replace("Z", "+00:00")
        )
        age_s = age.total_seconds()
    return DatasetVersion(version=version, state=state_text(state), age_s=age_s)
