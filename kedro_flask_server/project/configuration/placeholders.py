"""Configuration that is resolved but for the texts of runtime parameters, which are put in.

OmegaConf takes a tenth of a millisecond for an interpolation, and what it makes of most does not
depend on what a parameter's text is, but on whether there is one. So it resolves with a stand-in
for each text, once, and the texts are put in their place for each run. Where a text decides more
than that (it names another key), or a parameter is no text, nothing is put in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.project.configuration.literals import Literal, has_literals

# Characters that Unicode leaves to programs.
STAND_IN = "\ufdd2"
_END = "\ufdd3"
_ESCAPED = STAND_IN.encode("unicode_escape").decode()

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_UNRESOLVED = "???"
_NOTHING = object()


class NotCutError(Exception):
    """Raised where more depends on a parameter than the text that is put in."""


class _Cutting:
    """Stands in for the texts of a run's parameters while a stencil is made."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.stand_ins: dict[str, str | None] = {}
        self.environ: dict[str, str | None] = {}

    def look_up(self, variable: str) -> str | None:
        """Return what stands for a parameter's text; None where there is no such parameter.

        Raises:
            NotCutError: If it is no text.
        """
        if variable not in self.stand_ins:
            text = _text_of(self._params, variable)
            stand_in = f"{STAND_IN}{len(self.stand_ins)}{_END}"
            self.stand_ins[variable] = None if text is None else stand_in
        return self.stand_ins[variable]


_cutting: ContextVar[_Cutting | None] = ContextVar("cutting", default=None)


@dataclass(frozen=True, slots=True)
class Stencil:
    """What some configuration comes to, with stand-ins.

    Attributes:
        content: The configuration, as plain data; not to be changed.
        stand_ins: For each parameter that was looked up, what stands for its text; None where
            there was no such parameter.
        environ: Each variable of the environment that was looked up, as it was.
    """

    content: Any
    stand_ins: Mapping[str, str | None]
    environ: Mapping[str, str | None]

    def texts(self, params: Mapping[str, Any]) -> dict[str, str] | None:
        """Return what is to be put in the stand-ins' places for a run's parameters.

        Returns:
            The texts; None where the stencil is none for these parameters.
        """
        if any(os.environ.get(name) != value for name, value in self.environ.items()):
            return None
        texts = {}
        for variable, stand_in in self.stand_ins.items():
            try:
                text = _text_of(params, variable)
            except NotCutError:
                return None
            if (text is None) != (stand_in is None):
                return None
            if text is not None and stand_in is not None:
                texts[stand_in] = text
        return texts

    @property
    def found(self) -> list[str]:
        """The parameters that there were."""
        return [variable for variable, stand_in in self.stand_ins.items() if stand_in is not None]


def cut(resolve: Callable[[], Any], params: Mapping[str, Any]) -> Stencil | None:
    """Return a stencil of what some configuration is resolved to.

    Args:
        resolve: Resolves it, with `stand_in_for` where runtime parameters are looked up.
        params: A run's parameters.

    Returns:
        The stencil; None where there is none for these parameters.
    """
    cutting = _Cutting(params)
    token = _cutting.set(cutting)
    try:
        content = resolve()
    except Exception:  # it is to be found out anew, by those who say why
        return None
    finally:
        _cutting.reset(token)
    if any(_ESCAPED in text for text in texts_in(content)):  # of a list that has become text
        return None
    return Stencil(content, cutting.stand_ins, cutting.environ)


def stand_in_for(variable: str) -> str | None:
    """Return what stands for a parameter's text, where a stencil is made and there is one.

    Raises:
        Exception: If there cannot be a stencil.
    """
    cutting = _cutting.get()
    if cutting is None:
        return None
    refuse_stand_in(variable)
    return cutting.look_up(variable)


def refuse_stand_in(name: str) -> None:
    """Give up a stencil where what is looked up depends on a parameter's text.

    Raises:
        Exception: If that is so.
    """
    if STAND_IN in name and _cutting.get() is not None:
        raise NotCutError


def note_variable(name: str) -> None:
    """Note a variable of the environment that is looked up, where a stencil is made."""
    cutting = _cutting.get()
    if cutting is not None:
        refuse_stand_in(name)
        value = os.environ.get(name)
        refuse_stand_in(value or "")
        cutting.environ[name] = value


def put_in(content: Any, texts: Mapping[str, str]) -> Any:
    """Return a copy of plain data with texts in the places of what stands for them.

    Raises:
        NotCutError: If that comes to what is more than a text to OmegaConf.
    """
    if isinstance(content, str):
        if STAND_IN in content:
            for stand_in, text in texts.items():
                content = content.replace(stand_in, text)
            if content == _UNRESOLVED:
                raise NotCutError
            if "$" in content and any(map(has_literals, texts.values())):
                return Literal(content)  # OmegaConf may yet merge it with another environment's
        return content
    if isinstance(content, dict):
        return {put_in(name, texts): put_in(each, texts) for name, each in content.items()}
    if isinstance(content, list):
        return [put_in(each, texts) for each in content]
    return content


def texts_in(content: Any) -> Iterator[str]:
    """Yield every text in plain data, those of keys included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, each in content.items():
            yield from texts_in(name)
            yield from texts_in(each)
    elif isinstance(content, list):
        for each in content:
            yield from texts_in(each)


def _text_of(params: Mapping[str, Any], variable: str) -> str | None:
    """Return the text of a parameter by its path; None where there is none.

    Raises:
        NotCutError: If it is no text.
    """
    if not _PATH.fullmatch(variable):
        raise NotCutError
    value: Any = params
    for name in variable.split("."):
        if not isinstance(value, dict):
            raise NotCutError
        value = value.get(name, _NOTHING)
        if value is _NOTHING:
            return None
    if not isinstance(value, str) or _UNRESOLVED in value or STAND_IN in value:
        raise NotCutError
    if "${" in value and not has_literals(value):
        raise NotCutError
    return value
