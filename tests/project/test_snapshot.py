"""A fingerprint changes with what it is of, and not otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kedro_flask_server.project.snapshot import changed_since, fingerprint_of, sources_in


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "base/inner").mkdir(parents=True)
    (tmp_path / "local").mkdir()
    (tmp_path / "base/catalog.yml").write_text("a: 1\n")
    (tmp_path / "base/inner/parameters.json").write_text('{"b": 1}')
    (tmp_path / "local/notes.txt").write_text("n")
    (tmp_path / "nodes.py").write_text("x = 1\n")
    return tmp_path


def fingerprint(project: Path) -> str | None:
    return fingerprint_of([project / "base", project / "local"], [project / "nodes.py"])


def _same_size_and_time(project: Path) -> None:
    file = project / "base/catalog.yml"
    before = file.stat()
    file.write_text("a: 2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap(project: Path) -> None:
    """Have two files' contents change places, as one text after the other they are the same."""
    (project / "base/catalog.yml").write_text("a: 1\n" + '{"b": 1}')
    (project / "base/inner/parameters.json").write_text("")


EDITS: dict[str, Callable[[Path], object]] = {
    "same size and time": _same_size_and_time,
    "from one file to the next": _swap,
    "new file": lambda project: (project / "local/globals.yaml").touch(),
    "new folder": lambda project: (project / "local/catalog").mkdir(),
    "removed file": lambda project: (project / "base/catalog.yml").unlink(),
    "renamed file": lambda project: (project / "base/catalog.yml").rename(project / "base/c.yml"),
    "to the other folder": lambda project: (project / "base/catalog.yml").rename(
        project / "local/catalog.yml"
    ),
    "size of a source": lambda project: (project / "nodes.py").write_text("x = 10\n"),
    "time of a source": lambda project: os.utime(project / "nodes.py", (1, 1)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_edit_changes_it(project: Path, edit: Callable[[Path], object]) -> None:
    before = fingerprint(project)
    assert before is not None
    edit(project)
    assert fingerprint(project) not in {before, None}


def test_what_changes_nothing_leaves_it(project: Path) -> None:
    before = fingerprint(project)
    os.utime(project / "base/catalog.yml", (1, 1))
    (project / "base/catalog.yml").write_text("a: 1\n")
    (project / "local/notes.txt").write_text("others")
    _ = (project / "nodes.py").read_text()
    assert fingerprint(project) == before


def test_another_process_finds_the_same(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; p = Path(sys.argv[1])\n"
        "from kedro_flask_server.project.snapshot import fingerprint_of\n"
        "print(fingerprint_of([p / 'base', p / 'local'], [p / 'nodes.py']))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, project],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split()[-1] == fingerprint(project)


def test_what_cannot_be_read_has_none(project: Path) -> None:
    assert fingerprint_of([project / "none"], []) is None
    assert fingerprint_of([project / "base"], [project / "none.py"]) is None
    (project / "base/large.yml").write_bytes(b"#" * 1_000_000)
    assert fingerprint(project) is None
    (project / "base/large.yml").unlink()
    assert fingerprint(project) is not None
    (project / "base/dangling.yml").symlink_to(project / "none")
    assert fingerprint(project) is None


def test_more_than_is_read_in_a_moment_has_none(project: Path) -> None:
    for number in range(6):
        (project / f"base/{number}.yml").write_bytes(b"#" * 900_000)
    assert fingerprint(project) is None


def test_change_within_the_granularity_of_times_counts(project: Path) -> None:
    source, now_ns = project / "nodes.py", time.time_ns()
    for age_ns, has_changed in ((5 * 10**9, False), (10**9 // 2, True), (-(10**9), True)):
        os.utime(source, ns=(now_ns - age_ns, now_ns - age_ns))
        assert changed_since([source], now_ns) is has_changed
    assert changed_since([project / "none.py"], now_ns)
    assert not changed_since([], now_ns)


def test_sources_are_each_file_that_a_snapshot_shows_once() -> None:
    nodes = [{"source": {"filepath": "b.py"}}, {"source": None}, {}, {"source": {"filepath": "a"}}]
    snapshot = {"pipelines": [{"nodes": nodes}, {"nodes": nodes}]}
    assert sources_in(snapshot, Path("/p")) == [Path("/p/a"), Path("/p/b.py")]
