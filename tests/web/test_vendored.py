"""The browser files of others that the package ships: which they are, and under which licence."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from kedro_flask_server.web.docs import ASSET_FOLDERS

REPOSITORY = Path(__file__).parents[2]
VENDOR = Path(str(files("kedro_flask_server.web"))) / "static" / "vendor"

_ROW = re.compile(r"^\| ([\w-]+) \| (\S+) \| (\d[\w.-]*) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
ROWS = _ROW.findall((VENDOR / "README.md").read_text(encoding="utf-8"))


def test_readme_says_the_versions_that_are_locked() -> None:
    package = json.loads((REPOSITORY / "package.json").read_text(encoding="utf-8"))
    locked = json.loads((REPOSITORY / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    said = {name: version for _folder, name, version, _names in ROWS}
    assert said == package["dependencies"]
    assert said == {name: locked[f"node_modules/{name}"]["version"] for name in said}


def test_readme_names_each_folder() -> None:
    there = {path.name for path in VENDOR.iterdir() if path.is_dir()}
    assert {folder for folder, _name, _version, _names in ROWS} == there


@pytest.mark.parametrize(("folder", "names"), [(row[0], row[3]) for row in ROWS])
def test_folder_has_its_licence_and_what_the_readme_names(folder: str, names: str) -> None:
    there = {path.name for path in (VENDOR / folder).iterdir()}
    assert there == set(re.findall(r"`([^`]+)`", names))
    assert "LICENSE" in there


def test_no_file_refers_to_a_source_map() -> None:
    code = [*VENDOR.glob("*/*.js"), *VENDOR.glob("*/*.css")]
    assert code
    assert [path.name for path in code if "sourceMappingURL" in path.read_text("utf-8")] == []


def test_page_of_the_reference_refers_to_files_that_exist() -> None:
    page = (VENDOR.parents[1] / "templates" / "docs.html").read_text(encoding="utf-8")
    referred = re.findall(r'(?:href|src)="docs/([\w-]+)/([^"]+)"', page)
    assert {folder for folder, _name in referred} == set(ASSET_FOLDERS)
    assert [name for folder, name in referred if not (ASSET_FOLDERS[folder] / name).is_file()] == []
