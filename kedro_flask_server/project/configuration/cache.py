"""What is kept of the files of a configuration, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.project.configuration.placeholders import STAND_IN, Stencil, texts_in

GLOBALS, RUNTIME_PARAMS = "globals", "runtime_params"
"""Kedro's own resolvers, which look at nothing but the globals and the runtime parameters."""

_OF_KEDRO = re.compile(rf"\$\{{\s*({GLOBALS}|{RUNTIME_PARAMS})\s*:")

_MAX_FOLDERS = 64
_MAX_RESOLUTIONS = 8

_MISSING = "???"
_REFUSED = (_MISSING, STAND_IN)

Stencils = BoundedCache[Any, Stencil]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What the entries of some files come to with certain globals.

    Attributes:
        static: Those that depend on nothing else, not to be changed.
        dynamic: The names of those that depend on runtime parameters.
        guarded: Of the latter, those whose type may depend on them, as they are in the files.
        chosen_types: Those types, as they are in the files.
        stencils: What is known of the latter, whatever the parameters' texts.
    """

    static: dict[str, Any]
    dynamic: frozenset[str]
    guarded: DictConfig | None
    chosen_types: tuple[str, ...]
    stencils: dict[str, Stencils]

    @classmethod
    def of(cls, configs: KeptConfigs, static: dict[str, Any]) -> Resolution:
        """Return the resolution of some files, of which some entries are static."""
        dynamic = configs.raw.keys() - static.keys()
        types = {name: _chosen_types(configs.raw[name]) for name in dynamic}
        guarded = {name: configs.raw[name] for name, chosen in types.items() if chosen}
        return cls(
            static=static,
            dynamic=frozenset(dynamic),
            guarded=OmegaConf.create(guarded) if guarded else None,
            chosen_types=tuple(chain.from_iterable(types.values())),
            stencils={name: BoundedCache(_MAX_RESOLUTIONS) for name in dynamic},
        )


NOT_KEPT = Resolution(static={}, dynamic=frozenset(), guarded=None, chosen_types=(), stencils={})
"""The resolution of files that depend on more than files, globals and runtime parameters."""


class KeptConfigs(dict[Path, DictConfig]):
    """What the files of a folder hold, by their path; nobody may change it."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __init__(self, contents: dict[Path, Any]) -> None:
        """Take what the files hold, as plain data."""
        super().__init__({path: OmegaConf.create(each) for path, each in contents.items()})
        self.contents = contents
        self.merged = cast("DictConfig", OmegaConf.merge(*self.values()) if self else None)
        raw: Any = OmegaConf.to_container(self.merged, resolve=False) if self else {}
        self.can_be_split = isinstance(raw, dict) and all(
            isinstance(name, str)
            and not holds([name, each], STAND_IN)
            and not holds(each, _MISSING)
            for name, each in raw.items()
        )
        self.raw: dict[str, Any] = raw if self.can_be_split else {}
        self.plain = frozenset(name for name, each in self.raw.items() if not holds(each, "${"))
        self.resolutions: BoundedCache[str, Resolution] = BoundedCache(_MAX_RESOLUTIONS)
        self.stencils: Stencils = BoundedCache(_MAX_RESOLUTIONS)

    def fresh(self) -> dict[Path, DictConfig]:
        """Return the same to do with as one likes."""
        return {path: OmegaConf.create(each) for path, each in self.contents.items()}

    def looks_outward_only(self, names: Iterable[str]) -> bool:
        """Whether no entry of these is resolved by looking at others."""
        texts = [text for name in names for text in texts_in(self.raw[name]) if "${" in text]
        return all(text.count("${") == len(_OF_KEDRO.findall(text)) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was found in a folder by some patterns.

    Attributes:
        listing: All that was in it.
        paths: What the patterns found.
        is_certain: Whether two looks at the same listing have found the same.
        texts: What was in the files.
        configs: What those hold.
    """

    listing: tuple[tuple[str, bool], ...]
    paths: tuple[Path, ...]
    is_certain: bool = False
    texts: tuple[bytes, ...] | None = None
    configs: KeptConfigs | None = None


CatalogSource = tuple[str, tuple[KeptConfigs, ...]]
"""What a catalog comes from, but for runtime parameters: the globals, and what its files hold."""


@dataclass(slots=True)
class KeptFolders:
    """What is kept of the folders of a project's configuration, the most recent ones."""

    _by_place: BoundedCache[Any, Folder] = field(
        default_factory=partial(BoundedCache, _MAX_FOLDERS)
    )
    _types: BoundedCache[Any, Any] = field(default_factory=partial(BoundedCache, _MAX_RESOLUTIONS))
    has_read_anew: bool = False
    """Whether something was read that was not kept."""

    def get(self, place: Any) -> Folder | None:
        """Return what is kept of a place."""
        return self._by_place.get(place)

    def keep(self, place: Any, folder: Folder) -> None:
        """Keep what was found in a place."""
        self.has_read_anew = True
        self._by_place.put(place, folder)

    def types_in(self, catalog: CatalogSource | None) -> Any:
        """Return the types in a catalog without runtime parameters, if they are kept."""
        return None if catalog is None else self._types.get(catalog)

    def keep_types(self, catalog: CatalogSource | None, types: Any) -> None:
        """Keep the types in a catalog without runtime parameters."""
        if catalog is not None:
            self._types.put(catalog, types)


def _chosen_types(entry: Any) -> list[str]:
    """Return the types in an entry of a catalog that runtime parameters may choose."""
    types = (value for _, value in types_in(entry)) if isinstance(entry, (dict, list)) else ()
    return [each for each in types if isinstance(each, str) and RUNTIME_PARAMS in each]


def types_in(config: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield where each ``type`` stands in a catalog's configuration, and what it is."""
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        if key == "type":
            yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from types_in(value, (*path, key))


def is_scalar(value: Any) -> bool:
    """Whether a value takes another's place as it is."""
    return value is None or (isinstance(value, (str, int, float)) and value != _MISSING)


def copied(content: Any) -> Any:
    """Return a copy of plain data, which is faster than `copy.deepcopy`."""
    if isinstance(content, dict):
        return {name: copied(each) for name, each in content.items()}
    if isinstance(content, list):
        return [copied(each) for each in content]
    return content


def holds(content: Any, part: str) -> bool:
    """Whether some text in plain data has a part."""
    return any(part in text for text in texts_in(content))
