"""The templates can be read, and use what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

import kedro_flask_server
from kedro_flask_server.web.pages.formats import FILTERS

FOLDER = Path(kedro_flask_server.__file__).parent / "web" / "templates"
NAMES = sorted(f"pages/{path.name}" for path in (FOLDER / "pages").glob("*.html"))


@pytest.mark.parametrize("name", NAMES)
def test_template_can_be_read(name: str) -> None:
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True)
    environment.filters.update(FILTERS)
    assert environment.get_template(name)
