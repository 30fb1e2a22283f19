"""The known secrets of a process, and the project's names, which are not secret."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kedro_flask_server.redaction.assignments import redact_assigned
from kedro_flask_server.redaction.forms import Forms, are_written
from kedro_flask_server.redaction.variables import is_plain, secrets_of_variable
from kedro_flask_server.redaction.words import REDACTED

_SHORTEST = 8
"""The length of the shortest secret that is recorded: shorter ones occur in words."""

# Secrets that may be forgotten stay if they are among the newest, or were learnt with them: a
# project may have many credentials.
_MIN_RECENT = 1_024
_MIN_READINGS = 8

# Bound of the clock differences between servers that share a store.
_MARGIN_S = 60.0

# Limit, even if a run prevents forgetting since it began: some hundred megabytes.
_MAX_RECENT = 200_000

# Limit of a project's names; later ones are not known to be names.
_MAX_NAMES = 50_000
_MAX_NAME_CHARS = 500

# An API key of this server (`access.keys`), and JSON Web Tokens (RFC 7519), which begin with
# ``{"``.
_API_KEY = re.compile(r"kfs_[\w-]{43}")
_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)?")


@dataclass(slots=True)
class _Learnt:
    """When a secret was last learnt: its time, and the number of the reading that found it."""

    at: float
    reading: int


class Secrets:
    """The secrets that a process knows."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin without secrets.

        Args:
            clock: Returns the time, in seconds since 1970-01-01T00:00:00Z.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._lasting: set[str] = set()
        # In the order in which they were last learnt.
        self._recent: dict[str, _Learnt] = {}
        self._readings = 0
        # Of both, the guesses from the names of variables.
        self._guessed: set[str] = set()
        self._names: set[str] = set()
        self._folded_names = ""
        self._knows_pipelines = False
        # The secrets of each variable, with its value: whether it is a path is checked once.
        self._by_variable: dict[tuple[str, str], list[str]] = {}
        self._forms = Forms()
        self._beginnings: tuple[str, ...] = ()
        self._version = 0
        self.announce: Callable[[list[str], bool], None] | None = None
        """Called with newly learnt secrets, and whether they are certain; not for lasting ones."""

    def learn(
        self, values: Iterable[str], *, is_certain: bool = True, is_lasting: bool = False
    ) -> None:
        """Record secrets of at least 8 characters.

        Args:
            values: The secrets.
            is_certain: Whether they are certain, as credentials are. The project's names are
                removed from guesses.
            is_lasting: Whether they belong to the process. Others, such as credentials that each
                run provides again, may be forgotten (`forget`).
        """
        pieces = (piece for value in values for piece in _pieces(value))
        found = dict.fromkeys(piece for piece in pieces if len(piece) >= _SHORTEST)
        if not found:
            return
        with self._lock:
            before = self._effective(found)
            if is_lasting:
                self._lasting.update(found)
                for value in found:
                    self._recent.pop(value, None)
            else:
                self._readings += is_certain
                self._record_recent([value for value in found if value not in self._lasting])
            self._guessed.difference_update(found if is_certain else ())
            if not is_certain:
                self._guessed.update(value for value in found if value not in before)
            too_many = len(self._recent) - _MAX_RECENT
            forgotten = self._drop([*islice(self._recent, max(0, too_many))])
            self._change(self._effective(found) - before, forgotten)
            announced = [value for value in found if value not in self._lasting]
        if announced and self.announce is not None:
            self.announce(announced, is_certain)

    def learn_environment(self, environ: Mapping[str, str], *, is_lasting: bool = False) -> None:
        """Record the secrets in variables, by their names.

        Args:
            environ: The environment.
            is_lasting: Whether the process began with it.
        """
        before, current = self._by_variable, {}
        for variable in environ.items():
            found = before.get(variable)
            if found is None:
                found = [each for each in secrets_of_variable(*variable) if not is_plain(each)]
            current[variable] = found
        self._by_variable = current
        values = [value for found in current.values() for value in found]
        self.learn(values, is_certain=False, is_lasting=is_lasting)

    def learn_all_in(self, content: Any) -> None:
        """Record every text and number in a value that is secret as a whole: credentials."""
        self.learn(_leaves(content))

    def learn_names(self, names: Iterable[str], *, are_pipelines_known: bool = False) -> None:
        """Record names of the project: fields of names show them, and they are never guesses.

        Args:
            names: Of the project, its pipelines, nodes, datasets and the like.
            are_pipelines_known: Whether those of all pipelines are included.
        """
        with self._lock:
            self._knows_pipelines = self._knows_pipelines or are_pipelines_known
            new = {name for name in names if 0 < len(name) <= _MAX_NAME_CHARS} - self._names
            new = set(sorted(new)[: _MAX_NAMES - len(self._names)])
            if not new:
                return
            before = self._effective(self._guessed)
            self._names = self._names | new
            self._folded_names += "".join(f"\n{name.casefold()}" for name in new)
            self._change((), before - self._effective(self._guessed), is_other=True)

    @property
    def names(self) -> list[str]:
        """The known names of the project."""
        return sorted(self._names)

    @property
    def knows_pipelines(self) -> bool:
        """Whether the names in all of the project's pipelines are known."""
        return self._knows_pipelines

    def is_name(self, text: str) -> bool:
        """Return whether a text is a name of the project."""
        return text in self._names

    @property
    def version(self) -> int:
        """A number that changes with the known secrets and names."""
        return self._version

    def knows(self, value: str) -> bool:
        """Return whether a value as a whole is secret."""
        is_known = value in self._lasting or value in self._recent
        return is_known and self._counts(value)

    def known(self, *, are_certain: bool) -> list[str]:
        """Return all known secrets of a kind.

        Args:
            are_certain: Whether to return the certain ones, or the guesses.
        """
        with self._lock:
            return [
                value
                for value in (*self._lasting, *self._recent)
                if (value not in self._guessed) is are_certain
            ]

    def keep_those_in(self, text: str) -> None:
        """Renew the secrets in a text that is to be stored, as if learnt now."""
        if not self._recent:
            return
        found = self._forms.found_in(text)
        if found:
            with self._lock:
                self._record_recent(are_written(self._recent, found))

    def has_many(self) -> bool:
        """Return whether there may be secrets to forget."""
        return len(self._recent) > _MIN_RECENT

    def forget(self, before: float) -> None:
        """Forget old secrets that no run and no text can contain any more.

        The newest stay in any case, with all that were learnt with them.

        Args:
            before: When the oldest run that has not ended was admitted, by the clock.
        """
        with self._lock:
            latest = min(before, self._clock()) - _MARGIN_S
            oldest_reading = self._readings - _MIN_READINGS
            old = [*self._recent.items()][:-_MIN_RECENT]
            forgotten = [
                value
                for value, learnt in old
                if learnt.at < latest and learnt.reading <= oldest_reading
            ]
            self._change((), self._drop(forgotten))

    def redact(self, text: str) -> str:
        """Return text without known secrets, and without what looks like one."""
        # Every log line passes here, and most contain nothing to redact.
        for beginning in self._beginnings:
            if beginning in text:
                text = self._forms.redact(text)
                break
        else:
            if self._forms.are_many:
                text = self._forms.redact(text)
        if "kfs_" in text:
            text = _API_KEY.sub(REDACTED, text)
        if "eyJ" in text:
            text = _WEB_TOKEN.sub(REDACTED, text)
        if "=" in text or ":" in text or "--" in text or "earer " in text:
            text = redact_assigned(text)
        return text

    def _record_recent(self, values: Iterable[str]) -> None:
        """Record values as learnt now, by the latest reading."""
        now = self._clock()
        for value in values:
            self._recent.pop(value, None)
            self._recent[value] = _Learnt(now, self._readings)

    def _drop(self, values: Iterable[str]) -> set[str]:
        """Forget values, and return those that were effective."""
        dropped = self._effective(values)
        for value in [*values]:
            del self._recent[value]
            self._guessed.discard(value)
        return dropped

    def _change(
        self, new: Iterable[str], forgotten: Iterable[str], *, is_other: bool = False
    ) -> None:
        new, forgotten = [*new], [*forgotten]
        if new or forgotten:
            self._forms = forms = self._forms.changed(new, forgotten)
            self._beginnings = () if forms.are_many else (*forms.by_beginning,)
        self._version += bool(new or forgotten or is_other)

    def _effective(self, values: Iterable[str]) -> set[str]:
        """Return the values that are effectively secret."""
        return {value for value in values if self.knows(value)}

    def _counts(self, value: str) -> bool:
        return value not in self._guessed or value.casefold() not in self._folded_names


SECRETS = Secrets()
"""The secrets of this process."""


def _pieces(value: str) -> Iterator[str]:
    """Yield a value and, if it has several lines, each line that is significant alone."""
    yield value.strip()
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if not line.startswith("-----"))


def _leaves(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        for value in content.values():
            yield from _leaves(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _leaves(value)
    elif content is not None and not isinstance(content, bool):
        yield str(content)
