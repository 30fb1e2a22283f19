"""What executes code when it is read is on no list, and what is on the list reads no other file."""

from __future__ import annotations

import importlib
import pkgutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kedro_datasets
import pandas as pd
import pytest
from kedro.io.core import AbstractDataset
from kedro_datasets.pandas import CSVDataset, ExcelDataset, GenericDataset, ParquetDataset
from PIL import Image

from kedro_flask_server.project.exchange.native import FORMATS, format_of, read
from kedro_flask_server.project.exchange.run_exchange import _Transcoded

EXECUTE = ("pickle", "joblib", "hdf", "torch", "tensorflow", "xml", "spark", "dask", "matlab")


def all_classes() -> Iterator[type[AbstractDataset[Any, Any]]]:
    """Return every dataset class of kedro-datasets that can be imported here."""
    for found in pkgutil.walk_packages(kedro_datasets.__path__, "kedro_datasets."):
        try:
            module = importlib.import_module(found.name)
        except Exception:  # what it needs is not installed
            continue
        for value in vars(module).values():
            # In Python 3.10, list[int] is a class, too.
            is_class = isinstance(value, type) and not hasattr(value, "__origin__")
            if is_class and issubclass(value, AbstractDataset) and value.__module__ == found.name:
                yield value


def test_every_class_is_refused_but_for_those_on_the_list() -> None:
    classes = {*all_classes()}
    assert len(classes) > 15
    for each in classes:
        path = f"{each.__module__}.{each.__qualname__}"
        for file_format in (None, "csv", "parquet", "pickle", "hdf", "xml", "html", "stata", "sas"):
            found = format_of(each, {"file_format": file_format} if file_format else {})
            if any(word in path.lower() or word == file_format for word in EXECUTE):
                assert found is None, (path, file_format)
            assert (found is not None) == ((path, file_format) in FORMATS) or "Excel" in path


class Inherited(CSVDataset):
    """A subclass of one that is on the list."""


@pytest.mark.parametrize(
    ("dataset_class", "arguments"),
    [
        (Inherited, {}),
        (GenericDataset, {"file_format": "pickle"}),
        (GenericDataset, {"file_format": ["csv"]}),
        (GenericDataset, {}),
        (ExcelDataset, {}),
        (CSVDataset, {"load_args": {"compression": "zip"}}),
        (CSVDataset, {"load_args": {"chunksize": 1}}),
        (CSVDataset, {"load_args": {"storage_options": {}}}),
        (CSVDataset, {"load_args": {"converters": {}}}),
        (CSVDataset, {"load_args": {"sep": print}}),
        (ParquetDataset, {"load_args": {"filesystem": 1}}),
        (None, {}),
    ],
)
def test_option_class_or_format_that_is_not_named_is_refused(
    dataset_class: Any, arguments: dict[str, Any]
) -> None:
    assert format_of(dataset_class, arguments) is None


def test_own_file_credentials_and_versions_are_left_out(tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a\n01\n")
    arguments = {
        "filepath": "s3://elsewhere/a.csv",
        "credentials": {"key": "secret"},
        "version": "x",
        "fs_args": {"open_args_load": {"mode": "nonsense"}},
        "load_args": {"dtype": {"a": str}},
    }
    found = format_of(CSVDataset, arguments)
    assert found is not None
    assert read(CSVDataset, arguments, found, given)["a"].tolist() == ["01"]


def test_workbooks_are_read_if_allowed_and_bounded(tmp_path: Path) -> None:
    book = tmp_path / "a.xlsx"
    pd.DataFrame({"a": [1]}).to_excel(book, index=False)
    found = format_of(ExcelDataset, {}, allows_excel=True)
    assert found is not None
    assert read(ExcelDataset, {}, found, book)["a"].tolist() == [1]
    with zipfile.ZipFile(book, "a") as archive:
        archive.writestr("xl/externalLinks/externalLink1.xml", "<a/>")
    with pytest.raises(ValueError, match="links"):
        read(ExcelDataset, {}, found, book)


def test_files_that_explode_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet, book, image = (tmp_path / name for name in ("a.parquet", "a.xlsx", "a.png"))
    pd.DataFrame({"a": ["x" * 100] * 10_000}).to_parquet(parquet)
    pd.DataFrame({"a": ["x"] * 1_000}).to_excel(book, index=False)
    Image.new("RGB", (200, 200)).save(image)
    exchange = "kedro_flask_server.project.exchange"
    monkeypatch.setattr(f"{exchange}.bounds.MAX_DECODED_BYTES", 1_000)
    monkeypatch.setattr(f"{exchange}.native._MAX_PIXELS", 1_000)
    image_class = importlib.import_module("kedro_datasets.pillow").ImageDataset
    for dataset_class, path in (
        (ParquetDataset, parquet),
        (ExcelDataset, book),
        (image_class, image),
    ):
        found = format_of(dataset_class, {}, allows_excel=True)
        assert found is not None
        with pytest.raises(ValueError, match=r"more than|larger than"):
            read(dataset_class, {}, found, path)


def test_transcoded_data_stays_until_the_run_has_ended() -> None:
    dataset = _Transcoded([1])
    dataset.release()
    assert dataset.load() == [1]
