"""The cache returns files only where nothing about them can have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from kedro_flask_server.project.configuration.cache import ConfigCache, ParsedFiles
from kedro_flask_server.project.configuration.files import View


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalog.yml").write_text("a: {type: x}\n")
    return tmp_path


class Reader:
    """Reads a folder through a cache, and counts how often Kedro reads."""

    def __init__(self, folder: Path) -> None:
        self.cache = ConfigCache()
        self.reads = 0
        self._folder = folder

    def read(self) -> dict[Path, DictConfig]:
        self.reads += 1
        paths = sorted(self._folder.glob("*.yml"))
        return {path: OmegaConf.create(path.read_text()) for path in paths}

    def files(self, check: Any = lambda files: None) -> ParsedFiles | None:
        return self.cache.files_in(
            str(self._folder), "key", view=View(), read=self.read, check=check
        )


def test_files_are_returned_after_two_reads_that_agree(folder: Path) -> None:
    reader = Reader(folder)
    assert [reader.files(), reader.files()] == [None, None]
    files = reader.files()
    assert files is not None
    assert files.raw == {"a": {"type": "x"}}
    assert reader.files() is files
    assert reader.reads == 2


def test_edit_is_parsed_and_new_file_is_read_by_kedro(folder: Path) -> None:
    reader = Reader(folder)
    for _ in range(3):
        reader.files()
    (folder / "catalog.yml").write_text("a: {type: y}\n")
    files = reader.files()
    assert files is not None
    assert files.raw == {"a": {"type": "y"}}
    (folder / "more.yml").write_text("b: 1\n")
    assert reader.files() is None
    assert reader.reads == 3


def test_files_that_kedro_refuses_are_not_returned(folder: Path) -> None:
    def refuse(files: Any) -> None:
        raise ValueError("duplicate keys")

    reader = Reader(folder)
    assert [reader.files(refuse) for _ in range(4)] == [None] * 4


@pytest.mark.parametrize("text", ["- 1\n", "1: x\n", "a: ???\n", "a: [1\n", "a: \ufdd2\n"])
def test_files_that_cannot_be_split_are_not_returned(folder: Path, text: str) -> None:
    reader = Reader(folder)
    reader.files(), reader.files()
    (folder / "catalog.yml").write_text(text)
    assert reader.files() is None


def test_new_entries_are_reported(folder: Path) -> None:
    reader = Reader(folder)
    for expected in (True, True, True, False):
        reader.cache.has_new_entries = False
        reader.files()
        assert reader.cache.has_new_entries is expected


def test_copy_of_files_is_the_callers_own(folder: Path) -> None:
    files = ParsedFiles({folder / "catalog.yml": {"a": [1]}})
    files.fresh()[folder / "catalog.yml"].a[0] = 2
    assert files.fresh()[folder / "catalog.yml"].a[0] == 1
