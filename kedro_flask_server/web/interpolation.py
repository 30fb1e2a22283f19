"""Parameters that OmegaConf would resolve: with a resolver, a caller reads the environment.

``${`` begins an interpolation unless an odd number of backslashes stands before it, and ``???``
is a value that is missing (https://omegaconf.readthedocs.io/en/2.3_branch/grammar.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kedro_flask_server.text import LITERAL_DOLLAR

_BEGIN = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
_MISSING = "???"

_ASSIGNED = re.compile("[=:]")
_MISSING_IN_TEXT = re.compile(r"(?:^|[=:,])\s*\?\?\?\s*(?:,|$)")


def interpolations_in(content: Any) -> Iterator[tuple[str | int, ...]]:
    r"""Yield where in parameters there is what OmegaConf resolves.

    Args:
        content: The parameters, as JSON has them. A value with a literal ``${`` is written
            ``\${``; a key cannot hold one.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            if "${" in key or LITERAL_DOLLAR in key or key == _MISSING:
                yield (key,)
            else:
                yield from ((key, *path) for path in interpolations_in(value))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from ((index, *path) for path in interpolations_in(value))
    elif isinstance(content, str) and (content == _MISSING or _is_resolved(content)):
        yield ()


def has_interpolation(text: str) -> bool:
    """Return whether there is such in parameters in the format of ``kedro run --params``."""
    keys = (_ASSIGNED.split(item, maxsplit=1)[0].strip() for item in text.split(","))
    return (
        _is_resolved(text)
        or bool(_MISSING_IN_TEXT.search(text))
        or any("${" in key or _MISSING in key.split(".") for key in keys)
    )


def _is_resolved(text: str) -> bool:
    return LITERAL_DOLLAR in text or bool(_BEGIN.search(text))
