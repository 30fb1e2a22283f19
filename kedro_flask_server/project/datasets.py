"""What is known of a dataset without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.io import AbstractVersionedDataset, CachedDataset
from kedro.io.core import AbstractDataset, Version

LOCAL_PROTOCOLS = ("file", "local")

PATHS = ("filepath", "path")
"""The arguments that have a dataset's path."""

TABLES = ("table_name", "table", "table_id")
"""The arguments that have a dataset's table."""


def bare_name(name: str) -> str:
    """Return the name of a dataset without the name of a transcoding."""
    return name.partition("@")[0]


def uncached(dataset: Any) -> Any:
    """Return the dataset that a `CachedDataset` wraps, and any other as it is."""
    return dataset._dataset if isinstance(dataset, CachedDataset) else dataset


def version_of(dataset: AbstractDataset[Any, Any]) -> Version | None:
    """Return which version a dataset loads and saves; None if it has none."""
    return dataset._version if isinstance(dataset, AbstractVersionedDataset) else None


def arguments_of(dataset: object) -> Mapping[str, Any]:
    """Return the arguments that a dataset was made with, by their names.

    Kedro keeps them; of a class that inherits its ``__init__``, as those of a wrapper, which has
    ``args`` and ``kwargs``.
    """
    given: Mapping[str, Any] = getattr(dataset, "_init_args", {})
    inner = given.get("kwargs")
    return {**given, **inner} if isinstance(inner, Mapping) else given


def put_dataset(catalog: Any, name: str, dataset: AbstractDataset[Any, Any]) -> None:
    """Put a dataset into a catalog, without Kedro's warning that it replaces one."""
    for each in (catalog._datasets, catalog._lazy_datasets, catalog._load_versions):
        each.pop(name, None)
    catalog[name] = dataset
