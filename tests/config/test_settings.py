"""Settings: five ways to be set, one definition each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import (
    default_workers,
    settings,
    unknown_pipelines,
    variables_of,
)
from kedro_flask_server.errors import ServerSettingsError
from tests.config import load


def test_defaults_are_kedros(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.host, config.port) == ("127.0.0.1", 8000)
    assert (config.env, config.conf_source) == (None, None)
    assert 1 <= config.workers == default_workers() <= 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65_536),
        ("port", "eighty"),
        ("port", True),
        ("port", 80.5),
        ("workers", 0),
        ("workers", "1.5"),
        ("workers", 129),
        ("max_waiting", 257),
        ("conf_source", "~no-such-user/conf"),
        ("conf_source", "x" * 5_000),
        ("workers", []),
        ("max_waiting", -1),
        ("drain_timeout_s", -0.1),
        ("drain_timeout_s", "nan"),
        ("drain_timeout_s", float("inf")),
        ("drain_timeout_s", "soon"),
        ("max_body_bytes", 0),
        ("host", ""),
        ("host", 1),
        ("env", 1),
        ("conf_source", "no/such/folder"),
        ("conf_source", ""),
    ],
)
def test_bad_value_is_named_with_what_is_allowed(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ServerSettingsError) as caught:
        load(tmp_path, {name: value})
    message = str(caught.value)
    setting = next(each for each in settings() if each.name == name)
    assert name in message
    assert repr(value) in message
    assert setting.metadata["allowed"] in message


def test_conf_source_is_made_absolute_and_a_url_is_kept(tmp_path: Path) -> None:
    relative = os.path.relpath(tmp_path)
    assert load(tmp_path, {"conf_source": relative}).conf_source == str(tmp_path)
    assert load(tmp_path, {"conf_source": tmp_path}).conf_source == str(tmp_path)
    assert load(tmp_path, {"conf_source": "s3://bucket/conf"}).conf_source == "s3://bucket/conf"


def test_every_setting_has_its_line_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    for setting in settings():
        for variable in variables_of(setting):
            assert f"`{variable}`" in page
        assert f"| `{setting.name}` |" in page
        assert setting.metadata["meaning"] in page


def test_pipelines_that_settings_name_are_compared_with_those_that_there_are(
    tmp_path: Path,
) -> None:
    config = load(tmp_path, arguments={"concurrency": {"train": 1}, "run_timeout_s": {"scor": 5}})
    assert unknown_pipelines(config, None) is None
    assert unknown_pipelines(config, ["train", "scor"]) is None
    assert unknown_pipelines(config, ["train", "score"]) == (
        "Setting 'run_timeout_s' names 'scor', and the project has no such pipeline. Its pipelines "
        "are: score, train."
    )
    assert "'concurrency' names 'train'" in str(unknown_pipelines(config, []))
