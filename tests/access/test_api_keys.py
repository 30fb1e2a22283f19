"""Keys, and files of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from kedro_flask_server.access.api_keys import (
    KeyFile,
    add_to_file,
    create_secret,
    dump_entry,
    hash_secret,
    parse_period,
)
from kedro_flask_server.errors import ApiKeyExistsError, ServerSettingsError
from kedro_flask_server.model.caller import ApiKey, Scope


def test_secret_has_the_prefix_and_256_random_bits() -> None:
    secrets = {create_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {(each[:4], len(each)) for each in secrets} == {("kfs_", 4 + 43)}


def test_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    keys = [
        ApiKey(name="plain", sha256=hash_secret(b"1"), scopes=frozenset({Scope.READ})),
        ApiKey(
            name="full",
            sha256=hash_secret(b"2"),
            scopes=frozenset({Scope.RUN, Scope.READ}),
            pipelines=frozenset({"a", "b"}),
            max_active=3,
            max_queued=2,
            expires_at=datetime(2030, 1, 1, 12, 30, tzinfo=timezone.utc),
        ),
    ]
    path = tmp_path / "keys.yml"
    path.write_text("".join(map(dump_entry, keys)))
    assert KeyFile(path).keys == keys


ANOTHER = f"{{name: b, sha256: {'a' * 64}, scopes: [run]}}"


@pytest.mark.parametrize("before", [None, "", f"# Ours.\n- {ANOTHER}", f"- {ANOTHER}\n\n"])
def test_key_is_added_to_a_file(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "keys.yml"
    if before is not None:
        path.write_text(before)
    key = ApiKey(name="a", sha256=hash_secret(b"1"), scopes=frozenset({Scope.READ}))
    add_to_file(path, key)
    assert path.read_text().startswith(before or "")
    assert KeyFile(path).keys[-1] == key
    assert before is not None or path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ApiKeyExistsError):
        add_to_file(path, key)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(f"[{ANOTHER}]\n", "Add it yourself"), ("# Ours.\n", "no list"), ("a: 1\n", "no list")],
)
def test_file_that_a_key_cannot_be_added_to_stays_as_it_is(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(text)
    key = ApiKey(name="a", sha256=hash_secret(b"1"), scopes=frozenset({Scope.READ}))
    with pytest.raises(ServerSettingsError, match=reason):
        add_to_file(path, key)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "- name: a",
        "- {name: a, sha256: x, scopes: [read]}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: []}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [all]}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [read], scope: read}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [read], pipelines: one}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [read], max_active: 0}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [read], expires_at: soon}}",
        f"- {{name: a b, sha256: {'a' * 64}, scopes: [read]}}",
        f"- {{name: a, sha256: {'a' * 64}, scopes: [read]}}\n" * 2,
        "!!python/object/apply:os.system [exit]",
        "[" * 10_000,
    ],
)
def test_file_that_is_no_list_of_keys_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(text)
    with pytest.raises(ServerSettingsError, match=r"api_keys_file.*keys\.yml"):
        KeyFile(path)


@pytest.mark.parametrize(
    ("text", "period"),
    [("12h", timedelta(hours=12)), ("90d", timedelta(days=90)), ("4w", timedelta(weeks=4))],
)
def test_periods(text: str, period: timedelta) -> None:
    assert parse_period(text) == period


@pytest.mark.parametrize(
    "text", ["", "d", "90", "-1d", "1.5d", "90 d", "1y", "\u0661d", "9" * 9 + "d"]
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no period"):
        parse_period(text)
