"""The secrets that a process knows, and the project's names, which are none."""

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
"""What is shorter is no secret that is kept: it is found in words."""

# What may be forgotten is kept all the same if it is among the newest, or was learnt with them: the
# credentials of a project are as many as they are.
_MIN_RECENT = 1_024
_MIN_READINGS = 8

# The clocks of servers that share a store differ.
_MARGIN_S = 60.0

# However long a run keeps all that was learnt since it began: some hundred megabytes.
_MAX_RECENT = 200_000

# Of a project, in all; what comes after is not known to be a name.
_MAX_NAMES = 50_000
_MAX_NAME_CHARS = 500

# A key of this server's (`access.keys`), and JSON Web Tokens (RFC 7519), which begin with ``{"``.
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
        """Know nothing yet.

        Args:
            clock: Returns the time, in seconds since 1970-01-01T00:00:00Z.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._lasting: set[str] = set()
        # In the order in which they were last learnt.
        self._recent: dict[str, _Learnt] = {}
        self._readings = 0
        # Of both, those that only the name of a variable says are secret.
        self._guessed: set[str] = set()
        self._names: set[str] = set()
        self._folded_names = ""
        self._knows_pipelines = False
        # What is secret of each variable, with its value: whether it is a path is seen once.
        self._judged: dict[tuple[str, str], list[str]] = {}
        self._forms = Forms()
        self._beginnings: tuple[str, ...] = ()
        self._version = 0
        self.announce: Callable[[list[str], bool], None] | None = None
        """Is told of what is learnt (whether for certain), but for what is the process's own."""

    def learn(
        self, values: Iterable[str], *, is_certain: bool = True, is_lasting: bool = False
    ) -> None:
        """Take down what is secret, but for what is shorter than 8 characters.

        Args:
            values: The secrets.
            is_certain: Whether that is known, as it is of credentials. Of what is guessed, the
                project's names are left out.
            is_lasting: Whether they are the process's own. Others, such as credentials that each
                run gives again, may be forgotten (`forget`).
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
                self._note([value for value in found if value not in self._lasting])
            self._guessed.difference_update(found if is_certain else ())
            if not is_certain:
                self._guessed.update(value for value in found if value not in before)
            too_many = len(self._recent) - _MAX_RECENT
            forgotten = self._drop([*islice(self._recent, max(0, too_many))])
            self._change(self._effective(found) - before, forgotten)
            told = [value for value in found if value not in self._lasting]
        if told and self.announce is not None:
            self.announce(told, is_certain)

    def learn_environment(self, environ: Mapping[str, str], *, is_lasting: bool = False) -> None:
        """Take down what is secret of variables, by their names.

        Args:
            environ: The environment.
            is_lasting: Whether it is the one with which the process began.
        """
        before, judged = self._judged, {}
        for variable in environ.items():
            found = before.get(variable)
            if found is None:
                found = [each for each in secrets_of_variable(*variable) if not is_plain(each)]
            judged[variable] = found
        self._judged = judged
        values = [value for found in judged.values() for value in found]
        self.learn(values, is_certain=False, is_lasting=is_lasting)

    def learn_all_in(self, content: Any) -> None:
        """Take down every text and number in what is secret as a whole, such as credentials."""
        self.learn(_leaves(content))

    def learn_names(self, names: Iterable[str], *, are_pipelines_known: bool = False) -> None:
        """Take down names of the project: they are shown where names are, and never guessed.

        Args:
            names: Of the project, its pipelines, nodes, datasets and the like.
            are_pipelines_known: Whether those of all pipelines are among them.
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
        """The names of the project that are known."""
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
        """A number that is another whenever more is known, or less."""
        return self._version

    def knows(self, value: str) -> bool:
        """Return whether a value as a whole is secret."""
        is_known = value in self._lasting or value in self._recent
        return is_known and self._counts(value)

    def known(self, *, are_certain: bool) -> list[str]:
        """Return all that is known.

        Args:
            are_certain: Whether what is known for certain, or what is guessed.
        """
        with self._lock:
            return [
                value
                for value in (*self._lasting, *self._recent)
                if (value not in self._guessed) is are_certain
            ]

    def keep_those_in(self, text: str) -> None:
        """Count what is secret in a text, which is to be kept, as learnt now."""
        if not self._recent:
            return
        found = self._forms.found_in(text)
        if found:
            with self._lock:
                self._note(are_written(self._recent, found))

    def has_many(self) -> bool:
        """Return whether there may be something to forget."""
        return len(self._recent) > _MIN_RECENT

    def forget(self, before: float) -> None:
        """Forget old secrets that no run and no text can hold any more.

        The newest are kept in any case, and all that were learnt with them.

        Args:
            before: When the oldest run that has not ended was taken in, on the clock.
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
        """Return text without the secrets that are known, and without what looks like one."""
        # This is on the way of each log line: most have nothing of what is looked for.
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

    def _note(self, values: Iterable[str]) -> None:
        """Count values as learnt now, by the latest reading."""
        now = self._clock()
        for value in values:
            self._recent.pop(value, None)
            self._recent[value] = _Learnt(now, self._readings)

    def _drop(self, values: Iterable[str]) -> set[str]:
        """Forget values, and return those of them that counted."""
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
        """Return those of some values that are secret."""
        return {value for value in values if self.knows(value)}

    def _counts(self, value: str) -> bool:
        return value not in self._guessed or value.casefold() not in self._folded_names


SECRETS = Secrets()
"""Those of this process."""


def _pieces(value: str) -> Iterator[str]:
    """Yield a value and, where it has several lines, each that says something by itself."""
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
