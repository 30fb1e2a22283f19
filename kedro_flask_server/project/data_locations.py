"""Where the datasets of a run lie, by what the catalog says of them.

Data in memory lies nowhere, and neither do versions of a dataset: each run writes one of its own.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kedro.io import CatalogConfigResolver
from kedro.io.core import AbstractDataset, Version, get_protocol_and_path, is_parameter
from kedro.pipeline import Pipeline

from kedro_flask_server.model.data_access import DataAccess, FoundAccess
from kedro_flask_server.model.data_exchange import DataRequest
from kedro_flask_server.model.server_process import machine_id
from kedro_flask_server.project.datasets import (
    LOCAL_PROTOCOLS,
    PATHS,
    TABLES,
    arguments_of,
    bare_name,
)

# What tells tables of the same name apart, from the widest to the narrowest.
_AROUND_TABLES = ("con", "connection", "project", "catalog", "database", "dataset", "schema")

_MAX_CHARS = 500

DatasetConfig = Mapping[str, Any]
"""The arguments of a dataset's class, with ``type`` and ``versioned`` as in the catalog."""


def find_access(
    pipeline: Pipeline,
    config_of: Callable[[str], DatasetConfig | None],
    shared_paths: Iterable[str] = (),
    exchange: DataRequest | None = None,
) -> FoundAccess:
    """Return what the nodes of a pipeline read and write.

    Args:
        pipeline: The pipeline.
        config_of: Returns the configuration of a dataset, by its name; None for one in memory.
        shared_paths: Folders that are the same on all machines, absolute.
        exchange: What the request says of data: what is given is not read, and what is passed on
            in memory is neither read nor written.
    """
    paths = _LocalPaths(shared_paths)
    confirmed = (name for node in pipeline.nodes for name in node.confirms)
    written = {*pipeline.all_outputs(), *confirmed}
    elsewhere = _kept_from_catalog(written, exchange)
    locations: dict[str, str] = {}
    unknown: list[str] = []
    for name in sorted(written | pipeline.all_inputs()):
        is_elsewhere = is_parameter(name) or bare_name(name) in elsewhere
        config = None if is_elsewhere else config_of(name)
        if config is None or is_in_memory(config) or _is_versioned(config):
            continue
        location = _location(config, paths)
        if location is None:
            unknown.append(name)
        else:
            locations[name] = location
    access = DataAccess(
        reads={name: each for name, each in locations.items() if name not in written},
        writes={name: each for name, each in locations.items() if name in written},
    )
    return FoundAccess(access=access, unknown=tuple(unknown))


def _kept_from_catalog(written: Iterable[str], exchange: DataRequest | None) -> set[str]:
    if exchange is None:
        return set()
    in_memory = () if exchange.saves else map(bare_name, written)
    return {*map(bare_name, exchange.inputs), *in_memory}


def config_of_catalog(catalog: Any) -> Callable[[str], DatasetConfig | None]:
    """Return a function that finds the configuration of a catalog's datasets, creating none."""

    def find(name: str) -> DatasetConfig | None:
        dataset = catalog._datasets.get(name)
        if dataset is not None:
            return _arguments_of(dataset)
        lazy = catalog._lazy_datasets.get(name)
        config: DatasetConfig | None = lazy.config if lazy is not None else None
        return config or config_in(catalog.config_resolver, name)

    return find


def config_in(resolver: CatalogConfigResolver, name: str) -> DatasetConfig | None:
    """Return the configuration of a dataset, without the warning that Kedro gives for a pattern.

    Args:
        resolver: Has the catalog's configuration.
        name: The dataset.

    Returns:
        The configuration; None for data in memory of which the catalog says nothing.
    """
    known: DatasetConfig | None = resolver.config.get(name)
    if known is not None:
        return known
    pattern = resolver.match_dataset_pattern(name) or resolver.match_user_catch_all_pattern(name)
    if pattern is None:
        return None
    config = copy.deepcopy(resolver._get_pattern_config(pattern))
    resolved: DatasetConfig = resolver._resolve_dataset_config(name, pattern, config)
    return resolved


def _arguments_of(dataset: AbstractDataset[Any, Any]) -> DatasetConfig:
    given = arguments_of(dataset)
    return {**given, "type": type(dataset).__qualname__, "versioned": given.get("version")}


def is_in_memory(config: DatasetConfig) -> bool:
    """Return whether a dataset lies in memory alone."""
    kind = config.get("type", "")
    name = kind if isinstance(kind, str) else getattr(kind, "__qualname__", "")
    return name.rpartition(".")[2] in ("MemoryDataset", "SharedMemoryDataset")


def _is_versioned(config: DatasetConfig) -> bool:
    return isinstance(config.get("version"), Version) or bool(config.get("versioned"))


def _location(config: DatasetConfig, paths: _LocalPaths) -> str | None:
    """Return where a dataset lies; None where that cannot be told."""
    for argument in PATHS:
        path = config.get(argument)
        if isinstance(path, (str, os.PathLike)):
            return _bounded(_path(os.fspath(path), paths))
    inner = config.get("dataset")
    if isinstance(inner, AbstractDataset):
        inner = _arguments_of(inner)
    if isinstance(inner, Mapping):
        return _location(inner, paths)
    table = next((config[name] for name in TABLES if isinstance(config.get(name), str)), None)
    return None if table is None else _bounded(_table(table, config))


def _path(path: str, paths: _LocalPaths) -> str:
    if path.startswith("/") and ":" not in path:  # as most are
        return paths.location(path)
    protocol, path = get_protocol_and_path(path.rpartition("::")[2])
    if protocol in LOCAL_PROTOCOLS:
        return paths.location(path)
    return f"{protocol}://{path.strip('/')}"


def _table(table: str, config: DatasetConfig) -> str:
    """Return where a table lies: the address of its database, without secrets, and its name."""
    given: dict[str, Any] = {}
    for part in ("credentials", "load_args", "save_args"):
        found = config.get(part)
        given.update(found if isinstance(found, Mapping) else {})
    given.update({name: value for name, value in config.items() if name in _AROUND_TABLES})
    around = [_address(given[name]) for name in _AROUND_TABLES if given.get(name) is not None]
    return "/".join(("table:/", *around, table))


def _address(value: Any) -> str:
    if isinstance(value, str):
        if "://" not in value:
            return value
        parts = urlsplit(value)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", "")).replace("://", ":")
    digest = hashlib.blake2b(repr(value).encode("utf-8", "replace"), digest_size=8)
    return digest.hexdigest()


class _LocalPaths:
    """Names local paths; a path belongs to this machine unless it is shared."""

    def __init__(self, shared_paths: Iterable[str]) -> None:
        self._shared = [os.path.realpath(each) for each in shared_paths]
        machine = hashlib.blake2b(machine_id().encode(), digest_size=6).hexdigest()
        self._prefix = f"file://{machine}"
        self._folders: dict[str, str] = {}

    def location(self, path: str) -> str:
        folder, _, name = os.path.normpath(path).rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder or "/").rstrip("/")
        found = f"{real}/{name}"
        if os.path.islink(found):  # noqa: PTH114  it takes a third of the time, for each dataset
            found = os.path.realpath(found)
        is_shared = any(found == each or found.startswith(f"{each}/") for each in self._shared)
        return f"file://{found}" if is_shared else self._prefix + found


def _bounded(location: str) -> str:
    """Return a location that is not too long, and different from all others."""
    if len(location) <= _MAX_CHARS:
        return location
    digest = hashlib.blake2b(location.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{location[:_MAX_CHARS]}#{digest}"
