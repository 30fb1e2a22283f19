"""What a text assigns to a name that says that it is secret: left out; prose stays."""

from __future__ import annotations

import pytest

from kedro_flask_server.redaction import Secrets

LEFT_OUT = [
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
    ("DB_PASS=hunter2", "DB_PASS=<redacted>"),
    ("SMTP_PASS=hunter2 LDAP_BIND_PW=x", "SMTP_PASS=<redacted> LDAP_BIND_PW=<redacted>"),
    ("GITHUB_PAT=abc JWT=abc", "GITHUB_PAT=<redacted> JWT=<redacted>"),
    ("API_CREDS=me:x SESSION_COOKIE=x", "API_CREDS=<redacted> SESSION_COOKIE=<redacted>"),
    ("Driver=x;UID=me;PWD=hunter2;", "Driver=x;UID=me;PWD=<redacted>;"),
    ("password: x", "password: <redacted>"),
    ("Password: hunter2, then", "Password: <redacted> then"),
    ("api_key: abc", "api_key: <redacted>"),
    ("db.password: 12345", "db.password: <redacted>"),
    ("client-secret: abc", "client-secret: <redacted>"),
    ("{'secret_key': 'x', 'a': 1}", "{'secret_key': <redacted>, 'a': 1}"),
    ('"db_pass": "x"', '"db_pass": <redacted>'),
    (r'"{\"token\": \"abc\"}"', r'"{\"token\": <redacted>}"'),
    ('def f(password: str = "x")', "def f(password: str = <redacted>)"),
    ("Authorization: Bearer x", "Authorization: Bearer <redacted>"),
    ("authorization: Basic eDp5 Accept: a", "authorization: Basic <redacted> Accept: a"),
    ("Authorization: x", "Authorization: <redacted>"),
    ('Authorization: Digest username="u", response="r"', "Authorization: <redacted>"),
    ("{'Authorization': 'Bearer x'}", "{'Authorization': <redacted>}"),
    ("sent Bearer eyJabc123 to", "sent Bearer <redacted> to"),
    ("bearer abcdefghijklmnopqrst", "bearer <redacted>"),
    ("it was eyJhbGciOi.eyJzdWIi.c2lnbg.", "it was <redacted>."),
    ("Set-Cookie: id=abc; Path=/", "Set-Cookie: <redacted>"),
    ("Cookie: a=b; c=d\nHost: x", "Cookie: <redacted>\nHost: x"),
    ("{'Cookie': 'a=b; c=d'}", "{'Cookie': <redacted>}"),
    ("mysql --password hunter2 -u me", "mysql --password <redacted> -u me"),
    ("cmd --token=abc --x", "cmd --token=<redacted> --x"),
    ("['mysql', '--password', 'x']", "['mysql', '--password', <redacted>]"),
    ("--api-key 'a b' c", "--api-key <redacted> c"),
    ("password=<redacted>", "password=<redacted>"),
    ("password: <redacted>", "password: <redacted>"),
    ("Bearer <redacted>", "Bearer <redacted>"),
]

STAYS = [
    "monkey = 3",
    "if key == value",
    "n_tokens=5",
    "token count: 5",
    "tokens: 512",
    "tokens=512",
    '{"max_tokens": 512, "tokens": 3}',
    "max_tokens: 512",
    "key: value",
    "{'key': 'value'}",
    "primary key: id",
    "sort_key=date, primary_key=id",
    "password policy: at least 12 characters",
    "Enter password:\nthen go on",
    "password: This field is required",
    "password: must be longer",
    "password: str, token: Optional[str]",
    "token=None, password=null",
    "Invalid credentials: no such user",
    "option --password requires a value",
    "--password TEXT  The password",
    "--key value",
    "the bearer of good news",
    "Bearer authentication failed",
    "sorted(rows, key=lambda row: row[0])",
    "PWD=/home/me/project OLDPWD=/home/me",
    "PASS: test_one, pass: 12",
    "passed: 5, compass: north",
    "auth=('me', 1)",
    "keyboard: de, author: me",
    "tokenizer: bert, tokenizer=bert",
    "Unexpected token: }",
    "secret::member",
    "cookie: banana",
    "path: /data/01_raw, PATH=/usr/bin",
    "Running node: train: train([data]) -> [model]",
    "Loading data from api_tokens (CSVDataset)...",
]


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    return Secrets()


@pytest.mark.parametrize(("text", "shown"), LEFT_OUT)
def test_what_is_assigned_to_a_secret_name_is_left_out(
    secrets: Secrets, text: str, shown: str
) -> None:
    assert secrets.redact(text) == shown


@pytest.mark.parametrize("text", STAYS)
def test_prose_stays_as_it_is(secrets: Secrets, text: str) -> None:
    assert secrets.redact(text) == text


@pytest.mark.parametrize("name", ["PASSWD", "pwd", "Secret", "to\u212aen", "\u017fecret", "key"])
def test_names_are_found_in_any_case(secrets: Secrets, name: str) -> None:
    assert secrets.redact(f"{name}=value") == f"{name}=<redacted>"


HOSTILE = ["a-" * 500_000 + "=", "a." * 500_000 + ":", "\\" * 10**6 + ":"]
HOSTILE += ["cookie: " * 100_000, "--token " * 100_000, "key=lambda " * 50_000, "eyJ" * 300_000]
HOSTILE += ["bearer " * 100_000 + "=", "password: str " * 50_000, "max_" * 200_000 + "token:x"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_takes_longer_than_it_is_long(secrets: Secrets, text: str) -> None:
    """What grows with the square would take hours here, and the suite's limit is minutes."""
    secrets.redact(text)
    assert secrets.redact(f"{text} password=x").endswith("<redacted>")
