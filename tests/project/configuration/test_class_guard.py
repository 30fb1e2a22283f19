# ruff: noqa: E501  (catalogs on one line each)
"""No caller chooses a class, in any form that catalogs know; and no sound catalog is refused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from kedro.io import AbstractDataset, DataCatalog
from kedro.io.core import parse_dataset_definition
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.configuration.class_guard import classes_guarded
from kedro_flask_server.project.configuration.isolated_loader import _GUARD, isolated

CANARY = """
import sys
from kedro.io import MemoryDataset
sys.modules["canary_seen"] = sys
class Dataset(MemoryDataset): pass
"""
GLOBALS = """
types: {csv: pandas.CSVDataset, json: json.JSONDataset, evil: canary.Dataset}
paths: {eu: data/eu, us: data/us}
csv: pandas.CSVDataset
package: pandas
"""


class Subclass(OmegaConfigLoader):
    """Changes nothing."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)


class OwnNested(AbstractDataset[Any, Any]):
    """Has a short form of its own for the dataset that it wraps."""

    def __init__(self, inner: str) -> None:
        self.inner, _ = parse_dataset_definition({"type": inner})

    def load(self) -> Any:
        return None

    def save(self, data: Any) -> None:
        pass

    def _describe(self) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def _canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsing: None) -> Iterator[None]:
    (tmp_path / "canary.py").write_text(CANARY)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    kedro_patches.apply()
    yield
    sys.modules.pop("canary", None)
    sys.modules.pop("canary_seen", None)
    OmegaConf.clear_resolvers()


def datasets_of(
    tmp_path: Path,
    catalog: str,
    params: dict[str, Any],
    kind: type[AbstractConfigLoader],
    **options: Any,
) -> dict[str, Any]:
    """Return all datasets of a catalog, made as a run makes them."""
    for env in ("base", "local"):
        (tmp_path / "conf" / env).mkdir(parents=True, exist_ok=True)
    (tmp_path / "conf/base/catalog.yml").write_text(catalog)
    (tmp_path / "conf/base/globals.yml").write_text(GLOBALS)
    made: Any = isolated(kind)
    for _ in range(3):  # what is cached counts, too
        with classes_guarded():
            loader = made(
                str(tmp_path / "conf"),
                base_env="base",
                default_run_env="local",
                runtime_params=params,
                **{_GUARD: True, **options},
            )
            config = loader["catalog"]
            found = DataCatalog.from_config(config)
            names = [name for name in config if "{" not in name] + ["sales#made"]
            datasets = {
                name: found.get(name) for name in names if name in config or "{" in str(config)
            }
    return datasets


OWN = f"{__name__}.OwnNested"
CHOSEN = {
    "type": "a: {type: '${runtime_params:k}'}",
    "type, by default another": "a: {type: '${runtime_params:k, pandas.CSVDataset}', filepath: x}",
    "through another key": "_t: '${runtime_params:k}'\na: {type: '${_t}'}",
    "by a key": "a: {type: '${globals:types.${runtime_params:name}}'}",
    "by a number": "_all: [json.JSONDataset, canary.Dataset]\na: {type: '${_all[${runtime_params:n}]}'}",
    "in part": "a: {type: '${runtime_params:module}.Dataset'}",
    "whole entry": "a: '${runtime_params:entry}'",
    "whole entry, by a key": "_e: {x: {type: canary.Dataset}}\na: '${_e.${runtime_params:x}}'",
    "cached": "a: {type: CachedDataset, dataset: {type: '${runtime_params:k}'}}",
    "cached, whole": "a: {type: CachedDataset, dataset: '${runtime_params:entry}'}",
    "partitioned": "a: {type: partitions.PartitionedDataset, path: x, dataset: {type: '${runtime_params:k}'}}",
    "partitioned, short": "a: {type: partitions.PartitionedDataset, path: x, dataset: '${runtime_params:k}'}",
    "partitioned, short, by a key": (
        "a: {type: partitions.PartitionedDataset, path: x, dataset: '${globals:types.${runtime_params:name}}'}"
    ),
    "incremental, short": "a: {type: partitions.IncrementalDataset, path: x, dataset: '${runtime_params:k}'}",
    "checkpoint": (
        "a: {type: partitions.IncrementalDataset, path: x, dataset: pandas.CSVDataset, "
        "checkpoint: {type: '${runtime_params:k}'}}"
    ),
    "comparison": (
        "a: {type: partitions.IncrementalDataset, path: x, dataset: pandas.CSVDataset, "
        "checkpoint: {comparison_func: '${runtime_params:k}'}}"
    ),
    "backend": "a: {type: pickle.PickleDataset, filepath: x, backend: '${runtime_params:module}'}",
    "own short form": f"a: {{type: {OWN}, inner: '${{runtime_params:k}}'}}",
    "own short form, in part": f"a: {{type: {OWN}, inner: '${{runtime_params:module}}.Dataset'}}",
    "factory": "'{name}#made': {type: '${runtime_params:k}'}",
    "factory, short": (
        "'{name}#made': {type: partitions.PartitionedDataset, path: '{name}', dataset: '${runtime_params:k}'}"
    ),
    "factory, in part": (
        "'{name}#{kind}': {type: partitions.PartitionedDataset, path: '{kind}', "
        "dataset: '${runtime_params:module}.{x}'}"
    ),
    "in a list": "a: {type: MemoryDataset, metadata: [{type: '${runtime_params:k}'}]}",
    "resolver": "a: {type: '${lower:${runtime_params:k}}'}",
}
PARAMS: dict[str, Any] = {
    "k": "canary.Dataset",
    "module": "canary",
    "name": "evil",
    "n": "1",
    "x": "x",
    "entry": {"type": "canary.Dataset"},
}


@pytest.mark.parametrize("kind", [OmegaConfigLoader, Subclass])
@pytest.mark.parametrize("catalog", CHOSEN.values(), ids=CHOSEN)
def test_no_class_that_a_caller_chooses_is_imported(
    tmp_path: Path, catalog: str, kind: type[AbstractConfigLoader]
) -> None:
    catalog = catalog.replace(".{x}", ".Dataset")
    options = {"custom_resolvers": {"lower": str}} if "lower:" in catalog else {}
    with pytest.raises(Exception, match="must not"):
        datasets_of(tmp_path, catalog, PARAMS, kind, **options)
    assert "canary_seen" not in sys.modules


REQUIRED = "filepath: '${globals:paths.${runtime_params:region}}/x'"
SOUND = {
    "global": f"a: {{type: '${{globals:types.csv}}', {REQUIRED}}}",
    "global in part": f"a: {{type: '${{globals:package}}.CSVDataset', {REQUIRED}}}",
    "literal": f"a: {{type: pandas.CSVDataset, {REQUIRED}}}",
    "another key": f"_t: pandas.CSVDataset\na: {{type: '${{_t}}', {REQUIRED}}}",
    "shared entry": f"_e: {{type: pandas.CSVDataset, {REQUIRED}}}\na: ${{_e}}",
    "default": f"a: {{type: '${{runtime_params:gone, pandas.CSVDataset}}', {REQUIRED}}}",
    "default from globals": f"a: {{type: '${{runtime_params:gone, ${{globals:csv}}}}', {REQUIRED}}}",
    "nested": f"a: {{type: CachedDataset, dataset: {{type: '${{globals:csv}}', {REQUIRED}}}}}",
    "short": (
        "a: {type: partitions.PartitionedDataset, dataset: '${globals:csv}', "
        "path: '${globals:paths.${runtime_params:region}}'}"
    ),
    "short, the caller's text elsewhere": (
        "a: {type: partitions.PartitionedDataset, dataset: pandas.CSVDataset, "
        "path: '${runtime_params:region}', filename_suffix: '${runtime_params:suffix}'}"
    ),
    "backend": "a: {type: pickle.PickleDataset, backend: pickle, filepath: '${runtime_params:region}'}",
    "dataset that is no class": (
        "a: {type: MemoryDataset, metadata: {dataset: '${runtime_params:region}', backend: '${runtime_params:suffix}'}}"
    ),
    "factory": f"'{{name}}#made': {{type: '${{globals:csv}}', {REQUIRED}}}",
    "factory with the class in its name": (
        f"'{{name}}#{{kind}}': {{type: '${{globals:package}}.CSVDataset', {REQUIRED}, metadata: '{{kind}}'}}"
    ),
    "braces in the caller's text": f"a: {{type: pandas.CSVDataset, {REQUIRED}, metadata: '${{runtime_params:braces}}'}}",
    "braces in the caller's text, in a factory": (
        f"'{{name}}#made': {{type: pandas.CSVDataset, {REQUIRED}, metadata: ['${{runtime_params:braces}}', "
        "'${runtime_params:nothing}{name}']}"
    ),
    "resolver": f"a: {{type: '${{lower:pandas.CSVDataset}}', {REQUIRED}}}",
}


@pytest.mark.parametrize("kind", [OmegaConfigLoader, Subclass])
@pytest.mark.parametrize("catalog", SOUND.values(), ids=SOUND)
def test_sound_catalog_is_taken_whatever_it_requires(
    tmp_path: Path, catalog: str, kind: type[AbstractConfigLoader]
) -> None:
    options = {"custom_resolvers": {"lower": str}} if "lower:" in catalog else {}
    for region in ("eu", "us"):
        params = {"region": region, "suffix": ".csv", "unused": "canary.Dataset"}
        params |= {"braces": "{name}", "nothing": ""}
        assert datasets_of(tmp_path, catalog, params, kind, **options)


def test_class_is_asked_for_in_the_run_of_its_catalog_alone(tmp_path: Path) -> None:
    with pytest.raises(InterpolationResolutionError), classes_guarded():
        datasets_of(tmp_path, CHOSEN["type"], PARAMS, OmegaConfigLoader)
    assert parse_dataset_definition({"type": "canary.Dataset"})[0].__name__ == "Dataset"
