"""Settings: four ways to be set, one definition each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import (
    ServerConfig,
    default_workers,
    settings,
    unknown_pipelines,
    variables_of,
)
from kedro_flask_server.config.sources import load_config, resolve_project_path
from kedro_flask_server.errors import ServerSettingsError


def load(tmp_path: Path, arguments=None, environ=None, project=None) -> ServerConfig:
    return load_config(
        tmp_path,
        arguments=arguments or {},
        environ=environ or {},
        project_settings=project or {},
    )


def test_defaults_are_kedros(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.host, config.port) == ("127.0.0.1", 8000)
    assert (config.env, config.conf_source) == (None, None)
    assert 1 <= config.workers == default_workers() <= 4


def test_argument_counts_more_than_environment_than_project(tmp_path: Path) -> None:
    environ = {"KEDRO_SERVER_PORT": "2", "KEDRO_SERVER_WORKERS": "2"}
    project = {"port": 3, "workers": 3, "max_waiting": 3}
    config = load(tmp_path, {"port": 1, "workers": None}, environ, project)
    assert (config.port, config.workers, config.max_waiting) == (1, 2, 3)


def test_env_falls_back_to_kedro_env(tmp_path: Path) -> None:
    both = {"KEDRO_ENV": "b", "KEDRO_SERVER_ENV": "a"}
    assert load(tmp_path, environ=both).env == "a"
    assert load(tmp_path, environ={"KEDRO_ENV": "b"}).env == "b"
    assert load(tmp_path, environ={"KEDRO_ENV": "b", "KEDRO_SERVER_ENV": ""}).env == "b"


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


def test_bad_value_says_where_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(ServerSettingsError, match="KEDRO_SERVER_PORT"):
        load(tmp_path, environ={"KEDRO_SERVER_PORT": "x"})
    with pytest.raises(ServerSettingsError, match="SERVER"):
        load(tmp_path, project={"port": "x"})


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ({"arguments": {"wokers": 1}}, "'wokers'"),
        ({"environ": {"KEDRO_SERVER_WOKERS": "1"}}, "'KEDRO_SERVER_WOKERS'"),
        ({"project": {"wokers": 1}}, "'wokers'"),
    ],
)
def test_unknown_name_is_refused_with_the_close_one(tmp_path: Path, where, shown: str) -> None:
    with pytest.raises(ServerSettingsError, match="Did you mean 'workers'") as caught:
        load(tmp_path, **where)
    assert shown in str(caught.value)


def test_what_kubernetes_puts_into_the_environment_is_no_setting(tmp_path: Path) -> None:
    environ = {
        "KEDRO_SERVER_SERVICE_HOST": "10.0.0.1",
        "KEDRO_SERVER_SERVICE_PORT": "80",
        "KEDRO_SERVER_SERVICE_PORT_HTTP": "80",
        "KEDRO_SERVER_PORT": "tcp://10.0.0.1:80",
        "KEDRO_SERVER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "KEDRO_SERVER_PORT_80_TCP_ADDR": "10.0.0.1",
        "KEDRO_SERVER_CANARY_SERVICE_HOST": "10.0.0.1",
        "KEDRO_SERVER_CANARY_PORT": "tcp://10.0.0.1:80",
        "KEDRO_SERVER_CANARY_PORT_80_TCP": "tcp://10.0.0.1:80",
    }
    assert load(tmp_path, environ=environ).port == 8000


def test_conf_source_is_made_absolute_and_a_url_is_kept(tmp_path: Path) -> None:
    relative = os.path.relpath(tmp_path)
    assert load(tmp_path, {"conf_source": relative}).conf_source == str(tmp_path)
    assert load(tmp_path, {"conf_source": tmp_path}).conf_source == str(tmp_path)
    assert load(tmp_path, {"conf_source": "s3://bucket/conf"}).conf_source == "s3://bucket/conf"


def test_conf_source_of_the_project_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "own_conf").mkdir()
    config = load(tmp_path, project={"conf_source": "own_conf"})
    assert config.conf_source == str(tmp_path / "own_conf")


def test_project_path_comes_from_argument_then_environment(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    environ = {"KEDRO_PROJECT_PATH": str(other)}
    assert resolve_project_path(tmp_path, environ) == tmp_path
    assert resolve_project_path(None, environ) == other


@pytest.mark.parametrize("given", [None, "", "no/such/folder", __file__])
def test_project_path_must_be_a_folder(given: str | None) -> None:
    with pytest.raises(ServerSettingsError, match="KEDRO_PROJECT_PATH"):
        resolve_project_path(given, {})


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
