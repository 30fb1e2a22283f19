"""A listing has all that is in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kedro_flask_server.project.configuration import files
from kedro_flask_server.project.configuration.files import View, bytes_in, listing_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner/deep").mkdir(parents=True)
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "a.yml").write_text("a: 1")
    (tmp_path / "inner/deep/b.yml").write_text("b: 1")
    return tmp_path


def test_listing_has_every_path_and_whether_it_is_a_folder(folder: Path) -> None:
    expected = {".hidden": False, "a.yml": False, "inner": True, "inner/deep": True}
    expected["inner/deep/b.yml"] = False
    assert dict(listing_of(str(folder)) or ()) == {
        str(folder / name): is_folder for name, is_folder in expected.items()
    }


def test_listing_is_the_same_until_something_comes_or_goes(folder: Path) -> None:
    file = folder / "inner/deep/b.yml"
    seen = [listing_of(str(folder))]
    assert listing_of(str(folder)) == seen[0]
    file.write_text("other")
    assert listing_of(str(folder)) == seen[0]
    for change in (
        lambda: file.rename(file.with_name("c.yml")),
        (folder / "inner/new").touch,
        lambda: (folder / "inner/new").unlink() or (folder / "inner/new").mkdir(),
        (folder / "a.yml").unlink,
    ):
        change()
        seen.append(listing_of(str(folder)))
    assert len({frozenset(each or ()) for each in seen}) == len(seen)


def test_folder_that_is_not_there_or_too_full_has_no_listing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listing_of(str(folder / "none")) is None
    assert listing_of(str(folder / "a.yml")) is None
    monkeypatch.setattr(files, "_MAX_ENTRIES", 4)
    assert listing_of(str(folder)) is None


def test_link_to_a_folder_above_ends(folder: Path) -> None:
    (folder / "inner/up").symlink_to(folder)
    assert listing_of(str(folder)) is None or len(listing_of(str(folder)) or ()) < 2_000


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 999_999])
def test_bytes_are_all_that_are_in_a_file(tmp_path: Path, size: int) -> None:
    data = (os.urandom(1000) * 1000)[:size]
    (tmp_path / "file").write_bytes(data)
    assert bytes_in(str(tmp_path / "file")) == data


def test_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\r\nb\n\x1a\x00")
    assert bytes_in(str(tmp_path / "file")) == b"a\r\nb\n\x1a\x00"


def test_file_that_is_no_file_or_too_large_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    for name in ("large", "none", "."):
        assert bytes_in(str(tmp_path / name)) is None


def test_view_shows_one_state_and_another_view_the_next(folder: Path) -> None:
    view, path = View(), str(folder / "a.yml")
    listing, data = view.listing_of(str(folder)), view.bytes_in(path)
    (folder / "a.yml").write_text("a: 2")
    (folder / "c.yml").write_text("c: 3")
    assert (view.listing_of(str(folder)), view.bytes_in(path)) == (listing, data)
    assert View().listing_of(str(folder)) == listing_of(str(folder)) != listing
    assert View().bytes_in(path) == b"a: 2"


def test_view_remembers_that_something_was_not_there(folder: Path) -> None:
    view, path = View(), str(folder / "new.yml")
    assert view.bytes_in(path) is None
    Path(path).write_text("n: 1")
    assert view.bytes_in(path) is None
    assert View().bytes_in(path) == b"n: 1"


def test_view_is_fresh_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    view = View()
    assert view.is_fresh
    now[0] += files._FRESH_S
    assert not view.is_fresh
