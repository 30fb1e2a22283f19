"""Redacts URLs in texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from kedro_flask_server.redaction.words import REDACTED

# The rest of a URL after its scheme, as Kedro recognises it (``kedro.io.core``).
_REST = re.compile(r"(?<=[A-Za-z0-9+.-]://)[^\s'\"<>)\]]+")

_USER_INFO = re.compile(r"://[^/?#@\s]*(?:@[^/?#@\s]*)*@")
_AUTHORITY_ENDS = re.compile(r"[/?#]")

_ANCHOR = re.compile(r"[\w.~:/!%+,;-]{1,120}")
_WORDS = re.compile(r"[^A-Za-z0-9]+")
# Longer words with letters and digits in an anchor are taken to be generated.
_MAX_MIXED_CHARS = 12
_MAX_WORD_CHARS = 40


def redact_urls(text: str) -> str:
    """Return text whose URLs have lost their user info, their query, and most fragments.

    A fragment that names a place in a page stays, as in links to documentation: that of a URL
    without user info which assigns nothing and does not look like a token.

    Args:
        text: Any text.
    """
    return _REST.sub(_without_secrets, text) if "://" in text else text


def redact_user_info(text: str) -> str:
    """Return text whose URLs have lost only their user info."""
    return _USER_INFO.sub(f"://{REDACTED}@", text) if "://" in text else text


def passwords_in(url: str) -> Iterator[str]:
    """Yield the password of a URL, or the user if it has no password, in each written form.

    Args:
        url: Any text; nothing is yielded unless it is a URL with user info.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.isprintable() or " " in scheme:
        return
    authority = _AUTHORITY_ENDS.split(rest, maxsplit=1)[0]
    user_info, is_there, _ = authority.rpartition("@")
    if not is_there:
        return
    user, has_password, password = user_info.partition(":")
    written = password if has_password else user
    yield written
    yield unquote(written)


def _without_secrets(found: re.Match[str]) -> str:
    rest, has_fragment, fragment = found[0].partition("#")
    rest, has_query, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    _, has_user, host = authority.rpartition("@")
    shown = f"{REDACTED}@{host}" if has_user else authority
    shown += slash + path
    if has_query and query:
        shown += f"?{REDACTED}"
    if has_fragment and fragment:
        is_harmless = not has_user and fragment not in query and _is_anchor(fragment)
        shown += f"#{fragment if is_harmless else REDACTED}"
    return shown


def _is_anchor(fragment: str) -> bool:
    if not _ANCHOR.fullmatch(fragment):
        return False
    return not any(map(_is_made_up, _WORDS.split(fragment)))


def _is_made_up(word: str) -> bool:
    is_mixed = not (word.isalpha() or word.isdigit())
    return len(word) > (_MAX_MIXED_CHARS if is_mixed else _MAX_WORD_CHARS)
