"""How preloaded data is passed to calls."""

from __future__ import annotations

from kedro.io import DataCatalog, MemoryDataset

from kedro_flask_server.project.prepared_pipeline import _copy_mode, _copy_of, _digest


def test_copy_of_a_catalog_takes_nothing_from_it() -> None:
    catalog = DataCatalog({"model": MemoryDataset([1])})
    copied = _copy_of(catalog)
    copied["rows"] = MemoryDataset([2])
    del copied._datasets["model"]
    assert [*catalog.keys()] == ["model"]
    assert copied.load("rows") == [2]


def test_catalog_says_how_data_is_copied() -> None:
    said = {"metadata": {"kedro-flask-server": {"copy_mode": "deepcopy"}}}
    assert _copy_mode(None) == _copy_mode({"type": "pickle.PickleDataset"}) == "assign"
    assert _copy_mode(said) == "deepcopy"
    assert _copy_mode({"type": "MemoryDataset", "copy_mode": "copy"}) == "copy"


def test_digest_tells_what_has_changed() -> None:
    data = {"seen": []}
    before = _digest(data)
    assert before == _digest(data) != ""
    data["seen"].append(1)
    assert _digest(data) != before
    assert _digest(lambda: None) == ""
