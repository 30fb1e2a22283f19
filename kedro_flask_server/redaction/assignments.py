"""Redacts what a text assigns to secret names.

That is ``password=x``, ``password: x``, ``'secret_key': 'x'``, ``--token x``, ``Authorization:
Bearer x`` and ``Set-Cookie: a=x``. Prose stays where a rule can recognise it: ``token count: 5``,
``Password: required``, ``sorted(key=len)``.

The time is linear in the length of the text: names are only matched at their beginning, and no text
is scanned twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kedro_flask_server.redaction.names import is_number_of_tokens, is_secret_name
from kedro_flask_server.redaction.words import REDACTED, words_of

_NAMED = re.compile(
    r"""(?x) (?<![\w.-])
    (?: (?P<name> [\w.-]+ ) (?P<quote> \\{0,8}["'] )? \s{0,8}
        (?: =(?!=) | (?P<colon> :(?![:/]) ) ) [ \t]{0,8}
      | --(?P<option> [\w-]+ ) (?: [ \t]{1,8} | \\{0,8}["'],\s{0,8} ) (?=[^\s-]) )
    """
)

_VALUE = re.compile(
    r"""(?x) "(?:\\.|[^"\\])*"? | '(?:\\.|[^'\\])*'? | \\{1,8}"[^"]*"? | \S[^\s&;"']*"""
)
_COOKIES = re.compile(r"[^\s=;]{1,256}=[^\r\n\"']*")

_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|negotiate|apikey|api-key|key|ntlm)[ \t]{1,8}")
_CREDENTIALS_IN_PARTS = re.compile(
    r"(?i)(?:digest|aws4-hmac-sha256|oauth|hawk|signature)[ \t][^\r\n]*"
)
_BEARER = re.compile(r"(?<!\w)([Bb]earer[ \t]{1,8})(?=[\w.~+/-]*\d|[\w.~+/=-]{20})[\w.~+/=-]{8,}")

# Precedes the value of a typed name: ``password: str = "x"``.
_TYPE = re.compile(r"[\w.\[\]| ]{1,40}=(?!=)[ \t]{0,8}")

_WORD = re.compile(r"[<\[]?([A-Za-z]+)(?=[\s.,;:!?)\[\]>|]|$)")

# Follows a colon or an option in prose, in form errors and in Python source.
_PROSE = words_of(
    """
    a an and any are at be bool bytes can cannot could dict does expected field float for from has
    have if in input int invalid is it list may missing must needs no not object of on option
    optional or please required requires secretstr should str string text the this to tuple type
    unexpected union value was when with you your
    """
)
_NOTHING = frozenset({"none", "null", "true", "false"})
_PLACEHOLDERS = frozenset({"TEXT", "STRING", "PASSWORD", "TOKEN", "SECRET", "KEY", "VALUE"})

# Alone, these words have other meanings as well.
_WORDS_ALONE = frozenset({"auth", "dsn", "pass", "pat", "sas"})
_WORDS_OF_PROSE = frozenset({"credential", "credentials", "key", "passwords", "secrets", "tokens"})
_COOKIE_HEADERS = frozenset({"cookie", "set-cookie"})
_WORKING_DIRECTORY = re.compile(r"/|[A-Za-z]:\\")


def redact_assigned(text: str) -> str:
    """Return text without the values assigned to secret names.

    Args:
        text: Any text.
    """
    if not _may_assign(text):
        return text
    if "earer" in text:
        text = _BEARER.sub(rf"\1{REDACTED}", text)
    return "".join(_shown_parts(text))


def _may_assign(text: str) -> bool:
    """Return whether a text contains part of a secret name."""
    folded = text.casefold()  # it maps exactly the letters that `re.IGNORECASE` does
    return (
        "key" in folded
        or "pass" in folded
        or "token" in folded
        or "secret" in folded
        or "auth" in folded
        or "cred" in folded
        or "earer" in folded
        or "cookie" in folded
        or "pw" in folded
        or "jwt" in folded
        or "_pat" in folded
    )


def _shown_parts(text: str) -> Iterator[str]:
    shown_to, at = 0, 0
    while (found := _NAMED.search(text, at)) is not None:
        secret = _secret_of(text, found)
        if secret is None:
            # What follows the name may itself be a name.
            at = max(found.end("name"), found.end("option"))
            continue
        begin, at = secret
        yield text[shown_to:begin]
        yield REDACTED
        shown_to = at
    yield text[shown_to:]


def _secret_of(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """Return the span of a name's secret in a text; None where there is none."""
    given = found["option"] or found["name"]
    if not is_secret_name(given) and given != "PWD":  # ODBC's password
        return None
    name, begin = given.lstrip("-").casefold(), found.end()
    is_unquoted = found["colon"] is not None and found["quote"] is None
    if is_unquoted and name in _COOKIE_HEADERS:
        cookies = _COOKIES.match(text, begin)
        return cookies and cookies.span()
    if found["option"]:
        is_word = name == "key"
    else:
        is_word = name in _WORDS_ALONE or (name == "key" and found["colon"] is not None)
    if is_word or (is_unquoted and name in _WORDS_OF_PROSE):
        return None
    if is_unquoted or found["option"]:
        begin_after_type = _after_prose(text, begin)
        if begin_after_type is None:
            return None
        begin = begin_after_type
    if name.endswith("authorization"):
        parts = _CREDENTIALS_IN_PARTS.match(text, begin)
        if parts:
            return parts.span()
        scheme = _SCHEME.match(text, begin)
        begin = scheme.end() if scheme else begin
    value = _VALUE.match(text, begin)
    is_secret = value is not None and _may_be_secret(name, value[0], is_unquoted=is_unquoted)
    return value.span() if value and is_secret else None


def _after_prose(text: str, begin: int) -> int | None:
    """Return where a value begins, after its type; None in prose."""
    word = _WORD.match(text, begin)
    if word is None or not (word[1] in _PLACEHOLDERS or word[1].casefold() in _PROSE):
        return begin
    of_type = _TYPE.match(text, begin)
    return of_type.end() if of_type else None


def _may_be_secret(name: str, value: str, *, is_unquoted: bool) -> bool:
    content = value.strip("\"'\\").rstrip(",)}]")
    if is_number_of_tokens(name, content) or content.casefold() in _NOTHING:
        return False
    if name in ("pwd", "oldpwd"):
        return not _WORKING_DIRECTORY.match(content)
    if name == "key":
        return content != "lambda"
    return not is_unquoted or any(map(str.isalnum, content))
