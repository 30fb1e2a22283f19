"""The files of a configuration, cached by their content, and what their entries are resolved to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.project.configuration.files import View
from kedro_flask_server.project.configuration.placeholders import (
    PLACEHOLDER,
    TemplateCache,
    texts_in,
)
from kedro_flask_server.project.configuration.resolvers import recording_resolvers
from kedro_flask_server.project.configuration.yaml_cache import parsed
from kedro_flask_server.project.configuration.yaml_tags import depends_on_itself_alone

GLOBALS, RUNTIME_PARAMS = "globals", "runtime_params"
"""Kedro's own resolvers, which look at nothing but the globals and the runtime parameters."""

_OF_KEDRO = re.compile(rf"\$\{{\s*({GLOBALS}|{RUNTIME_PARAMS})\s*:")

_MAX_FOLDERS = 64
_MAX_RESOLUTIONS = 8

_MISSING = "???"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The entries of some files, resolved with certain globals.

    Attributes:
        static: Those that depend on nothing else, not to be changed.
        dynamic: The names of those that depend on runtime parameters.
        guarded: Of the latter, those whose type may depend on them, as they are in the files.
        chosen_types: Those types, as they are in the files.
        templates: Of the latter, whatever the parameters' texts.
    """

    static: dict[str, Any]
    dynamic: frozenset[str]
    guarded: DictConfig | None
    chosen_types: tuple[str, ...]
    templates: dict[str, TemplateCache]

    @classmethod
    def of(cls, files: ParsedFiles, may_use: set[str]) -> Resolution:
        """Resolve the entries of some files one by one.

        Args:
            files: The files.
            may_use: The resolvers that they may use.

        Returns:
            The resolution; `UNCACHEABLE` where an entry uses any other resolver.
        """
        static: dict[str, Any] = {}
        for name in files.raw:
            try:
                with recording_resolvers() as used:
                    value = resolved(files.merged, name)
            except Exception:  # it may be another's parameter that makes it resolve
                used.add(RUNTIME_PARAMS)
            if not used <= may_use:
                return UNCACHEABLE
            if RUNTIME_PARAMS not in used:
                static[name] = value
        return cls._of_static(files, static)

    @classmethod
    def _of_static(cls, files: ParsedFiles, static: dict[str, Any]) -> Resolution:
        dynamic = files.raw.keys() - static.keys()
        types = {name: _chosen_types(files.raw[name]) for name in dynamic}
        guarded = {name: files.raw[name] for name, chosen in types.items() if chosen}
        return cls(
            static=static,
            dynamic=frozenset(dynamic),
            guarded=OmegaConf.create(guarded) if guarded else None,
            chosen_types=tuple(chain.from_iterable(types.values())),
            templates={name: TemplateCache() for name in dynamic},
        )


UNCACHEABLE = Resolution(
    static={}, dynamic=frozenset(), guarded=None, chosen_types=(), templates={}
)
"""The resolution of files that depend on more than files, globals and runtime parameters."""


class ParsedFiles(dict[Path, DictConfig]):
    """The configuration in each file of a folder, by its path; not to be changed.

    It is what Kedro's loader hands from one of its steps to the next, and brings along what they
    come to together.
    """

    def __init__(self, contents: dict[Path, Any]) -> None:
        """Merge the files.

        Args:
            contents: What they hold, as plain data.
        """
        super().__init__({path: OmegaConf.create(each) for path, each in contents.items()})
        self.contents = contents
        self.merged = cast("DictConfig", OmegaConf.merge(*self.values()) if self else None)
        raw: Any = OmegaConf.to_container(self.merged, resolve=False) if self else {}
        self.can_be_split = isinstance(raw, dict) and all(
            isinstance(name, str)
            and not holds([name, each], PLACEHOLDER)
            and not holds(each, _MISSING)
            for name, each in raw.items()
        )
        self.raw: dict[str, Any] = raw if self.can_be_split else {}
        self.plain = frozenset(name for name, each in self.raw.items() if not holds(each, "${"))
        self.templates = TemplateCache()
        self._resolutions: BoundedCache[str, Resolution] = BoundedCache(_MAX_RESOLUTIONS)

    def fresh(self) -> dict[Path, DictConfig]:
        """Return the same, for the caller to change."""
        return {path: OmegaConf.create(each) for path, each in self.contents.items()}

    def looks_outward_only(self, names: Iterable[str]) -> bool:
        """Return whether no entry of these is resolved by looking at others."""
        texts = [text for name in names for text in texts_in(self.raw[name]) if "${" in text]
        return all(text.count("${") == len(_OF_KEDRO.findall(text)) for text in texts)

    def resolution(self, global_values: str, may_use: set[str]) -> Resolution:
        """Return the resolution of the files with certain globals, made where there is none."""
        found = self._resolutions.get(global_values)
        if found is None:
            found = Resolution.of(self, may_use)
            self._resolutions.put(global_values, found)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFolder:
    """What some patterns found in a folder.

    Attributes:
        listing: All that was in the folder.
        paths: What the patterns found.
        is_certain: Whether two looks at the same listing have found the same.
        texts: What was in the files.
        files: What those hold.
    """

    listing: tuple[tuple[str, bool], ...]
    paths: tuple[Path, ...]
    is_certain: bool = False
    texts: tuple[bytes, ...] | None = None
    files: ParsedFiles | None = None


class ConfigCache:
    """The folders of a project's configuration that were read last, each by its own key.

    Without it, a run that reads 300 datasets takes 1.6 s and not 9 ms.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._folders: BoundedCache[Any, CachedFolder] = BoundedCache(_MAX_FOLDERS)
        self.has_new_entries = False
        """True once something was read that was not in the cache."""

    def files_in(
        self,
        folder: str,
        key: Any,
        *,
        view: View,
        read: Callable[[], dict[Path, DictConfig]],
        check: Callable[[dict[Path, DictConfig]], None],
    ) -> ParsedFiles | None:
        """Return the files in a folder.

        Args:
            folder: The folder's path.
            key: All that decides which files in it are meant.
            view: What is in the folders now.
            read: Reads the files as Kedro does.
            check: Raises where Kedro refuses what the files hold.

        Returns:
            The files; None where Kedro is to read them.
        """
        listing = view.listing_of(folder)
        if listing is None:
            return None
        cached = self._folders.get(key)
        if cached is None or cached.listing != listing or not cached.is_certain:
            paths = tuple(read())
            is_certain = cached is not None and (cached.listing, cached.paths) == (listing, paths)
            self._put(key, CachedFolder(listing=listing, paths=paths, is_certain=is_certain))
            return None
        return self._files_of(cached, key, view, check)

    def _files_of(
        self,
        cached: CachedFolder,
        key: Any,
        view: View,
        check: Callable[[dict[Path, DictConfig]], None],
    ) -> ParsedFiles | None:
        texts = tuple(view.bytes_in(str(path)) for path in cached.paths)
        if cached.files is not None and texts == cached.texts:
            return cached.files
        if any(text is None for text in texts):
            return None
        known = cast("tuple[bytes, ...]", texts)
        files = _parsed_files(dict(zip(cached.paths, known, strict=True)), check)
        if files is not None:
            found = CachedFolder(
                listing=cached.listing,
                paths=cached.paths,
                is_certain=True,
                texts=known,
                files=files,
            )
            self._put(key, found)
        return files

    def _put(self, key: Any, folder: CachedFolder) -> None:
        self.has_new_entries = True
        self._folders.put(key, folder)


def _parsed_files(
    texts: dict[Path, bytes], check: Callable[[dict[Path, DictConfig]], None]
) -> ParsedFiles | None:
    """Return what texts hold; None where Kedro is to read them."""
    try:
        decoded = {path: text.decode() for path, text in texts.items()}
        if not all(map(depends_on_itself_alone, decoded.values())):
            return None
        files = ParsedFiles({path: parsed(text) for path, text in decoded.items()})
        check(files)
    except Exception:  # Kedro finds the same, and says so in its own way
        return None
    return files if files.can_be_split else None


def resolved(config: DictConfig, name: str) -> Any:
    """Return an entry of a configuration, resolved."""
    value = config[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _chosen_types(entry: Any) -> list[str]:
    """Return the types in an entry of a catalog that runtime parameters may choose."""
    types = _types_in(entry) if isinstance(entry, (dict, list)) else ()
    return [each for each in types if isinstance(each, str) and RUNTIME_PARAMS in each]


def _types_in(config: Any) -> Iterator[Any]:
    """Yield what each ``type`` in a catalog's configuration is."""
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        if key == "type":
            yield value
        if isinstance(value, (dict, list)):
            yield from _types_in(value)


def is_scalar(value: Any) -> bool:
    """Return whether a value replaces another as it is, without a merge."""
    return value is None or (isinstance(value, (str, int, float)) and value != _MISSING)


def copied(content: Any) -> Any:
    """Return a copy of plain data, which is faster than `copy.deepcopy`."""
    if isinstance(content, dict):
        return {name: copied(each) for name, each in content.items()}
    if isinstance(content, list):
        return [copied(each) for each in content]
    return content


def holds(content: Any, part: str) -> bool:
    """Return whether some text in plain data has a part."""
    return any(part in text for text in texts_in(content))
