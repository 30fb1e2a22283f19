"""YAML tags of the project's own: what they make of a text may depend on more than the text.

A project registers tags such as ``!include`` with PyYAML, for the whole process
(https://pyyaml.org/wiki/PyYAMLDocumentation), and OmegaConf's loader inherits them. Their code is
the project's: it opens other files, and is executed when a run reads its configuration, not
earlier.
"""

from __future__ import annotations

from typing import Any

import yaml

_STANDARD = "tag:yaml.org,2002:"

_LIBRARIES = ("yaml", "omegaconf")

# OmegaConf uses the second where PyYAML was built with it.
_LOADERS: tuple[Any, ...] = (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def has_own_tags() -> bool:
    """Return whether the project has registered any tag with PyYAML."""
    return any(_tables_of(each) != _standard.tables and _has_own(each) for each in _LOADERS)


def depends_on_itself_alone(text: str) -> bool:
    """Return whether a YAML text always has the same content.

    Args:
        text: The text. Each tag in it has an exclamation mark (YAML 1.2, section 6.8.2 and 6.9.1),
            unless the project has changed the meaning of what has none.
    """
    if not has_own_tags():
        return True
    return "!" not in text and not any(map(_changes_what_has_no_tag, _LOADERS))


class _StandardTables:
    """The tables of PyYAML's that were last found to have no tag of the project's."""

    def __init__(self) -> None:
        self.tables: tuple[Any, ...] | None = None


_standard = _StandardTables()


def _tables_of(loader: Any) -> tuple[Any, ...]:
    return (
        loader.yaml_constructors,
        loader.yaml_multi_constructors,
        loader.yaml_implicit_resolvers,
        loader.yaml_path_resolvers,
    )


def _has_own(loader: Any) -> bool:
    constructors = {**loader.yaml_constructors, **loader.yaml_multi_constructors}
    is_own = any(
        _is_own(tag, each) for tag, each in constructors.items()
    ) or _changes_what_has_no_tag(loader)
    if not is_own:
        _standard.tables = tuple(dict(each) for each in _tables_of(loader))
    return is_own


def _changes_what_has_no_tag(loader: Any) -> bool:
    constructors = {**loader.yaml_constructors, **loader.yaml_multi_constructors}
    implicit = (tag for each in loader.yaml_implicit_resolvers.values() for tag, _ in each)
    return (
        any(_is_own(tag, each) for tag, each in constructors.items() if not _is_exclaimed(tag))
        or any(map(_is_exclaimed, implicit))
        or bool(loader.yaml_path_resolvers)
    )


def _is_own(tag: str | None, constructor: Any) -> bool:
    # That of `yaml.YAMLObject` is bound to the project's class.
    owner = getattr(constructor, "__self__", constructor)
    module = str(getattr(owner, "__module__", ""))
    is_standard = tag is None or tag.startswith(_STANDARD)
    return not is_standard or module.partition(".")[0] not in _LIBRARIES


def _is_exclaimed(tag: str | None) -> bool:
    return tag is not None and not tag.startswith(_STANDARD)
