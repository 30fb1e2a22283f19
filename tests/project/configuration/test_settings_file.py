"""The settings file is read by the project's loader, and its faults are named with their place."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.config import AbstractConfigLoader, MissingConfigException, OmegaConfigLoader
from kedro.framework.project import settings

from kedro_flask_server.config.settings_file import SettingsFile
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.configuration.settings_file import read_settings_file
from tests.config import load

EXAMPLE = Path(__file__).parents[3] / "docs" / "server.yml"

pytestmark = pytest.mark.usefixtures("parsing")


@pytest.fixture
def configure() -> Iterator[Callable[..., None]]:
    """Return a function that sets the loader's class and arguments, for a test."""
    before = settings.CONFIG_LOADER_CLASS, settings.CONFIG_LOADER_ARGS

    def set_loader(loader_class: type[AbstractConfigLoader], arguments: dict[str, Any]) -> None:
        settings.set("CONFIG_LOADER_CLASS", loader_class)
        settings.set("CONFIG_LOADER_ARGS", arguments)

    def choose(
        loader_class: type[AbstractConfigLoader] = OmegaConfigLoader, **options: Any
    ) -> None:
        set_loader(isolated(loader_class), {**before[1], **options})

    choose()
    yield choose
    set_loader(*before)


@pytest.fixture
def project(tmp_path: Path, configure: Callable[..., None]) -> Path:
    for env in ("base", "local", "prod"):
        (tmp_path / "conf" / env).mkdir(parents=True)
    return tmp_path


def write(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = project / "conf" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def read(project: Path, **selected: str) -> SettingsFile:
    return read_settings_file(SelectedConfiguration(project_path=project, **selected))


def refusal_of(project: Path, **selected: str) -> str:
    with pytest.raises(ServerSettingsError) as caught:
        read(project, **selected)
    return str(caught.value)


@pytest.mark.parametrize("name", ["server.yml", "server.yaml", "server.json"])
def test_file_is_found(project: Path, name: str) -> None:
    write(project, {f"base/{name}": '{"port": 1, "run_timeout_s": {"train": 3600}}'})
    assert read(project).values == {"port": 1, "run_timeout_s": {"train": 3600}}


def test_environment_counts_more_than_base_as_the_loader_merges(
    project: Path, configure: Callable[..., None]
) -> None:
    write(
        project,
        {
            "base/server.yml": "port: 1\nconcurrency:\n  train: 1\n",
            "local/server.yml": "concurrency: {score: 2}\n",
            "prod/server.yml": "\nport: 3\n",
        },
    )
    assert read(project).values == {"port": 1, "concurrency": {"score": 2}}
    assert read(project, env="prod").values == {"port": 3, "concurrency": {"train": 1}}
    assert read(project, env="prod").places == {
        "port": f"'{project}/conf/prod/server.yml', line 2",
        "concurrency": f"'{project}/conf/base/server.yml', line 2",
    }
    configure(merge_strategy={"server": "soft"})
    assert read(project).values["concurrency"] == {"train": 1, "score": 2}


def test_files_of_other_names_are_none(project: Path) -> None:
    names = ("server_parameters.yml", "servers.yml", "parameters_server.yml", "web/server.yml")
    (project / "conf/base/web").mkdir()
    write(project, {f"base/{name}": "answer: 42\n" for name in names})
    assert read(project).values == {}


def test_own_patterns_count_alone(project: Path, configure: Callable[..., None]) -> None:
    write(project, {"base/server.yml": "answer: 42\n", "base/web.yml": "port: 1\n"})
    configure(config_patterns={"server": ["web*"]})
    assert read(project).values == {"port": 1}
    assert read(project).places == {"port": f"'{project}/conf/base/web.yml', line 1"}


def test_other_configuration_is_loaded_as_before(
    project: Path, configure: Callable[..., None]
) -> None:
    write(
        project,
        {
            "base/server.yml": "port: ${globals:port}\n_hidden: 1\n",
            "base/globals.yml": "port: 1\n",
            "base/parameters_server.yml": "rate: 2\n",
            "base/own.yml": "a: 1\n",
        },
    )
    configure(config_patterns={"own": ["own.yml"]})
    assert read(project).values == {"port": 1}
    loader = SelectedConfiguration(project_path=project).loader()
    assert (loader["parameters"], loader["own"]) == ({"rate": 2}, {"a": 1})
    assert "server" not in loader.keys()  # noqa: SIM118  those of the patterns


def test_file_in_the_documentation_is_read(project: Path) -> None:
    credentials = "server_database: {url: postgresql://host/name}\n"
    write(project, {"base/server.yml": EXAMPLE.read_text(), "local/credentials.yml": credentials})
    config = load(project, file=read(project))
    assert config.run_timeout_s == {"training": 3600, "scoring": 60}
    assert config.database_url == "postgresql://host/name"


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_empty_file_has_no_settings(project: Path, text: str) -> None:
    write(project, {"base/server.yml": text})
    assert read(project).values == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port: 1\n  workers: 1\n", ": ScannerError: mapping values are not allowed"),
        ("- port\n", ": it is no mapping of settings"),
        ("7\n", ": it is no mapping of settings"),
        ("workers: 1\nport: ${nope}\n", ", line 2: InterpolationKeyError: "),
        ("port: ${oc.env:HOME}\n", ", line 1: UnsupportedInterpolationType: "),
        ("port: ${globals:nope}\n", ", line 1: InterpolationResolutionError: "),
        ("port: 1\nport: 2\n", ": ConstructorError: found duplicate key port in line 2"),
    ],
)
def test_file_that_cannot_be_read_is_named(project: Path, text: str, says: str) -> None:
    write(project, {"base/server.yml": "keep_runs: 1\n", "local/server.yml": text})
    message = refusal_of(project)
    assert f"'{project}/conf/local/server.yml'{says}" in message
    assert message.startswith("Settings cannot be read from ")


def test_fault_that_may_be_in_either_file_names_both(project: Path) -> None:
    write(project, {"base/server.yml": "port: ${nope}\n", "local/server.yml": "port: 1\n"})
    names = [f"'{project}/conf/{env}/server.yml', line 1" for env in ("base", "local")]
    assert " and ".join(names) in refusal_of(project)


def test_file_that_is_no_text_is_named(project: Path) -> None:
    (project / "conf/base/server.yml").write_bytes(b"port: \xff\n")
    assert f"'{project}/conf/base/server.yml': UnicodeDecodeError" in refusal_of(project)


def test_configuration_that_cannot_be_read_refuses_the_file_alone(project: Path) -> None:
    write(project, {"base/globals.yml": "a: [\n"})
    assert read(project).values == {}  # each run says what is wrong
    write(project, {"base/server.yml": "port: 1\n"})
    assert "globals.yml" in refusal_of(project)


def test_unknown_environment_is_refused_with_those_that_there_are(project: Path) -> None:
    assert read(project, env="prdo").values == {}
    write(project, {"base/server.yml": "port: 1\n"})
    assert "The environments are: base, local, prod." in refusal_of(project, env="prdo")
    (project / "conf/local").rmdir()
    assert "MissingConfigException" in refusal_of(project)


def test_archive_is_read_and_named(project: Path, tmp_path: Path) -> None:
    def archive(text: str) -> str:
        write(project, {"base/server.yml": text})
        (project / "conf/local/.keep").touch()
        path = tmp_path / "conf.tar.gz"
        with tarfile.open(path, "w:gz") as file:
            file.add(project / "conf", "conf")
        return str(path)

    found = read(project, conf_source=archive("port: 1\n"))
    assert found.values == {"port": 1}
    assert found.places == {"port": f"server.yml of the configuration in '{tmp_path}/conf.tar.gz'"}
    assert "conf.tar.gz': " in refusal_of(project, conf_source=archive("port: [\n"))
    (project / "conf/base/server.yml").unlink()
    assert read(project, conf_source=archive("")).values == {}


class Foreign(AbstractConfigLoader):
    """Knows some configuration, and refuses the rest in its own way."""

    known: dict[str, Any] = {}  # noqa: RUF012  replaced as a whole
    error: BaseException = KeyError("server")

    def __init__(self, conf_source: str, env: str | None = None, **_: Any) -> None:
        super().__init__(conf_source, env)

    def __getitem__(self, key: str) -> Any:
        if key in self.known:
            return self.known[key]
        raise self.error


@pytest.mark.parametrize("error", [KeyError("server"), MissingConfigException("server")])
def test_loader_that_does_not_know_the_file_is_no_error(
    project: Path,
    configure: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    configure(type("Own", (Foreign,), {"error": error}))
    assert read(project).values == {}
    assert caplog.records == []
    write(project, {"base/server.yml": "port: 1\n"})
    with caplog.at_level(logging.WARNING):
        assert read(project).values == {}
    assert f"does not read '{project}/conf/base/server.yml'" in caplog.text


@pytest.mark.parametrize("error", [OSError("nowhere"), SystemExit(3)])
def test_loader_that_fails_is_no_error_where_there_is_no_file(
    project: Path, configure: Callable[..., None], error: BaseException
) -> None:
    configure(type("Own", (Foreign,), {"error": error}))
    assert read(project).values == {}
    write(project, {"base/server.yml": "port: 1\n"})
    assert type(error).__name__ in refusal_of(project)


def test_loader_of_another_kind_may_fail_where_there_is_no_folder(
    tmp_path: Path, configure: Callable[..., None]
) -> None:
    assert read(tmp_path).values == {}
    configure(type("Own", (Foreign,), {"error": OSError("nowhere")}))
    assert read(tmp_path).values == {}


def test_loader_may_have_the_settings_from_elsewhere(
    project: Path, configure: Callable[..., None]
) -> None:
    configure(type("Own", (Foreign,), {"known": {"server": {"port": 1}}}))
    found = read(project)
    assert found.values == {"port": 1}
    assert found.places == {"port": f"server.yml of the configuration in '{project}/conf'"}
    write(project, {"base/server.yml": "{% if true %}port: 1{% endif %}\n"})  # no plain YAML
    assert read(project).places == {"port": f"'{project}/conf/base/server.yml'"}
    configure(type("Own", (Foreign,), {"known": {"server": ["port"]}}))
    assert "no mapping, but list" in refusal_of(project)


class OldArguments(OmegaConfigLoader):
    def __init__(
        self,
        conf_source: str,
        env: str | None = None,
        runtime_params: Any = None,
        *,
        base_env: str,
        default_run_env: str,
    ) -> None:
        super().__init__(
            conf_source, env, runtime_params, base_env=base_env, default_run_env=default_run_env
        )


def test_own_loader_that_takes_no_patterns_finds_the_file(
    project: Path, configure: Callable[..., None]
) -> None:
    configure(OldArguments)
    assert read(project).values == {}
    write(project, {"base/server.yml": "port: 1\n"})
    assert read(project).values == {"port": 1}


def test_credentials_are_the_loaders(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_VARIABLE", "postgresql://host/name")
    write(project, {"base/server.yml": "port: 1\n"})
    assert read(project).credentials() == {}
    write(project, {"local/credentials.yml": "runs_db: ${oc.env:OWN_VARIABLE}\n"})
    assert read(project).credentials() == {"runs_db": "postgresql://host/name"}
    write(project, {"local/credentials.yml": "runs_db: ${oc.env:OTHER_VARIABLE}\n"})
    with pytest.raises(ServerSettingsError, match=r"credentials.*'OTHER_VARIABLE' not found"):
        read(project).credentials()
