"""What is secret in this process, and text without it.

Whatever is kept, logged or sent goes through here, by way of ``project.safe_text``. The secrets
that are known are the process's, as its environment is: there is one `SECRETS` for it.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

REDACTED = "<redacted>"

_SHORTEST = 8
"""What is shorter is no secret that is kept: it is found in words."""

_MAX_RECENT = 256

_BEGINNING_CHARS = 5

_MAX_NAME_CHARS = 100

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token(?!iz)|credential|dsn$|database_url$"
    r"|(api|access|private|signing|encryption|account|auth)[_-]?key|(^|[_-])(key|pwd|auth|sas)$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"://[^/?#@\s]*(?:@[^/?#@\s]*)*@")

# Each name that `_ASSIGNED` finds has one of these.
_IN_NAMES = ("passw", "pwd", "secret", "token", "key")

# A key of this server's (`access.keys`).
_API_KEY = re.compile(r"kfs_[\w-]{43}")

# ``password=…``, ``"password": "…"``, ``'password': '…'``. A name is looked for where it begins
# alone, so that the time that a text takes grows with its length and no faster.
_ASSIGNED = re.compile(
    r"""(?ix)
    (?P<name>
        (?<![\w.-])
        (?:[\w.-]*(?:passw(?:or)?d|pwd|secret|token|(?:access|account|api|auth|private|secret)key)
          |(?:[\w.-]*[_.-])?key)
        \s{0,8}=(?!=)\s{0,8}
      | (?P<mark>\\{0,8}["'])[\w.-]*(?:passw(?:or)?d|secret|token|(?:access|api)[_-]?key)(?P=mark)
        \s{0,8}:\s{0,8}
    )
    (?P<value>"(?:\\.|[^"\\])*"? | '(?:\\.|[^'\\])*'? | \\{1,8}"[^"]*"? | \S[^\s&;"']*)
    """
)


class Secrets:
    """The secrets that a process knows."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._lasting: set[str] = set()
        # In the order in which they were last learnt.
        self._recent: dict[str, None] = {}
        self._forms: _Forms = {}
        self._version = 0
        self.announce: Callable[[list[str]], None] | None = None
        """Is told of each that becomes known."""

    def learn(self, values: Iterable[str], *, is_lasting: bool = False) -> None:
        """Take down what is secret, but for what is shorter than 8 characters.

        Args:
            values: The secrets.
            is_lasting: Whether they are the process's own. Of others, such as credentials that
                each run gives anew, the latest are kept.
        """
        pieces = (piece for value in values for piece in _pieces(value))
        long_enough = [piece for piece in pieces if len(piece) >= _SHORTEST]
        with self._lock:
            new = [
                value
                for value in dict.fromkeys(long_enough)
                if value not in self._lasting and value not in self._recent
            ]
            forgotten: list[str] = []
            if is_lasting:
                self._lasting.update(long_enough)
                for value in long_enough:
                    self._recent.pop(value, None)
            else:
                for value in long_enough:
                    if value not in self._lasting:
                        self._recent.pop(value, None)
                        self._recent[value] = None
                forgotten = [*self._recent][:-_MAX_RECENT]
                for value in forgotten:
                    del self._recent[value]
            if not new:
                return
            self._forms = _changed(self._forms, new, forgotten)
            self._version += 1
        if self.announce is not None:
            self.announce(new)

    @property
    def version(self) -> int:
        """A number that is another whenever more is known, or less."""
        return self._version

    def knows(self, value: str) -> bool:
        """Whether a value as a whole is secret."""
        return value in self._lasting or value in self._recent

    @property
    def known(self) -> list[str]:
        """All that is known."""
        with self._lock:
            return [*self._lasting, *self._recent]

    def learn_environment(self, environ: Mapping[str, str], *, is_lasting: bool = False) -> None:
        """Take down the variables whose name says that they are secret.

        Args:
            environ: The environment.
            is_lasting: Whether it is the one with which the process began.
        """
        values = [environ[name] for name in environ if _is_secret_name(name)]
        self.learn(values, is_lasting=is_lasting)

    def learn_all_in(self, content: Any) -> None:
        """Take down every text and number in what is secret as a whole, such as credentials."""
        self.learn(_leaves(content))

    def redact(self, text: str) -> str:
        """Return text without the secrets that are known, and without what looks like one."""
        # Secrets of a kind begin alike, and most texts have none of their beginnings.
        by_beginning = self._forms
        begun = [beginning for beginning in by_beginning if beginning in text]
        if begun:
            found = [form for each in begun for form in by_beginning[each] if form in text]
            # The longest first, so that nothing is left of one that contains another.
            for form in sorted(found, key=len, reverse=True):
                text = text.replace(form, REDACTED)
        if "kfs_" in text:
            text = _API_KEY.sub(REDACTED, text)
        if ("=" in text or ":" in text) and _may_assign(text):
            text = _ASSIGNED.sub(_without_value, text)
        return text


SECRETS = Secrets()
"""Those of this process."""


def redact_content(content: Any) -> Any:
    """Return JSON content without what is secret in this process, or is called so.

    Args:
        content: Any JSON content. Of URLs in it, the user info is left out; of what has a secret
            name, every text.
    """
    return _redact(content, is_secret=False)


def redact_texts(content: Any) -> Any:
    """Return JSON content with every text in it redacted, whatever it is called.

    Args:
        content: Any JSON content; its names stay as they are.
    """
    if isinstance(content, Mapping):
        return {name: redact_texts(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [redact_texts(each) for each in content]
    return SECRETS.redact(content) if isinstance(content, str) else content


def _redact(content: Any, *, is_secret: bool) -> Any:
    if isinstance(content, dict):
        return {
            _redact_value(name): _redact(value, is_secret=is_secret or _is_secret(name, value))
            for name, value in content.items()
        }
    if isinstance(content, list):
        return [_redact(each, is_secret=is_secret) for each in content]
    if content is None or isinstance(content, bool):
        return content
    if is_secret or SECRETS.knows(str(content)):
        return REDACTED
    return _redact_value(content) if isinstance(content, str) else content


def _redact_value(text: str) -> str:
    return _USER_INFO.sub(f"://{REDACTED}@", SECRETS.redact(text))


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, (int, float)) and name.lower().endswith("tokens"):  # how many
        return False
    return _is_secret_name(name)


def _is_secret_name(name: str) -> bool:
    if len(name) > _MAX_NAME_CHARS:
        return bool(_SECRET_NAME.search(name))
    return _is_short_secret_name(name)


@lru_cache(4096)
def _is_short_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _may_assign(text: str) -> bool:
    folded = text.casefold()  # which tells no letters apart that `re.IGNORECASE` does not
    return any(part in folded for part in _IN_NAMES)


def _without_value(found: re.Match[str]) -> str:
    return f"{found['name']}{REDACTED}"


def _pieces(value: str) -> Iterator[str]:
    """Yield a value and, where it has several lines, each that says something by itself."""
    yield value.strip()
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if not line.startswith("-----"))


@lru_cache(2 * _MAX_RECENT)
def _forms(value: str) -> frozenset[str]:
    """Return how a value may be written: as it is, in JSON, in Python, in a URL."""
    in_json, in_ascii = json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
    in_urls = {
        quote(value, safe="", errors="replace"),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
    }
    return frozenset((value, in_json, in_ascii, repr(value)[1:-1], *in_urls))


# How secrets may be written, by how that begins; of each, how many secrets are written so.
_Forms = dict[str, dict[str, int]]


def _changed(by_beginning: _Forms, new: Iterable[str], forgotten: Iterable[str]) -> _Forms:
    """Return a copy that has the forms of some secrets, and no longer those of others."""
    changes = Counter(form for value in new for form in _forms(value))
    changes.subtract(form for value in forgotten for form in _forms(value))
    changed, fresh = dict(by_beginning), {form[:_BEGINNING_CHARS] for form in changes}
    changed |= {beginning: dict(by_beginning.get(beginning, {})) for beginning in fresh}
    for form, change in changes.items():
        forms = changed[form[:_BEGINNING_CHARS]]
        forms[form] = forms.get(form, 0) + change
        if not forms[form]:
            del forms[form]
    return {beginning: forms for beginning, forms in changed.items() if forms}


def _leaves(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        for value in content.values():
            yield from _leaves(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _leaves(value)
    elif content is not None and not isinstance(content, bool):
        yield str(content)
