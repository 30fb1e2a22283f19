"""Texts of configuration files, each parsed once.

Kedro reads every file for every run, which is cheap, and parses it again, which is not. What is
kept here is found by the whole text: an edit is seen however soon it comes and however alike it
is, and so are files that come, go or lie in an archive.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from kedro.config import omegaconf_config
from omegaconf import OmegaConf, base, grammar_parser

# Longer ones are data rather than configuration, and would be held twice.
_MAX_CHARS = 1_000_000

_MAX_TEXTS = 256

# As many, and none that is longer: callers may send some (setting allow_param_interpolation).
_MAX_INTERPOLATIONS = 4096
_MAX_INTERPOLATION_CHARS = 1_000

_reading: ContextVar[list[Any] | None] = ContextVar("reading", default=None)


def parse_texts_once() -> None:
    """Have Kedro's configuration loader parse no text again that it has parsed.

    Nor has OmegaConf to parse an interpolation twice, which takes longer than to resolve it: what
    its grammar makes of a text depends on that alone, and is only read.

    There is no public door: the modules find another `OmegaConf`, and another `parse`, under
    those names.
    """
    omegaconf_config.OmegaConf = _OmegaConf  # type: ignore[attr-defined]
    base.parse = _parse_interpolation  # type: ignore[attr-defined]


@contextmanager
def noting_what_is_read() -> Iterator[list[Any]]:
    """Note what the texts hold that Kedro's configuration loader reads, interpolations unresolved.

    A text that is too long is not noted.
    """
    noted: list[Any] = []
    token = _reading.set(noted)
    try:
        yield noted
    finally:
        _reading.reset(token)


def note_read(content: Any) -> None:
    """Note what a text holds that is not parsed again."""
    reading = _reading.get()
    if reading is not None:
        reading.append(content)


_tree_of = lru_cache(_MAX_INTERPOLATIONS)(grammar_parser.parse)


def _parse_interpolation(value: str, *rules: str, **named_rules: str) -> Any:
    """Return the parse tree of a text, as OmegaConf's `parse` does; it is not to be changed."""
    parse = _tree_of if len(value) <= _MAX_INTERPOLATION_CHARS else grammar_parser.parse
    return parse(value, *rules, **named_rules)


class _OmegaConf(OmegaConf):
    @staticmethod
    def load(file_: str | Path | IO[Any], **options: Any) -> Any:
        """Return the configuration in a file, as `OmegaConf.load` does: it is the caller's own."""
        text = file_.getvalue() if isinstance(file_, io.StringIO) else ""
        if options or not 0 < len(text) < _MAX_CHARS:
            return OmegaConf.load(file_, **options)
        content = parsed(text)
        note_read(content)
        return OmegaConf.create(content)


@lru_cache(_MAX_TEXTS)
def parsed(text: str) -> Any:
    """Return what a YAML text holds, its interpolations unresolved; not to be changed."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
