"""What is replaced of Kedro when a project is opened, for a test."""

from __future__ import annotations

import inspect

import pytest

from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.configuration.yaml_cache import parsed


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Kedro as it is, and put back afterwards what was there."""
    for each in kedro_patches.REPLACED:
        for path in each.paths:
            owner, name = kedro_patches._owner_of(path)
            found = getattr(owner, name)
            original = getattr(found, kedro_patches.ORIGINAL, found)
            is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
            monkeypatch.setattr(owner, name, staticmethod(original) if is_static else original)


@pytest.fixture
def parsing(unpatched: None) -> None:
    """Have each text parsed once, for a test."""
    kedro_patches.apply()
    parsed.cache_clear()
