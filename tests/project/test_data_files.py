"""The state of datasets' files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from kedro.io import CachedDataset, MemoryDataset
from kedro.io.core import Version
from kedro_datasets.json import JSONDataset
from kedro_datasets.partitions import PartitionedDataset

from kedro_flask_server.project import data_files
from kedro_flask_server.project.data_files import rows_of, state_of


def test_state_of_a_file_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    dataset = JSONDataset(filepath=str(path))
    assert state_of(dataset, is_saved=True) == {}
    dataset.save([1])
    before = state_of(dataset, is_saved=True)
    assert before["size_bytes"] == path.stat().st_size
    assert state_of(CachedDataset(dataset), is_saved=False) == before
    os.utime(path, ns=(0, time.time_ns()))
    after = state_of(dataset, is_saved=True)
    assert after["size_bytes"] == before["size_bytes"]
    assert after["etag"] != before["etag"]


def test_state_of_a_folder_is_that_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PartitionedDataset(path=str(tmp_path / "parts"), dataset="json.JSONDataset")
    dataset.save({"a": [1], "b": [2, 3]})
    before = state_of(dataset, is_saved=True)
    files = [each for each in (tmp_path / "parts").rglob("*") if each.is_file()]
    assert before["size_bytes"] == sum(each.stat().st_size for each in files)
    (tmp_path / "parts/CHECKPOINT").write_text("b")  # as of an IncrementalDataset
    assert state_of(dataset, is_saved=True)["etag"] == before["etag"]
    dataset.save({"c": [4]})
    assert state_of(dataset, is_saved=True)["etag"] != before["etag"]
    monkeypatch.setattr(data_files, "_MAX_FILES", 2)
    assert state_of(dataset, is_saved=True) == {}


def test_state_of_a_version_is_that_of_the_one_that_is_meant(tmp_path: Path) -> None:
    path = str(tmp_path / "m.json")
    JSONDataset(filepath=path, version=Version(None, "1")).save([1, 2, 3])
    dataset = JSONDataset(filepath=path, version=Version("1", "2"))
    assert state_of(dataset, is_saved=True) == {}
    dataset.save([1])
    loaded, saved = (state_of(dataset, is_saved=each)["size_bytes"] for each in (False, True))
    assert loaded > saved


def test_file_elsewhere_is_looked_up_in_its_file_system() -> None:
    dataset = JSONDataset(filepath="memory://bucket/a.json")
    dataset.save([1, 2])
    assert state_of(dataset, is_saved=True)["size_bytes"] > 0
    known = data_files._remote({"size": 3, "ETag": '"abc"', "LastModified": None})
    assert known == {"size_bytes": 3, "etag": "abc"}


def test_data_in_memory_has_no_state() -> None:
    assert state_of(MemoryDataset([1]), is_saved=True) == {}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pandas.DataFrame({"a": [1, 2]}), 2),
        (numpy.zeros((3, 2)), 3),
        (numpy.float64(1), None),
        ([1, 2], None),
        (None, None),
    ],
)
def test_tables_know_their_rows(data: Any, expected: int | None) -> None:
    assert rows_of(data) == expected
