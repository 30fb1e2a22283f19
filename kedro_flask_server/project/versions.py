"""Which version of its datasets a run loads, decided once for all its nodes and processes.

Kedro looks for the latest version where a dataset is first loaded or checked: that may be one which
another run is writing, or the one before that which the run itself writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import wraps
from itertools import chain
from pathlib import PurePath
from typing import Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import Version, is_parameter
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner

from kedro_flask_server.model.run import ACTIVE, RunStatus
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.run_id import is_run_id
from kedro_flask_server.project.datasets import bare_name, uncached

# How many versions to ask the server about at a time.
_STEP_VERSIONS = 50


def pin_versions(runner: AbstractRunner, data: RunData) -> None:
    """Have a runner pin the versions of a run's datasets, once Kedro has left out nodes.

    A dataset that the run writes is loaded, after that, in its own version. Of the others it is the
    newest of a run that had ended when this one began: a version is its run's id. So the versions
    of several datasets belong together. Those that the request gives stay.

    Args:
        runner: A runner that runs once.
        data: Knows which runs execute.
    """
    run = runner._run

    @wraps(run)
    def pin_and_run(pipeline: Pipeline, catalog: Any, *args: Any, **kwargs: Any) -> Any:
        written = {bare_name(name) for name in pipeline.all_outputs()}
        read: dict[str, AbstractVersionedDataset[Any, Any]] = {}
        for name, dataset in _unpinned(pipeline, catalog):
            if bare_name(name) in written:
                _pin(dataset, dataset.resolve_save_version())
            else:
                read[name] = dataset
        if read:
            _pin_latest(read, data)
        return run(pipeline, catalog, *args, **kwargs)

    runner._run = pin_and_run  # type: ignore[method-assign]


def _unpinned(
    pipeline: Pipeline, catalog: Any
) -> Iterator[tuple[str, AbstractVersionedDataset[Any, Any]]]:
    """Yield the versioned datasets that a pipeline reads, and whose version is not given."""
    for name in sorted(pipeline.all_inputs()):
        if is_parameter(name):
            continue
        dataset = uncached(catalog.get(name))
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        version = dataset._version
        if version is not None and not version.load:
            yield name, dataset


def _pin(dataset: AbstractVersionedDataset[Any, Any], version: str | None) -> None:
    assert dataset._version is not None  # noqa: S101  it is versioned
    dataset._version = Version(version, dataset._version.save)


def _pin_latest(datasets: dict[str, AbstractVersionedDataset[Any, Any]], data: RunData) -> None:
    executing = {*data.executing()}  # before the versions are listed, so that none is seen in part
    paths = {name: _paths_of(dataset) for name, dataset in datasets.items()}
    start = 0
    while paths:
        some = {name: each[start : start + _STEP_VERSIONS] for name, each in paths.items()}
        start += _STEP_VERSIONS
        statuses = _statuses(chain.from_iterable(some.values()), executing, data)
        for name, each in some.items():
            dataset = datasets[name]
            version = _first_loadable(dataset, each, statuses, data)
            if version is not None:
                _pin(dataset, version)
                _warn_of_failed(name, version, statuses.get(version), data)
                del paths[name]
            elif not each:
                # Kedro finds none then, where the dataset is loaded, and says so.
                dataset._glob_function = _find_none
                del paths[name]


def _paths_of(dataset: AbstractVersionedDataset[Any, Any]) -> list[str]:
    """Return the paths of a dataset's versions, the newest first."""
    try:
        return sorted(dataset._glob_function(str(dataset._get_versioned_path("*"))), reverse=True)
    except Exception:  # of the file system; Kedro meets it again where the dataset is loaded
        return []


def _version_in(path: str) -> str:
    return PurePath(path).parent.name


def _statuses(paths: Iterable[str], executing: set[str], data: RunData) -> dict[str, str]:
    """Return the statuses of the runs that made versions, as of the beginning of this one."""
    versions = {version for version in map(_version_in, paths) if is_run_id(version)}
    found = data.statuses(sorted(versions - executing)) if versions - executing else {}
    return {**found, **dict.fromkeys(versions & executing, RunStatus.RUNNING.value)}


def _first_loadable(
    dataset: AbstractVersionedDataset[Any, Any],
    paths: Iterable[str],
    statuses: Mapping[str, str],
    data: RunData,
) -> str | None:
    for path in paths:
        status = statuses.get(_version_in(path), RunStatus.SUCCESS.value)
        is_failed = status != RunStatus.SUCCESS
        is_loadable = status not in ACTIVE and not (is_failed and data.skips_failed_versions)
        if is_loadable and dataset._exists_function(path):
            return _version_in(path)
    return None


def _warn_of_failed(name: str, version: str, status: str | None, data: RunData) -> None:
    if status is not None and status != RunStatus.SUCCESS:
        data.warn(
            f"The dataset {name} was loaded in the version {version}, which a run has left that "
            f"ended as {status}."
        )


def _find_none(pattern: str) -> list[str]:
    """Find no version: those that there are are being written."""
    return []
