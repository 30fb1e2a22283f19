"""Texts of configuration files, each parsed once.

Kedro reads every file for every run, which is cheap, and parses it again, which is not. What is
kept here is found by the whole text: an edit is seen however soon it comes and however alike it
is, and so are files that come, go or lie in an archive. A text with a tag that the project has
taught PyYAML is parsed for every run: it may stand for another file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from kedro.config import omegaconf_config
from omegaconf import DictConfig, OmegaConf, base, grammar_parser

from kedro_flask_server.project.configuration.yaml_tags import depends_on_itself_alone

# Longer ones are data rather than configuration, and would be held twice.
_MAX_CHARS = 1_000_000

_MAX_TEXTS = 256

# As many, and none that is longer: callers may send some (setting allow_param_interpolation).
_MAX_INTERPOLATIONS = 4096
_MAX_INTERPOLATION_CHARS = 1_000

_noted: ContextVar[list[Merged] | None] = ContextVar("merges", default=None)


def parse_texts_once() -> None:
    """Have Kedro's configuration loader parse no text again that it has parsed.

    Nor has OmegaConf to parse an interpolation twice, which takes longer than to resolve it: what
    its grammar makes of a text depends on that alone, and is only read.

    There is no public door: the modules find another `OmegaConf`, and another `parse`, under
    those names.
    """
    omegaconf_config.OmegaConf = _OmegaConf  # type: ignore[attr-defined]
    base.parse = _parse_interpolation  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Merged:
    """What the files of one folder hold together, with nothing resolved; not to be changed.

    Attributes:
        config: For OmegaConf to resolve.
        raw: The same as plain data.
    """

    config: DictConfig
    raw: dict[str, Any]


@contextmanager
def noting_merges() -> Iterator[list[Merged]]:
    """Note what the folders hold that Kedro's configuration loader resolves, in its order."""
    noted: list[Merged] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note_merge(config: DictConfig, raw: dict[str, Any]) -> None:
    """Note what a folder holds, in the form of `Merged`."""
    noted = _noted.get()
    if noted is not None:
        noted.append(Merged(config, raw))


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
        if not depends_on_itself_alone(text):
            return OmegaConf.load(file_)
        return OmegaConf.create(parsed(text))

    @staticmethod
    def unsafe_merge(*configs: Any, **options: Any) -> Any:
        """Return what some configurations hold together, as `OmegaConf.unsafe_merge` does."""
        if _noted.get() is None or not all(map(OmegaConf.is_dict, configs)):
            return OmegaConf.unsafe_merge(*configs, **options)
        merged: Any = OmegaConf.unsafe_merge(*configs, **options)
        raw: Any = OmegaConf.to_container(merged, resolve=False)
        note_merge(merged, raw)
        return merged


@lru_cache(_MAX_TEXTS)
def parsed(text: str) -> Any:
    """Return what a YAML text holds, its interpolations unresolved; not to be changed."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
