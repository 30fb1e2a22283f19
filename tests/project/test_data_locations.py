"""Where the catalog says that datasets lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import CachedDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset

from kedro_flask_server.model.data_access import FoundAccess
from kedro_flask_server.project.data_locations import (
    config_of_catalog,
    find_access,
)


def same(data: Any) -> Any:
    return data


def access_of(catalog: DataCatalog, *nodes: Any, shared: tuple[str, ...] = ()) -> FoundAccess:
    return find_access(Pipeline(nodes), config_of_catalog(catalog), shared)


def location(config: dict[str, Any], **options: Any) -> str | None:
    """Return where a dataset of the catalog lies; None where that cannot be told."""
    catalog = DataCatalog.from_config({"it": config})
    found = access_of(catalog, node(same, "it", "out"), **options)
    if found.unknown:
        assert found.unknown == ("it",)
        return None
    return found.access.reads.get("it", "nowhere")


def json_at(path: object, **more: Any) -> dict[str, Any]:
    return {"type": "json.JSONDataset", "filepath": str(path), **more}


def test_local_path_is_of_its_machine_unless_it_is_shared(tmp_path: Path) -> None:
    own = location(json_at(tmp_path / "a.json"))
    assert own is not None
    machine = own.removeprefix("file://").removesuffix(f"{tmp_path}/a.json")
    assert machine
    assert "/" not in machine
    shared = location(json_at(tmp_path / "a.json"), shared=(str(tmp_path),))
    assert shared == f"file://{tmp_path}/a.json"
    beside = location(json_at(f"{tmp_path}2/a.json"), shared=(str(tmp_path),))
    assert beside == f"file://{machine}{tmp_path}2/a.json"


@pytest.mark.parametrize(
    "path", ["link/a.json", "x/../folder/a.json", "file.json", "folder//a.json"]
)
def test_paths_to_the_same_file_are_one(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "file.json").symlink_to(tmp_path / "folder/a.json")
    assert location(json_at(f"{tmp_path}/{path}")) == location(json_at(tmp_path / "folder/a.json"))


KINDS: list[tuple[dict[str, Any], str | None]] = [
    (json_at("s3://bucket/a.json"), "s3://bucket/a.json"),
    (json_at("simplecache::s3://bucket/a.json"), "s3://bucket/a.json"),
    (json_at("s3://bucket/a.json", versioned=True), "nowhere"),
    ({"type": "MemoryDataset"}, "nowhere"),
    ({"type": "CachedDataset", "dataset": json_at("s3://bucket/a.json")}, "s3://bucket/a.json"),
    (
        {"type": "partitions.PartitionedDataset", "path": "s3://bucket/parts", "dataset": "x.Y"},
        "s3://bucket/parts",
    ),
    (
        {
            "type": "pandas.SQLTableDataset",
            "table_name": "sales",
            "credentials": {"con": "postgresql://user:canary@host:5432/db?sslmode=require"},
            "load_args": {"schema": "public"},
        },
        "table://postgresql:host:5432/db/public/sales",
    ),
    ({"type": "ibis.TableDataset", "table_name": "sales", "database": "db"}, "table://db/sales"),
    ({"type": "spark.SparkHiveDataset", "table": "sales", "database": "db"}, "table://db/sales"),
    ({"type": "pandas.SQLQueryDataset", "sql": "SELECT 1", "credentials": {"con": "x"}}, None),
    ({"type": "api.APIDataset", "url": "https://example.com"}, None),
]


@pytest.mark.parametrize(("config", "expected"), KINDS)
def test_each_kind_of_dataset_has_its_place(config: dict[str, Any], expected: str | None) -> None:
    assert location(config) == expected


def test_tables_of_connections_that_are_mappings_differ() -> None:
    tables = [
        location({"type": "ibis.TableDataset", "table_name": "t", "connection": {"host": host}})
        for host in ("a", "b", "a")
    ]
    assert tables[0] != tables[1]
    assert tables[0] == tables[2]
    assert "host" not in str(tables[0])


def test_what_is_written_or_confirmed_is_no_reading() -> None:
    catalog = DataCatalog.from_config(
        {name: json_at(f"s3://bucket/{name}") for name in ("first", "second", "third", "queue")}
    )
    access = access_of(
        catalog,
        node(same, "first", "second", name="a"),
        node(same, "second", "third", name="b"),
        node(same, "queue", "nothing", confirms="queue", name="c"),
    ).access
    assert {*access.reads} == {"first"}
    assert {*access.writes} == {"second", "third", "queue"}


def test_parameters_and_what_the_catalog_does_not_know_lie_nowhere() -> None:
    catalog = DataCatalog({"parameters": MemoryDataset({}), "params:x": MemoryDataset(1)})
    found = access_of(catalog, node(lambda *_: 1, ["params:x", "parameters"], "unknown", name="a"))
    assert found == FoundAccess(access=found.access)
    assert not found.access.reads
    assert not found.access.writes


def test_patterns_are_resolved_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    catalog = DataCatalog.from_config(
        {"{a}_of_{b}": json_at("s3://bucket/{b}/{a}"), "{any}": json_at("s3://bucket/{any}")}
    )
    access = access_of(catalog, node(same, "x_of_y", "other")).access
    assert access.reads == {"x_of_y": "s3://bucket/y/x"}
    assert access.writes == {"other": "s3://bucket/other"}
    assert "x_of_y" not in catalog._datasets
    assert not caplog.records


def test_dataset_that_a_hook_puts_into_the_catalog_is_found(tmp_path: Path) -> None:
    catalog = DataCatalog.from_config({"it": json_at("s3://bucket/it")})
    catalog["it"] = CachedDataset(JSONDataset(filepath=f"{tmp_path}/it.json"))
    access = access_of(catalog, node(same, "it", "out")).access
    assert access.reads["it"].endswith(f"{tmp_path}/it.json")


def test_place_is_bounded_and_different_from_all_others() -> None:
    long = [location(json_at(f"s3://bucket/{'x' * 900}/{name}")) for name in "ab"]
    assert long[0] != long[1]
    assert all(each is not None and len(each) < 600 for each in long)
