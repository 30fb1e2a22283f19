"""URLs in log lines: without user info and query; a place in a page stays."""

from __future__ import annotations

import pytest

from kedro_flask_server.redaction import redact_urls


@pytest.mark.parametrize(
    "text",
    [
        "see https://docs.kedro.org/en/stable/data/#versioning.",
        "see https://pandas.pydata.org/docs/user_guide/indexing.html#returning-a-view-versus-a-copy",
        "https://scikit-learn.org/x.html#sklearn.linear_model.LinearRegression",
        "https://github.com/o/r/issues/12#issuecomment-1234567890",
        "https://github.com/o/r/blob/main/a.py#L10-L20",
        "https://host/#/a/route/",
        "sales#csv issue#12 why?yes",
        "s3://bucket/key, file:///a/b",
        "a://",
    ],
)
def test_link_stays(text: str) -> None:
    assert redact_urls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "at https://me:pw@host:80/p?q=1#f.",
            "at https://<redacted>@host:80/p?<redacted>#<redacted>",
        ),
        ("https://host/p?q=1#place", "https://host/p?<redacted>#place"),
        ("https://host/p?q=token#token", "https://host/p?<redacted>#<redacted>"),
        ("https://host/#access_token=abc", "https://host/#<redacted>"),
        ("https://host/#a&b", "https://host/#<redacted>"),
        ("https://host/#Xk29fja82Jd0a", "https://host/#<redacted>"),
        ("https://host/#eyJhbGciOiJIUzI1NiJ9", "https://host/#<redacted>"),
        ("https://me:p#ss@host/", "https://me:p#<redacted>"),
        ("https://p@ss@host", "https://<redacted>@host"),
        ("('s3://a:b@c')", "('s3://<redacted>@c')"),
    ],
)
def test_what_may_be_secret_is_left_out(text: str, shown: str) -> None:
    assert redact_urls(text) == shown


def test_time_is_linear() -> None:
    for text in ("a://" * 200_000, "a" * 10**6 + "://", "://" * 300_000, "://@" * 200_000):
        redact_urls(text)
