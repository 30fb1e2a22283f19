"""The written forms of secrets, and the search for them in a text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from kedro_flask_server.redaction.words import REDACTED

_BEGINNING_CHARS = 5

_MANY = 150
_PLACES_FOR_EACH = 2


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms of some secrets.

    Similar secrets have a common beginning, and most texts contain none of the beginnings.

    Attributes:
        by_beginning: The forms by their beginnings; for each form, how many secrets have it.
    """

    by_beginning: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def are_many(self) -> bool:
        """Whether looking up each place of a text is cheaper than searching for each form."""
        return len(self.by_beginning) > _MANY

    def changed(self, new: Iterable[str], forgotten: Iterable[str]) -> Forms:
        """Return forms with those of some secrets added, and of others removed.

        Args:
            new: Secrets that are not included.
            forgotten: Secrets that are included.
        """
        changes = Counter(form for value in new for form in _forms(value))
        changes.subtract(form for value in forgotten for form in _forms(value))
        beginnings = {form[:_BEGINNING_CHARS] for form in changes}
        changed = dict(self.by_beginning)
        changed |= {each: dict(self.by_beginning.get(each, {})) for each in beginnings}
        for form, change in changes.items():
            forms = changed[form[:_BEGINNING_CHARS]]
            forms[form] = forms.get(form, 0) + change
            if not forms[form]:
                del forms[form]
        for beginning in beginnings:
            if not changed[beginning]:
                del changed[beginning]
        return Forms(changed)

    def found_in(self, text: str) -> list[str]:
        """Return the forms that a text contains."""
        by_beginning = self.by_beginning
        if self.are_many and len(by_beginning) * _PLACES_FOR_EACH > len(text):
            places = range(len(text) - _BEGINNING_CHARS + 1)
            begun = [*by_beginning.keys() & {text[at : at + _BEGINNING_CHARS] for at in places}]
        else:
            begun = [beginning for beginning in by_beginning if beginning in text]
        return begun and [form for each in begun for form in by_beginning[each] if form in text]

    def redact(self, text: str) -> str:
        """Return a text without these forms."""
        found = self.found_in(text)
        if found:
            # The longest first, so that nothing remains of one that contains another.
            for form in sorted(found, key=len, reverse=True):
                text = text.replace(form, REDACTED)
        return text


def are_written(values: Iterable[str], forms: Iterable[str]) -> list[str]:
    """Return the secrets that have one of some forms."""
    wanted = frozenset(forms)
    return [value for value in values if not wanted.isdisjoint(_forms(value))]


def _forms(value: str) -> frozenset[str]:
    """Return the written forms of a value: plain, in JSON, in Python, in a URL."""
    if value.isascii() and value.isalnum():  # the same in all
        return frozenset((value,))
    in_json, in_ascii = json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
    in_urls = {
        quote(value, safe="", errors="replace"),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
    }
    return frozenset((value, in_json, in_ascii, repr(value)[1:-1], *in_urls))
