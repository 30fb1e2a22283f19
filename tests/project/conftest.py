"""What Kedro's configuration loader is given when a project is opened."""

from __future__ import annotations

import pytest
from kedro.config import omegaconf_config
from omegaconf import OmegaConf, base, grammar_parser

from kedro_flask_server.project.configuration.yaml_cache import parse_texts_once, parsed


@pytest.fixture
def parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each text parsed once, for a test."""
    monkeypatch.setattr(omegaconf_config, "OmegaConf", OmegaConf)  # to be put back
    monkeypatch.setattr(base, "parse", grammar_parser.parse)
    parse_texts_once()
    parsed.cache_clear()
