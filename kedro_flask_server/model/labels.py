"""Labels of runs: names with values, by which callers find their runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MAX_LABELS = 16
MAX_NAME_CHARS = 64
MAX_VALUE_CHARS = 128

# A key of RFC 9651, section 3.1.2.
_NAME = re.compile(r"[a-z*][a-z0-9_.*-]*")

# As openapi.json describes them: less than is taken, in characters beyond ASCII and in forms.
_NAME_FORM = r"[a-z*][a-z0-9_.*-]{0,63}"
LABEL_FORM = rf"{_NAME_FORM}(=[ -~]{{0,128}})?"
_ITEM_FORM = rf"{_NAME_FORM}(=[A-Za-z][A-Za-z0-9_.-]{{0,127}})?"
HEADER_FORM = rf"{_ITEM_FORM}(, {_ITEM_FORM}){{0,15}}"

TRUE = "true"
"""The value of a label that is given by its name alone."""


class LabelError(ValueError):
    """Raised for labels that are not valid; its text says why."""


def labels_in_query(given: Iterable[str]) -> dict[str, str]:
    """Return the labels of parameters ``label``.

    Args:
        given: Such as ``team=fraud`` and ``nightly``.

    Raises:
        LabelError: If one is not valid.
    """
    return checked(dict(map(split_label, given)))


def split_label(text: str) -> tuple[str, str]:
    """Return the name and the value of ``team=fraud``; ``nightly`` alone is `TRUE`."""
    name, has_value, value = text.partition("=")
    return name, value if has_value else TRUE


def checked(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels that are valid.

    Raises:
        LabelError: If one is not, or there are too many.
    """
    if len(labels) > MAX_LABELS:
        raise LabelError(f"more than {MAX_LABELS} labels")
    for name, value in labels.items():
        if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
            raise LabelError(
                "the name of a label begins with a lower-case letter or '*', goes on with lower-"
                f"case letters, digits, '_', '-', '.' and '*', and has up to {MAX_NAME_CHARS} "
                "characters"
            )
        if len(value) > MAX_VALUE_CHARS or not value.isprintable():
            raise LabelError(
                f"the value of a label is printable text of up to {MAX_VALUE_CHARS} characters"
            )
    return dict(labels)
