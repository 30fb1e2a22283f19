"""What each parser lets through, what it refuses, and what it says is allowed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from kedro_flask_server.config.parsers import (
    FILE,
    FOLDER,
    HOST,
    ORIGIN,
    PROXY,
    SERVED,
    SOURCE,
    TIMEOUT,
    YES_OR_NO,
    Parser,
    by_pipeline,
    list_of,
    number,
    one_of,
    text,
    whole,
)
from kedro_flask_server.model.served import ServedSettings

YEAR_S = 31_536_000
WORDS = list_of(text(""), allowed="a list of words")
LIMITS = by_pipeline(whole(1), allowed="a mapping")


@pytest.mark.parametrize(
    ("parser", "given", "value"),
    [
        (number(0), 0, 0.0),
        (number(0), "1.5", 1.5),
        (number(0), YEAR_S, float(YEAR_S)),
        (whole(1), 1, 1),
        (whole(1), "12", 12),
        (whole(1), 10**9, 10**9),
        (whole(1, 5), 5, 5),
        (text("a word"), "x", "x"),
        (one_of("a", "b"), "b", "b"),
        (YES_OR_NO, True, True),
        (YES_OR_NO, "YES", True),
        (YES_OR_NO, "1", True),
        (YES_OR_NO, False, False),
        (YES_OR_NO, "no", False),
        (YES_OR_NO, "0", False),
        (WORDS, ["a", "b"], ("a", "b")),
        (WORDS, ("a",), ("a",)),
        (WORDS, '["a", "b"]', ("a", "b")),
        (WORDS, [], ()),
        (LIMITS, {"train": 1}, {"train": 1}),
        (LIMITS, '{"train": 1}', {"train": 1}),
        (TIMEOUT, 0.001, 0.001),
        (TIMEOUT, "60", 60.0),
        (TIMEOUT, {"train": 3600}, {"train": 3600.0}),
        (TIMEOUT, ' {"train": "3600"}', {"train": 3600.0}),
        (HOST, "*", "*"),
        (HOST, "Example.COM", "example.com"),
        (HOST, ".example.com", ".example.com"),
        (HOST, "example.com:8000", "example.com:8000"),
        (HOST, "[::1]:80", "[::1]:80"),
        (ORIGIN, "https://Example.com", "https://example.com"),
        (ORIGIN, "http://[::1]:3000", "http://[::1]:3000"),
        (PROXY, "unix", "unix"),
        (PROXY, "10.0.0.0/8", "10.0.0.0/8"),
        (PROXY, "::1", "::1"),
        (SOURCE, "s3://bucket/conf", "s3://bucket/conf"),
    ],
)
def test_value_that_is_allowed_is_parsed(parser: Parser, given: object, value: Any) -> None:
    parsed = parser.parse(given)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("parser", "given"),
    [
        *((number(0.5, 2), value) for value in (0.4, 2.1, "x", "", True, None, [], math.nan)),
        *((number(0), value) for value in (math.inf, YEAR_S + 1, "nan", -0.1)),
        *((whole(1, 5), value) for value in (0, 6, 1.0, "1.5", "", "x", True, None, [1])),
        *((text("a word"), value) for value in ("", None, 1, b"x", ["x"])),
        *((one_of("a", "b"), value) for value in ("c", "A", "", None, 1, ["a"])),
        *((YES_OR_NO, value) for value in ("", "maybe", 1, 0, None, "on", [])),
        *((WORDS, value) for value in ("a", "{}", '"a"', "[1]", [""], [1], {"a": 1}, None, 1)),
        *((LIMITS, value) for value in ("a", "[]", [], {"a": 0}, {"": 1}, {1: 1}, None, 1)),
        *((TIMEOUT, value) for value in (0, "0", {"a": 0}, "{", [], None, math.inf, True)),
        *((HOST, value) for value in ("", "a b", "a/b", "a:port", "a:123456", "..", "a\n", 1)),
        *((ORIGIN, value) for value in ("", "*", "null", "a.com", "ftp://a", "https://a/b", 1)),
        *((PROXY, value) for value in ("", "localhost", "10.0.0.0/33", "10.0.0.1/8", "*", 1)),
        *((SOURCE, value) for value in ("", 1, None, "no/such/folder")),
        *((FOLDER, value) for value in ("", 1, None)),
        *((FILE, value) for value in ("", 1, None, "no/such/file", os.curdir)),
    ],
)
def test_value_that_is_not_allowed_is_refused(parser: Parser, given: object) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parser.parse(given)


@pytest.mark.parametrize("parser", [SOURCE, FOLDER, FILE])
def test_path_in_the_home_of_nobody_is_refused(parser: Parser) -> None:
    with pytest.raises(RuntimeError):
        parser.parse("~no-such-user/conf")


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "keys.json").touch()
    for given in ("conf", Path("conf"), tmp_path / "conf"):
        assert SOURCE.parse(given) == FOLDER.parse(given) == str(tmp_path / "conf")
    assert SOURCE.parse("keys.json") == FILE.parse("keys.json") == str(tmp_path / "keys.json")
    assert FOLDER.parse("not/yet") == str(tmp_path / "not" / "yet")


def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "keys.json").touch()
    assert FOLDER.parse("~/state") == str(tmp_path / "state")
    assert SOURCE.parse("~/keys.json") == FILE.parse("~/keys.json") == str(tmp_path / "keys.json")


def test_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    # A mounted secret is a link, which changes to where the new one is.
    (tmp_path / "first").touch()
    link = tmp_path / "keys.json"
    link.symlink_to("first")
    assert FILE.parse(str(link)) == str(link)


@pytest.mark.parametrize(
    ("parser", "allowed"),
    [
        (number(0), "a number of seconds from 0 to a year"),
        (number(0.5, 100, unit="days"), "a number of days from 0.5 to 100"),
        (whole(1), "a whole number, 1 or more"),
        (whole(1, unit="bytes"), "a whole number of bytes, 1 or more"),
        (whole(0, 9), "a whole number from 0 to 9"),
        (whole(0, 9, unit="runs"), "a whole number of runs, from 0 to 9"),
        (one_of("a"), "'a'"),
        (one_of("a", "b"), "'a' or 'b'"),
        (one_of("a", "b", "c"), "'a', 'b' or 'c'"),
        (one_of("a", "b", allowed="a letter"), "a letter"),
        (text("a word"), "a word"),
        (WORDS, "a list of words"),
        (LIMITS, "a mapping"),
    ],
)
def test_parser_says_what_is_allowed(parser: Parser, allowed: str) -> None:
    assert parser.allowed == allowed


def test_served_pipelines_have_defaults_and_bounds() -> None:
    given = {"inference": {"preload": ["model"], "record": "all"}, "other": {}}
    parsed = SERVED.parse(json.dumps(given))
    assert parsed == SERVED.parse(given)
    assert parsed["inference"] == ServedSettings(preload=("model",), record="all")
    assert parsed["other"] == ServedSettings()


@pytest.mark.parametrize(
    "value",
    [
        ["inference"],
        {"inference": None},
        {"inference": {"workers": 0}},
        {"inference": {"record": "some"}},
        {"inference": {"reload": True}},
        {"inference": {"poll_s": 0}},
        {"inference": {"preload": "model"}},
        {"inference": {"colour": 1}},
        {"": {}},
    ],
)
def test_bad_settings_of_served_pipelines_are_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  as every parser
        SERVED.parse(value)
