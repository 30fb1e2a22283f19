"""What a settings file may hold, and what its references to credentials come to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kedro_flask_server.config.settings import settings
from kedro_flask_server.config.settings_file import SettingsFile
from kedro_flask_server.config.sources import load_config
from kedro_flask_server.errors import ServerSettingsError
from tests.config import load

URL = "postgresql://user:hunter2hunter2@host/name"


def file_with(values: Mapping[str, object], credentials: object = None) -> SettingsFile:
    places = {name: f"'server.yml', line {line}" for line, name in enumerate(values, 1)}
    return SettingsFile(
        values=values, places=places, credentials=lambda: {"runs_db": credentials, "other": 1}
    )


def test_file_counts_less_than_environment_and_more_than_project(tmp_path: Path) -> None:
    file = file_with({"port": 2, "workers": 2, "max_waiting": 2, "max_queued": None})
    project = {"workers": 3, "max_waiting": 3, "max_queued": 3}
    config = load(tmp_path, {"port": 1}, {"KEDRO_SERVER_WORKERS": "1"}, project, file)
    assert (config.port, config.workers, config.max_waiting, config.max_queued) == (1, 1, 2, 3)


def test_what_chooses_the_file_comes_from_the_other_sources(tmp_path: Path) -> None:
    asked = []

    def read_file(env: str | None, conf_source: str | None) -> SettingsFile:
        asked.append((env, conf_source))
        return file_with({"port": 2})

    config = load_config(
        tmp_path,
        arguments={},
        environ={"KEDRO_ENV": "prod"},
        read_file=read_file,
        project_settings={"conf_source": "."},
    )
    assert asked == [("prod", str(tmp_path))] == [(config.env, config.conf_source)]
    assert config.port == 2


def test_nested_values_are_as_they_are_written(tmp_path: Path) -> None:
    file = file_with(
        {
            "run_timeout_s": {"train": 3600},
            "concurrency": {"train": 1, "credentials": 2},  # a pipeline may be called so
            "allowed_hosts": ["kedro.example.com", ".internal"],
            "allow_anonymous": True,
        }
    )
    config = load(tmp_path, file=file)
    assert config.run_timeout_s == {"train": 3600}
    assert config.concurrency == {"train": 1, "credentials": 2}
    assert config.allowed_hosts == ("kedro.example.com", ".internal")
    assert config.allow_anonymous is True


def test_paths_are_relative_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "keys.yml").touch()
    config = load(tmp_path, file=file_with({"state_dir": "state", "api_keys_file": "keys.yml"}))
    assert config.state_dir == str(tmp_path / "state")
    assert config.api_keys_file == str(tmp_path / "keys.yml")


def test_bad_value_says_in_which_line_it_is(tmp_path: Path) -> None:
    with pytest.raises(ServerSettingsError, match=r"'x' \(given by 'server\.yml', line 2\)"):
        load(tmp_path, file=file_with({"workers": 1, "port": "x"}))


def test_unknown_name_says_in_which_line_it_is_with_the_close_one(tmp_path: Path) -> None:
    message = r"'wokers', given in 'server\.yml', line 2\. Did you mean 'workers'\?"
    with pytest.raises(ServerSettingsError, match=message):
        load(tmp_path, file=file_with({"port": 1, "wokers": None}))


@pytest.mark.parametrize("name", ["env", "conf_source", "project_path"])
def test_what_chooses_the_file_is_refused_in_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServerSettingsError, match=rf"'{name}' cannot .*'server\.yml', line 1"):
        load(tmp_path, file=file_with({name: "base"}))


@pytest.mark.parametrize("entry", [URL, {"url": URL, "pool": 5}])
def test_secret_is_looked_up_in_the_credentials(tmp_path: Path, entry: object) -> None:
    file = file_with({"database_url": {"credentials": "runs_db"}}, entry)
    assert load(tmp_path, file=file).database_url == URL
    assert load(tmp_path, file=file_with({"database_url": URL})).database_url == URL


@pytest.mark.parametrize("entry", [{"con": URL}, [URL], 5_432_543_254, None, {"url": [URL]}])
def test_credentials_without_a_text_are_refused_unseen(tmp_path: Path, entry: object) -> None:
    with pytest.raises(ServerSettingsError, match=r"'runs_db'.* a text as 'url'") as caught:
        load(tmp_path, file=file_with({"database_url": {"credentials": "runs_db"}}, entry))
    assert "hunter2" not in str(caught.value)
    assert "5432" not in str(caught.value)


def test_unknown_credentials_are_refused_with_the_close_ones(tmp_path: Path) -> None:
    with pytest.raises(ServerSettingsError, match=r"line 1.*none of that name\. .* 'runs_db'"):
        load(tmp_path, file=file_with({"database_url": {"credentials": "run_db"}}, URL))


@pytest.mark.parametrize("value", [{"credentials": 1}, {"credentials": "runs_db", "url": 1}])
def test_reference_of_another_form_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ServerSettingsError, match="'database_url' cannot be what it is"):
        load(tmp_path, file=file_with({"database_url": value}, URL))


def test_credentials_are_for_secrets_alone(tmp_path: Path) -> None:
    for setting in settings():
        if setting.metadata["is_secret"] or setting.name in ("env", "conf_source"):
            continue
        file = file_with({setting.name: {"credentials": "runs_db"}}, "8000")
        with pytest.raises(ServerSettingsError, match=r"only a setting .* secret .*database_url"):
            load(tmp_path, file=file)


def test_credentials_are_read_for_a_value_that_counts(tmp_path: Path) -> None:
    def fail() -> Mapping[str, object]:
        raise AssertionError

    value = {"database_url": {"credentials": "runs_db"}}
    file = SettingsFile(values=value, places={"database_url": "server.yml"}, credentials=fail)
    environ = {"KEDRO_SERVER_DATABASE_URL": URL}
    assert load(tmp_path, environ=environ, file=file).database_url == URL
