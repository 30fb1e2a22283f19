from __future__ import annotations

import pytest

from kedro_flask_server.redaction import Secrets, redact_content


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


def test_known_values_are_left_out_however_they_are_written(secrets: Secrets) -> None:
    secrets.learn(['pa"ss\\wörd/1'])
    for written in (
        'pa"ss\\wörd/1',
        r"pa\"ss\\w\u00f6rd/1",
        r'pa"ss\\wörd/1',
        "pa%22ss%5Cw%C3%B6rd%2F1",
    ):
        assert secrets.redact(f"it was {written}.") == "it was <redacted>."


def test_lines_of_a_value_are_left_out_each_by_itself(secrets: Secrets) -> None:
    secrets.learn(
        ["-----BEGIN KEY-----\nfirst-line-1\nsecond-line\n-----END KEY-----\n", "alone-1\n"]
    )
    assert secrets.redact("  | first-line-1\n  | second-line") == "  | <redacted>\n  | <redacted>"
    assert secrets.redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


@pytest.mark.parametrize("text", ["a-" * 500_000 + "=", "a." * 500_000 + ":", "\\" * 10**6 + ":"])
def test_no_text_takes_longer_than_it_is_long(secrets: Secrets, text: str) -> None:
    """What grows with the square would take hours here, and the suite's limit is minutes."""
    assert secrets.redact(text) == text
    assert secrets.redact(f"{text} password=x").endswith(" password=<redacted>")


def test_short_values_are_words(secrets: Secrets) -> None:
    secrets.learn(["seven77"])
    assert secrets.redact("seven77") == "seven77"


def test_the_longer_of_two_values_is_left_out_whole(secrets: Secrets) -> None:
    secrets.learn(["longlonglong", "longlonglonger"])
    assert secrets.redact("longlonglonger") == "<redacted>"


def test_variables_are_secret_by_their_name(secrets: Secrets) -> None:
    names = ["DB_PASSWORD", "API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SENTRY_DSN"]
    others = ["KEYBOARD", "TOKENIZERS_PARALLELISM", "MONKEY", "AUTHOR"]
    values = {name: f"value-of-{name}" for name in [*names, *others]}
    secrets.learn_environment(values)
    for name in names:
        assert secrets.redact(values[name]) == "<redacted>", name
    for name in others:
        assert secrets.redact(values[name]) == values[name], name


def test_what_a_run_brings_does_not_push_out_what_is_the_process_s(secrets: Secrets) -> None:
    secrets.learn_environment({"TOKEN": "the-server-s-own"}, is_lasting=True)
    for number in range(1000):
        secrets.learn([f"of-the-run-{number}"])
    assert secrets.redact("the-server-s-own") == "<redacted>"
    assert secrets.redact("of-the-run-999") == "<redacted>"
    assert secrets.redact("of-the-run-0 is over") == "of-the-run-0 is over"


def test_what_a_run_has_brought_may_be_the_process_s_as_well(secrets: Secrets) -> None:
    secrets.learn(["the-server-s-own"])
    secrets.learn(["the-server-s-own"], is_lasting=True)
    for number in range(1000):
        secrets.learn([f"of-the-run-{number}"])
    assert secrets.redact("the-server-s-own") == "<redacted>"


def test_what_is_forgotten_is_known_still_where_another_is_written_so(secrets: Secrets) -> None:
    secrets.learn(["of the run"], is_lasting=True)  # in a URL, of+the+run
    secrets.learn(["of+the+run"])
    for number in range(1000):
        secrets.learn([f"another-{number}"])
    assert not secrets.knows("of+the+run")
    assert secrets.redact("of+the+run") == "<redacted>"
    secrets.learn([f"at-once-{number:04}" for number in range(1000)])
    assert secrets.redact("at-once-0000, at-once-0999") == "at-once-0000, <redacted>"


@pytest.mark.parametrize("name", ["PASSWD", "pwd", "Secret", "to\u212aen", "\u017fecret", "key"])
def test_names_are_found_in_any_case(secrets: Secrets, name: str) -> None:
    assert secrets.redact(f"{name}=value") == f"{name}=<redacted>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 and so on", "password=<redacted> and so on"),
        ("Password = 'hunter 2', user=me", "Password = <redacted>, user=me"),
        ("https://host/?token=abc&x=1", "https://host/?token=<redacted>&x=1"),
        ("api_key=abc", "api_key=<redacted>"),
        ("connect(key=abc)", "connect(key=<redacted>"),
        ("{'password': 'hunter2'}", "{'password': <redacted>}"),
        ('{"token": "abc"}', '{"token": <redacted>}'),
        ("password='cut", "password=<redacted>"),
        ("password=)x,y z", "password=<redacted> z"),
        (r'password="a\"b" z', "password=<redacted> z"),
        ("AccountKey=abc;x", "AccountKey=<redacted>;x"),
        (f"Bearer kfs_{'x' * 43}", "Bearer <redacted>"),
        ("monkey = 3", "monkey = 3"),
        ("if key == value", "if key == value"),
        ("n_tokens=5", "n_tokens=5"),
    ],
)
def test_what_is_assigned_to_a_secret_name_is_left_out(
    secrets: Secrets, text: str, shown: str
) -> None:
    assert secrets.redact(text) == shown


def test_request_is_shown_without_secrets_and_is_whole_otherwise() -> None:
    request = {
        "params": {
            "db": {"password": "hunter2", "url": "postgres://me:p@ss@host/db?a=1", "size": 5},
            "list": ["https://u:p@h", 1.5, None, True, "\ud800"],
            "long": "x" * 20_000,
            "tokens": ["abc", {"of": "def"}, 5],
            "max_tokens": 512,
        }
    }
    assert redact_content(request) == {
        "params": {
            "db": {"password": "<redacted>", "url": "postgres://<redacted>@host/db?a=1", "size": 5},
            "list": ["https://<redacted>@h", 1.5, None, True, "\ud800"],
            "long": "x" * 20_000,
            "tokens": ["<redacted>", {"of": "<redacted>"}, "<redacted>"],
            "max_tokens": 512,
        }
    }
