"""Runtime parameters that OmegaConf takes literally, while everything else gets what was sent.

OmegaConf resolves every text with ``${``, credentials even twice. So a literal text is a
`Literal`, whose dollar signs become another character where it enters OmegaConf, and dollar signs
again where it leaves it: for readers of a configuration, for custom resolvers, for Kedro. What
resolvers make of such a text is literal, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from omegaconf import OmegaConf
from omegaconf.base import Node
from omegaconf.nodes import ValueNode
from yaml.representer import Representer, SafeRepresenter

from kedro_flask_server.project import kedro_patches
from kedro_flask_server.text import LITERAL_DOLLAR

_ESCAPED = re.compile(r"(?<!\\)(\\+)\$\{")

# Whether a loader that was given literal texts is active.
_is_active: ContextVar[bool] = ContextVar("are_literals_active", default=False)


class Literal(str):
    """A text in which OmegaConf resolves nothing; to everything else, a text."""

    __slots__ = ()

    def __copy__(self) -> Literal:
        return self

    def __deepcopy__(self, memo: object) -> Literal:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return str, (str(self),)


for _representer in (SafeRepresenter, Representer):
    _representer.add_representer(Literal, _representer.represent_str)


def literal(content: Any) -> Any:
    """Return runtime parameters whose texts are literal."""
    if isinstance(content, dict):
        return {key: literal(each) for key, each in content.items()}
    if isinstance(content, list):
        return [literal(each) for each in content]
    if isinstance(content, str) and "$" in content:
        if not hasattr(ValueNode._set_value, kedro_patches.ORIGINAL):
            kedro_patches.apply(kedro_patches.Stage.FIRST_LITERAL)
        return Literal(content)
    return content


def has_literals(content: Any) -> bool:
    """Return whether some text in plain data is literal."""
    if isinstance(content, (dict, list)):
        return any(map(has_literals, content.values() if isinstance(content, dict) else content))
    return type(content) is Literal


def plain(content: Any) -> Any:
    """Return configuration with ordinary texts for literal ones."""
    return _plain(content) if has_literals(content) or _has_marks(content) else content


def _plain(content: Any) -> Any:
    if isinstance(content, str):
        return content.replace(LITERAL_DOLLAR, "$")
    if isinstance(content, dict):
        return {_plain(key): _plain(each) for key, each in content.items()}
    if isinstance(content, list):
        return [_plain(each) for each in content]
    return content


def unescaped(params: Any) -> Any:
    r"""Return runtime parameters with ``${`` where ``\${`` was, as OmegaConf would have it."""
    if isinstance(params, str):
        return _ESCAPED.sub(lambda found: "\\" * (len(found[1]) // 2) + "${", params)
    if isinstance(params, dict):
        return {key: unescaped(each) for key, each in params.items()}
    if isinstance(params, list):
        return [unescaped(each) for each in params]
    return params


@contextmanager
def literals_active() -> Iterator[None]:
    """Pass literal texts to resolvers and from them, in this context."""
    token = _is_active.set(True)
    try:
        yield
    finally:
        _is_active.reset(token)


def passing_literals(name: str, resolver: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resolver that gets texts as they were sent.

    OmegaConf's own resolvers get OmegaConf's texts: some of them resolve what they are given.
    """
    if not _is_active.get() or name.startswith("oc."):
        return resolver

    def call(config: Any, parent: Any, node: Any, args: Any, args_str: Any) -> Any:
        own = set(_texts_in(args))
        result = resolver(config, parent, node, _outward(args), _outward(args_str))
        if isinstance(result, str):
            return _marked(result)
        return _inward(result, own) if _has_marks(own) else result

    return call


def marking(set_value: Callable[..., None]) -> Callable[..., None]:
    """Return a setter of OmegaConf's values that puts marks for a literal text's dollar signs."""

    @wraps(set_value)
    def set_marked(self: Any, value: Any, *args: Any, **kwargs: Any) -> None:
        set_value(self, _marked(value) if type(value) is Literal else value, *args, **kwargs)

    return set_marked


def unmarking(get: Callable[..., Any]) -> Callable[..., Any]:
    """Return a getter of OmegaConf's values that puts dollar signs for marks."""

    @wraps(get)
    def get_unmarked(*args: Any, **kwargs: Any) -> Any:
        return _outward(get(*args, **kwargs))

    return get_unmarked


def _outward(content: Any) -> Any:
    if isinstance(content, (str, dict, list, tuple)) and _has_marks(content):
        return _unmarked(content)
    return content


def _unmarked(content: Any) -> Any:
    """Return what leaves OmegaConf: literal for an active loader, plain for all others.

    A configuration stays what it is: its texts pass here when they are read.
    """
    if type(content) is str:
        text = content.replace(LITERAL_DOLLAR, "$")
        return Literal(text) if _is_active.get() else text
    if type(content) is dict:
        return {_unmarked(key): _unmarked(each) for key, each in content.items()}
    if type(content) in (list, tuple):
        return type(content)(map(_unmarked, content))
    return content


def _inward(content: Any, own: set[str]) -> Any:
    """Return what a resolver has made of literal texts.

    Args:
        content: What it returned.
        own: The texts that it was given; those without a mark are the project's own, which may
            use them as interpolations.
    """
    if isinstance(content, str):
        return content if content in own else _marked(content)
    if isinstance(content, dict):
        return {key: _inward(each, own) for key, each in content.items()}
    if isinstance(content, (list, tuple)):
        return [_inward(each, own) for each in content]
    if OmegaConf.is_config(content):
        raw = OmegaConf.to_container(content, resolve=False)
        return OmegaConf.create(_inward(raw, own), parent=content._get_parent())
    return content


def _marked(text: str) -> str:
    return text.replace("$", LITERAL_DOLLAR)


def _has_marks(content: Any) -> bool:
    return any(LITERAL_DOLLAR in text for text in _texts_in(content))


def _texts_in(content: Any) -> Iterator[str]:
    """Yield the texts in a resolver's arguments, as they are in OmegaConf."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, each in content.items():
            yield from _texts_in(key)
            yield from _texts_in(each)
    elif isinstance(content, (list, tuple, set)):
        for each in content:
            yield from _texts_in(each)
    elif isinstance(content, Node):  # a configuration is a node that holds others
        yield from _texts_in(content._value())
