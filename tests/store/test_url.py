"""Which addresses of a database are taken, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.store.url import hosts_of, libpq_options, locate, without_secrets

STATE = Path("/var/state")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@host/db",
        "postgresql+psycopg2://u:secret@host/db",
        "postgresql://u:secret@host/db?sslmode=allow",
        "postgresql://u@host/db?password=secret",
        "postgresql://u:secret@host/db?sslmode=require&sslrootcert=/no/such/file",
        "sqlite://",
        "sqlite:///:memory:",
        "not a url: secret",
        "",
    ],
)
def test_database_that_is_not_served_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ServerSettingsError, match="database_url") as caught:
        locate(url, Path())
    assert "secret" not in str(caught.value)


def test_database_is_a_file_in_the_state_folder_by_default() -> None:
    url = locate(None, STATE)
    assert (url.get_backend_name(), url.database) == ("sqlite", "/var/state/runs.db")
    assert without_secrets(url) == "/var/state/runs.db"


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("postgresql:///db", [("localhost", 5432)]),
        ("postgresql://a/db", [("a", 5432)]),
        ("postgresql://u:p@a:1/db", [("a", 1)]),
        ("postgresql://u:p@a:1,b:2/db", [("a", 1), ("b", 2)]),
        ("postgresql://a,b.example.com/db?sslmode=require", [("a", 5432), ("b.example.com", 5432)]),
        ("postgresql://[::1]:1,[::2]/db", [("::1", 1), ("::2", 5432)]),
    ],
)
def test_address_names_one_host_or_several(given: str, hosts: list[tuple[str, int]]) -> None:
    url = locate(given, STATE)
    assert [*hosts_of(url)] == hosts
    assert url.database == "db"


@pytest.mark.parametrize(
    "given", ["postgresql://a,b c/db", "postgresql://a:x,b/db", "postgresql://,/d"]
)
def test_host_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ServerSettingsError, match="database_url"):
        locate(given, STATE)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:secret@a:1/db?sslmode=require", "postgresql://a:1/db"),
        ("postgresql://u:secret@a,b:2/db", "postgresql://a,b:2/db"),
        ("sqlite:////srv/runs.db", "/srv/runs.db"),
    ],
)
def test_address_is_shown_without_user_password_and_options(given: str, shown: str) -> None:
    assert without_secrets(locate(given, STATE)) == shown


def test_options_are_those_of_libpq_that_are_allowed(tmp_path: Path) -> None:
    certificate = tmp_path / "root.pem"
    certificate.touch()
    options = f"sslmode=verify-full&sslrootcert={certificate}&target_session_attrs=primary"
    assert libpq_options(locate(f"postgresql://a/db?{options}", STATE)) == {
        "sslmode": "verify-full",
        "sslrootcert": str(certificate),
        "target_session_attrs": "primary",
    }
    system = locate("postgresql://a/db?sslrootcert=system", STATE)  # libpq's word for its own
    assert libpq_options(system) == {"sslrootcert": "system"}


@pytest.mark.parametrize("option", ["sslkey=system", "sslcert=/no/such/file", "service=x"])
def test_option_that_cannot_be_used_is_refused(option: str) -> None:
    with pytest.raises(ServerSettingsError, match=r"sslkey|sslcert"):
        locate(f"postgresql://a/db?{option}", STATE)
