"""Whose code is executed: the project's own, or an installed library's."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import kedro
import pytest

from kedro_flask_server.origins import (
    InstalledOnly,
    OwnModuleError,
    is_installed,
    is_installed_module,
)

LIBRARY = """
try:
    import own_part
except ImportError:
    own_part = None
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a project's folder with a virtual environment in it."""
    library = tmp_path / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    (library / "plain_library.py").touch()
    (library / "curious_library.py").write_text(LIBRARY)
    (tmp_path / "own_part.py").write_text("EXECUTED = True")
    (tmp_path / "own_scripts").mkdir()
    (tmp_path / "own_scripts" / "job.py").touch()
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_is_installed_is_told_from_the_projects_own(modules: Path) -> None:
    for name, expected in [
        ("plain_library", True),
        ("own_part", False),
        ("own_scripts", False),
        ("own_scripts.job", False),
    ]:
        assert is_installed_module(importlib.import_module(name)) is expected, name
    for module in (kedro, logging, sys, importlib.import_module("kedro_flask_server.origins")):
        assert is_installed_module(module)
    assert is_installed("<frozen os>")
    assert not is_installed(__file__)


@pytest.mark.parametrize("name", ["own_part", "own_scripts.job", "curious_library"])
def test_nothing_of_the_projects_is_imported_ahead(modules: Path, name: str) -> None:
    with InstalledOnly() as installed:
        importlib.import_module("plain_library")
        with pytest.raises(OwnModuleError):
            importlib.import_module(name)
    assert installed.refused in ("own_part", "own_scripts")
    assert "own_part" not in sys.modules
    importlib.import_module(name)


def test_what_is_not_there_is_missing_as_ever(modules: Path) -> None:
    with InstalledOnly() as installed, pytest.raises(ModuleNotFoundError):
        importlib.import_module("there_is_none")
    assert installed.refused is None
