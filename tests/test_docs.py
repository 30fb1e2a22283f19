"""The pages and the files beside them say the same, and are read as they are."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted([*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md"])

_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as its repository's site makes them."""
    kept = (re.sub(r"[^\w\- ]", "", each.lower()) for each in _HEADING.findall(page.read_text()))
    return {each.replace(" ", "-") for each in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_readable_without_sphinx(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"^```\{|^\([\w-]+\)=$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_file_on_a_page_is_the_one_that_is_tested(page: Path) -> None:
    shown = re.findall(r"<!-- (\S+) -->\n\n```\w+\n(.*?)```\n", page.read_text(), re.DOTALL)
    for name, text in shown:
        assert text == (page.parent / name).read_text(), name


def test_every_page_is_in_the_index_and_in_the_contents() -> None:
    index = (REPOSITORY / "docs/index.md").read_text()
    contents = (REPOSITORY / "docs/contents.rst").read_text()
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.stem == "index" or f"({page.name})" in index
        assert f"   {page.stem}\n" in contents


def test_one_page_says_how_to_install_it() -> None:
    pattern = re.compile(r"pip install [^\n]*kedro-flask-server")
    saying = [page.name for page in PAGES if pattern.search(page.read_text())]
    assert set(saying) <= {"quickstart.md", "recipes.md"}  # the latter by a wheel's address


def test_test_command_runs_on_each_supported_python() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    environments = re.split(r"[,\s]+", tox["tox"]["env_list"].strip())
    project = (REPOSITORY / "pyproject.toml").read_text()
    supported = re.findall(r"Programming Language :: Python :: (3)\.(\d+)", project)
    assert {f"py{major}{minor}" for major, minor in supported} <= set(environments)
    # What depends on no version runs on the one that is there, whichever that is.
    for name in ("once", "airflow, prefect", "plugins", "ratios"):
        section = f"testenv:{{{name}}}" if "," in name else f"testenv:{name}"
        assert "base_python" not in tox[section]
