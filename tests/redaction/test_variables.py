"""What of an environment is secret: values that say nothing by themselves are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kedro_flask_server.redaction import Secrets
from kedro_flask_server.redaction.variables import is_plain, secrets_of_variable

PLAIN = [
    "production",
    "Development",
    "localhost",
    "postgresql",
    "password",
    "__default__",
    "SequentialRunner",
    "12345678",
    "-1_000_000",
    "0.0000001",
    "1.5e-10",
    "10.11.12.13:5432",
    "2026.10.15",
    "v1.22.333",
    "1.22.333rc1",
    "2026-11-28",
    "2026-11-28T10:00:00Z",
]


@pytest.mark.parametrize("value", PLAIN)
def test_value_that_says_nothing_is_plain(value: str) -> None:
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [
        "hunter2hunter2",
        "correct horse battery staple",
        "1234567890123456789",  # an identifier
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "production-7Kd9",
        "/aGVsbG8/d29y+bGQ=",  # no path that is there
        "p@ss:word/1",
        "~nobody-of-that-name/x",
    ],
)
def test_value_that_may_open_something_is_not(value: str) -> None:
    assert not is_plain(value)


def test_paths_that_are_there_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("folder").mkdir()
    for value in (
        str(tmp_path),
        f"{tmp_path}/folder/",
        f"/no/such/place{os.pathsep}{tmp_path}",
        "folder/../folder",
        "~/folder",
    ):
        assert is_plain(value), value
    assert not is_plain(f"{tmp_path}/no-such")


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("DB_PASS", "hunter2hunter2", ["hunter2hunter2"]),
        ("COLOR", "hunter2hunter2", []),
        ("DATABASE_URL", "postgres://me:p%40ssword@host/db", ["p%40ssword", "p@ssword"]),
        ("HTTPS_PROXY", "http://me:a-password@proxy:80", ["a-password"]),
        ("SENTRY_DSN", "https://public-key@host/1", ["public-key"]),
        ("API_TOKEN_URL_KEY", "https://host/path", []),
        ("AUTH_SERVER_SECRET", "https://host/?sig=a-signature&se=1", ["a-signature", "1"]),
        ("SLACK_WEBHOOK_URL", "https://host/T0/B0/x", ["https://host/T0/B0/x"]),
        ("DOCS_URL", "https://host/path#place", []),
    ],
)
def test_of_a_url_the_password_is_secret(name: str, value: str, secrets: list[str]) -> None:
    assert list(dict.fromkeys(secrets_of_variable(name, value))) == secrets


ENVIRONMENT = {
    "DB_PASSWORD": "hunter2-of-the-db",
    "SMTP_PASS": "hunter2-of-smtp",
    "SENTRY_DSN": "https://key-of-sentry@host/1",
    "PROJECT_KEY": "{folder}",
    "SECRET": "breast_cancer",
    "SECRET_ENV": "production",
    "TRAIN_TOKEN": "train_model",
    "COUNT_KEY": "12345678",
    "PWD": "{folder}",
    "OLDPWD": "/no/longer/there",
    "COLUMN_SECRET": "mean radius",
}


def test_paths_numbers_words_and_names_of_the_project_stay(tmp_path: Path) -> None:
    secrets = Secrets()
    environ = {name: each.format(folder=tmp_path) for name, each in ENVIRONMENT.items()}
    secrets.learn_environment(environ, is_lasting=True)
    secrets.learn_names(["breast_cancer", "train_model_node", "mean radius"])
    for text in (*environ.values(), "Train_Model"):
        is_secret = "hunter2" in text or "key-of" in text
        assert (secrets.redact(text) != text) is is_secret, text


def test_what_the_project_calls_so_is_secret_where_that_is_certain() -> None:
    secrets = Secrets()
    secrets.learn_names(["train_model"])
    secrets.learn_environment({"TOKEN": "train_model"})
    assert secrets.redact("train_model") == "train_model"
    secrets.learn(["train_model"])  # of the credentials
    assert secrets.redact("train_model") == "<redacted>"
    secrets.learn_environment({"TOKEN": "train_model", "X": "y"})
    assert secrets.redact("train_model") == "<redacted>"


def test_name_that_becomes_known_later_counts_at_once() -> None:
    secrets = Secrets()
    secrets.learn_environment({"TOKEN": "train_model"}, is_lasting=True)
    version = secrets.version
    assert secrets.redact("train_model") == "<redacted>"
    secrets.learn_names(["train_model"])
    assert secrets.redact("train_model") == "train_model"
    assert secrets.version != version
    assert not secrets.knows("train_model")
    assert secrets.known(are_certain=True) == []


def test_names_are_bounded() -> None:
    secrets = Secrets()
    secrets.learn_names(f"name-{number}" for number in range(60_000))
    secrets.learn_names(["x" * 501, ""])
    assert len(secrets.names) == 50_000
