"""Where settings are looked up, and which of the places counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.config.sources import resolve_project_path
from kedro_flask_server.errors import ServerSettingsError
from tests.config import load


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


@pytest.mark.parametrize("value", [[("workers", 2)], "workers=2", 7])
def test_settings_of_the_project_are_a_mapping(tmp_path: Path, value: object) -> None:
    with pytest.raises(ServerSettingsError, match=r"SERVER in settings\.py cannot be"):
        load(tmp_path, project=value)


def test_paths_of_the_project_are_relative_to_it_and_those_of_arguments_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    environ = {"KEDRO_SERVER_STATE_DIR": "state"}
    assert load(tmp_path, project={"state_dir": "state"}).state_dir == str(tmp_path / "state")
    assert load(tmp_path, {"state_dir": "state"}).state_dir == str(elsewhere / "state")
    assert load(tmp_path, environ=environ).state_dir == str(elsewhere / "state")
    assert load(tmp_path, project={"env": "prod"}).env == "prod"  # which is no path


def test_conf_source_of_the_project_behind_a_url_is_no_path(tmp_path: Path) -> None:
    config = load(tmp_path, project={"conf_source": "s3://bucket/conf"})
    assert config.conf_source == "s3://bucket/conf"


def test_none_of_the_project_and_empty_variables_are_not_given(tmp_path: Path) -> None:
    config = load(tmp_path, environ={"KEDRO_SERVER_PORT": ""}, project={"port": None})
    assert config.port == 8000


def test_settings_of_the_client_are_none_of_the_servers(tmp_path: Path) -> None:
    environ = {"KEDRO_SERVER_URL": "http://x", "KEDRO_SERVER_API_KEY": "kfs_secret"}
    assert load(tmp_path, environ=environ) == load(tmp_path)


def test_value_that_may_be_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ServerSettingsError, match="cannot be what it is") as caught:
        load(tmp_path, {"database_url": 1234567})
    assert "1234567" not in str(caught.value)
