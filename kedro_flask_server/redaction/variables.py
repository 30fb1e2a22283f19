"""Finds the secrets in environment variables.

A secret name is only a guess. A value that is insignificant alone is not secret: a path, a number,
a common word. This does not apply to credentials, which are certain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from kedro_flask_server.redaction.names import is_secret_name
from kedro_flask_server.redaction.urls import passwords_in
from kedro_flask_server.redaction.words import words_of

# Of 8 characters and more: shorter values are never looked for. Redacting one of these in every
# line would hide messages of servers, databases or Kedro, and protects nothing: each is among the
# first guesses of an attacker. Environments and states, products and their default users, Kedro's
# vocabulary.
_COMMON_WORDS = words_of(
    """
    production development acceptance integration localhost loopback
    disabled required optional unlimited undefined anonymous automatic external internal interactive
    username password passwords passphrase credential credentials administrator superuser
    database postgres postgresql rabbitmq sqlserver snowflake bigquery databricks
    container kubernetes terraform namespace scheduler processes application workspace warehouse
    repository pipeline pipelines __default__ parameter parameters kedro-viz
    sequential sequentialrunner threadrunner parallelrunner
    """
)

_NUMBER = re.compile(
    r"[+-]?\d[\d_,]{0,17}(?:\.\d{0,18})?(?:e[+-]?\d{1,3})?%?"  # 10_000, 0.001, 1e-12
    r"|v?\d{1,8}(?:\.\d{1,8}){1,4}(?:[-.+]?(?:a|b|rc|dev|post|alpha|beta)\.?\d{0,4})?"  # versions
    r"|\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d{1,5})?"  # 127.0.0.1:5432
    r"|\d{4}-\d\d-\d\d(?:[T ][\d:.]{5,15}(?:Z|[+-]\d\d:?\d\d)?)?",  # dates and times
    re.IGNORECASE,
)
_MAX_DIGITS = 15  # a longer one is an identifier

_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_MAX_PATHS = 100


def secrets_of_variable(name: str, value: str) -> Iterator[str]:
    """Yield the possible secrets of a variable: the password of a URL, else its whole value.

    Args:
        name: The variable's name.
        value: Its value.
    """
    if _URL.match(value):
        yield from passwords_in(value)
        if is_secret_name(name):
            yield from _secrets_in_query(value)
        if "webhook" not in name.casefold():  # its path is the secret
            return
    if is_secret_name(name):
        yield value


def is_plain(value: str) -> bool:
    """Return whether a value is not secret, whatever the name of its variable.

    Args:
        value: The value of a variable.
    """
    return (
        value.casefold() in _COMMON_WORDS
        or (sum(map(str.isdigit, value)) <= _MAX_DIGITS and bool(_NUMBER.fullmatch(value)))
        or _is_path(value)
    )


def _is_path(value: str) -> bool:
    """Return whether a value is an existing path, or a list of them."""
    if not (os.sep in value or value.startswith("~")):
        return False
    try:
        paths = [Path(each).expanduser() for each in value.split(os.pathsep)[:_MAX_PATHS] if each]
        is_list = all(each.is_absolute() for each in paths)
        return any(each.exists() for each in paths) if is_list else Path(value).exists()
    except (OSError, RuntimeError, ValueError):  # not a path, or an unknown user's home
        return False


def _secrets_in_query(url: str) -> Iterator[str]:
    try:
        query = urlsplit(url).query
    except ValueError:
        return
    for _, value in parse_qsl(query):  # such as the signature of a shared URL
        yield value
