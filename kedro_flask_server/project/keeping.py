"""Kedro's configuration loader, which does nothing twice that comes out the same.

A run reads every file of the configuration once, and gets its own copy of what they hold. What is
kept is found again by the list of all files and by every byte in them, so that no edit is missed,
however soon it comes and however alike it is. Kept are the paths that a pattern finds, the parsed
files, and those of their entries that nothing changes but the files: what runtime parameters are
resolved in is resolved for each run, and where any other resolver is used (``oc.env``, those
of the project), Kedro does it all.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from kedro.config import OmegaConfigLoader
from kedro.config.omegaconf_config import _NO_VALUE
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from kedro_flask_server.project.folders import View
from kedro_flask_server.project.parsing import note_read, parsed
from kedro_flask_server.project.resolvers import (
    ResolverLayer,
    active_loader,
    as_omegaconf_keeps,
    noting_resolvers,
)
from kedro_flask_server.project.stencils import (
    STAND_IN,
    Stencil,
    cut,
    note_variable,
    put_in,
    refuse_stand_in,
    stand_in_for,
)

_MAX_FOLDERS = 64
_MAX_RESOLUTIONS = 8

# Kedro's own resolvers, which look at nothing but the globals and the runtime parameters.
_GLOBALS, _RUNTIME_PARAMS = "globals", "runtime_params"

# OmegaConf's, which Kedro has for credentials alone.
_ENVIRONMENT = "oc.env"
_OF_KEDRO = re.compile(rf"\$\{{\s*({_GLOBALS}|{_RUNTIME_PARAMS})\s*:")

_MISSING = "???"


_left_to_kedro: ContextVar[list[str] | None] = ContextVar("left_to_kedro", default=None)


@contextmanager
def noting_what_is_left_to_kedro() -> Iterator[list[str]]:
    """Note the kinds of configuration that depend on more than files and runtime parameters.

    Nothing is noted of a project's own configuration loader.
    """
    noted: list[str] = []
    token = _left_to_kedro.set(noted)
    try:
        yield noted
    finally:
        _left_to_kedro.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What the entries of some files come to with certain globals.

    Attributes:
        static: Those that depend on nothing else, not to be changed.
        dynamic: The names of those that depend on runtime parameters.
        guarded: Of the latter, those whose type may depend on them, as they are in the files.
        stencils: What is known of the latter, whatever the parameters' texts.
    """

    static: dict[str, Any]
    dynamic: frozenset[str]
    guarded: DictConfig | None
    stencils: dict[str, OrderedDict[Any, Stencil | None]] = field(default_factory=dict)


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
            isinstance(name, str) and not _holds(each, _MISSING) and not _holds(each, STAND_IN)
            for name, each in raw.items()
        )
        self.raw: dict[str, Any] = raw if self.can_be_split else {}
        self.plain = frozenset(name for name, each in self.raw.items() if not _holds(each, "${"))
        self.resolutions: OrderedDict[str, Resolution | None] = OrderedDict()
        self.stencils: OrderedDict[Any, Stencil | None] = OrderedDict()

    def fresh(self) -> dict[Path, DictConfig]:
        """Return the same to do with as one likes."""
        return {path: OmegaConf.create(each) for path, each in self.contents.items()}

    def looks_outward_only(self, names: Iterable[str]) -> bool:
        """Whether no entry of these is resolved by looking at others."""
        texts = [text for name in names for text in _texts(self.raw[name]) if "${" in text]
        return all(text.count("${") == len(_OF_KEDRO.findall(text)) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
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

    _by_place: OrderedDict[Any, _Folder] = field(default_factory=OrderedDict)
    _types: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    has_read_anew: bool = False
    """Whether something was read that was not kept."""

    def get(self, place: Any) -> _Folder | None:
        """Return what is kept of a place."""
        return self._by_place.get(place)

    def keep(self, place: Any, folder: _Folder) -> None:
        """Keep what was found in a place."""
        self.has_read_anew = True
        _put(self._by_place, place, folder, _MAX_FOLDERS)

    def types_in(self, catalog: CatalogSource | None) -> Any:
        """Return the types in a catalog without runtime parameters, if they are kept."""
        return None if catalog is None else self._types.get(catalog)

    def keep_types(self, catalog: CatalogSource | None, types: Any) -> None:
        """Keep the types in a catalog without runtime parameters."""
        if catalog is not None:
            _put(self._types, catalog, types, _MAX_RESOLUTIONS)


class KeepingConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader``, with its two inner steps: read a folder, and resolve what it holds."""

    _layer: ResolverLayer
    kept: KeptFolders
    """What all loaders of a class keep."""

    # Of the catalog, base and environment; None where something was left to Kedro.
    _catalog_parts: list[tuple[KeptConfigs, Resolution]] | None = None

    @classmethod
    def is_possible(cls) -> bool:
        """Whether this Kedro has these steps (since 1.7)."""
        return hasattr(OmegaConfigLoader, "_read_dir_configs") and hasattr(
            OmegaConfigLoader, "_guard_runtime_params_in_catalog_type"
        )

    @property
    def dynamic_names(self) -> frozenset[str] | None:
        """The datasets of the catalog that depend on runtime parameters; None where any may."""
        parts = self._catalog_parts
        return frozenset().union(*(part.dynamic for _, part in parts)) if parts else None

    @property
    def catalog_source(self) -> CatalogSource | None:
        """What the catalog was made of; None where nothing is to be kept of it."""
        parts = self._catalog_parts
        return (repr(self._globals), tuple(each for each, _ in parts)) if parts else None

    def __getitem__(self, key: str) -> dict[str, Any]:
        if key == "catalog":
            self._catalog_parts = []
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == _GLOBALS:  # what was made of the former ones stays in Kedro's loader, in part
            self._are_globals_replaced = True
        super().__setitem__(key, value)

    _are_globals_replaced = False

    def _read_dir_configs(
        self,
        conf_path: str,
        patterns: Iterable[str],
        key: str,
        processed_files: set[Path],
        read_environment_variables: bool | None = False,
    ) -> dict[Path, DictConfig]:
        """Return what is in the files of a folder that some patterns find."""
        patterns = tuple(patterns)
        configs = None
        if self._protocol == "file":
            configs = self._look_into(conf_path, patterns, key)
        if configs is None:
            read = super()._read_dir_configs
            return cast(
                "dict[Path, DictConfig]",
                read(conf_path, patterns, key, processed_files, read_environment_variables),
            )
        processed_files.update(configs)
        for content in configs.contents.values():
            note_read(content)
        return configs

    def _view(self) -> View:
        """Return what is in the folders: the same of all that a run reads at its beginning."""
        view = self.__dict__.get("_last_view")
        if view is None or not view.is_fresh:
            view = self.__dict__["_last_view"] = View()
        return cast("View", view)

    def _register_globals_resolver(self) -> None:
        self._layer.put(_GLOBALS, _globals_resolver())

    def _register_runtime_params_resolver(self) -> None:
        self._layer.put(_RUNTIME_PARAMS, _runtime_params_resolver())

    def _look_into(self, conf_path: str, patterns: tuple[str, ...], key: str) -> KeptConfigs | None:
        place = (conf_path, patterns, key, str(self.conf_source), self.ignore_hidden)
        listing = self._view().listing_of(conf_path)
        if listing is None:
            return None
        kept = self.kept.get(place)
        if kept is None or kept.listing != listing or not kept.is_certain:
            found = super()._read_dir_configs(conf_path, patterns, key, set())
            paths = tuple(found)
            is_certain = kept is not None and (kept.listing, kept.paths) == (listing, paths)
            kept = _Folder(listing=listing, paths=paths, is_certain=is_certain)
            self.kept.keep(place, kept)
            return None
        view = self._view()
        texts = tuple(view.bytes_in(str(path)) for path in kept.paths)
        if kept.configs is None or texts != kept.texts:
            if any(text is None for text in texts):
                return None
            known = cast("tuple[bytes, ...]", texts)
            configs = self._made_of(dict(zip(kept.paths, known, strict=True)), key)
            if configs is None:
                return None
            kept = _Folder(
                listing=listing, paths=kept.paths, is_certain=True, texts=known, configs=configs
            )
            self.kept.keep(place, kept)
        return kept.configs

    def _made_of(self, texts: dict[Path, bytes], key: str) -> KeptConfigs | None:
        """Return what texts hold; None where that is for Kedro to say."""
        try:
            configs = KeptConfigs({path: parsed(text.decode()) for path, text in texts.items()})
            self._check_duplicates(key, configs)
        except Exception:  # Kedro finds the same, and says so in its own way
            return None
        return configs if configs.can_be_split else None

    def _merge_and_resolve(self, key: str, config_per_file: dict[Path, DictConfig]) -> Any:
        """Return what the files of a folder come to, with the runtime parameters of this loader."""
        if isinstance(config_per_file, KeptConfigs):
            resolve = {
                "parameters": self._resolve_parameters,
                "credentials": self._resolve_credentials,
            }.get(key, self._resolve_entries)
            found = resolve(key, config_per_file) if config_per_file else {}
            if found is not None:
                return found
            config_per_file = config_per_file.fresh()
        noted = _left_to_kedro.get()
        if noted is not None:
            noted.append(key)
        if key == "catalog":
            self._catalog_parts = None
        return super()._merge_and_resolve(key, config_per_file)

    def _resolve_parameters(self, key: str, configs: KeptConfigs) -> dict[str, Any] | None:
        given = self.runtime_params
        if _holds(given, "${"):
            return None
        found = {
            name: value
            for name, value in given.items()
            if _is_scalar(value) and (name not in configs.raw or _is_scalar(configs.raw[name]))
        }
        names = [
            name
            for name in configs.raw
            if name not in found and (name in given or name not in configs.plain)
        ]
        if not configs.looks_outward_only(names):
            return None
        others = {name: value for name, value in given.items() if name not in found}
        if names or others:

            def resolve() -> Any:
                own = OmegaConf.create({name: configs.raw[name] for name in names})
                return OmegaConf.to_container(OmegaConf.unsafe_merge(own, others), resolve=True)

            with noting_resolvers() as used:
                group = (repr(self._globals), *names)
                has_own = self._are_globals_replaced or others
                resolved = resolve() if has_own else self._fill(configs.stencils, group, resolve)
            if not used <= {_GLOBALS, _RUNTIME_PARAMS}:
                return None
            found |= resolved
        both = {
            name: found[name] if name in found else _copied(value)
            for name, value in configs.raw.items()
        }
        return {**both, **{name: found[name] for name in (*given, *found) if name not in both}}

    def _resolve_credentials(self, key: str, configs: KeptConfigs) -> dict[str, Any]:
        """Resolve all that the files hold, as Kedro does: each file, and what they are merged to.

        Variables of the environment count in the first alone.
        """

        def resolve() -> Any:
            fresh = configs.fresh()
            for config in fresh.values():
                self._resolve_environment_variables(config)
            return super(KeepingConfigLoader, self)._merge_and_resolve(key, fresh)

        if self._are_globals_replaced or self._layer.has(_ENVIRONMENT):
            return cast("dict[str, Any]", resolve())
        with noting_resolvers() as used:
            found = self._fill(configs.stencils, (repr(self._globals),), resolve)
        if not used <= {_GLOBALS, _RUNTIME_PARAMS, _ENVIRONMENT}:
            configs.stencils.clear()
        return cast("dict[str, Any]", found)

    @staticmethod
    def _resolve_environment_variables(config: DictConfig) -> None:
        """Resolve what a file holds, with the variables of the environment."""
        layer = active_loader()._layer
        if layer.has(_ENVIRONMENT):  # the project's own
            OmegaConf.resolve(config)
            return
        layer.put(_ENVIRONMENT, _environment_resolver())
        try:
            OmegaConf.resolve(config)
        finally:
            layer.clear(_ENVIRONMENT)

    def _resolve_entries(self, key: str, configs: KeptConfigs) -> dict[str, Any] | None:
        resolution = self._resolution_of(key, configs)
        if resolution is None:
            return None
        self._runtime_params_hits = set()
        with noting_resolvers() as used:
            dynamic = {
                name: self._fill(
                    resolution.stencils.setdefault(name, OrderedDict()),
                    name,
                    partial(_resolved, configs.merged, name),
                )
                for name in configs.raw
                if name in resolution.dynamic
            }
        if not used <= {_GLOBALS, _RUNTIME_PARAMS}:
            return None
        if key == "catalog":
            if resolution.guarded is not None:
                self._guard_runtime_params_in_catalog_type([resolution.guarded], dynamic)
            if self._catalog_parts is not None:
                self._catalog_parts.append((configs, resolution))
        return {
            name: dynamic[name] if name in dynamic else _copied(resolution.static[name])
            for name in configs.raw
            if not name.startswith("_")
        }

    def _fill(
        self, stencils: OrderedDict[Any, Stencil | None], group: Any, resolve: Callable[[], Any]
    ) -> Any:
        """Return what some configuration is resolved to, by a stencil where there is one.

        Args:
            stencils: Those that are kept, by a group and what parameters there were.
            group: What is resolved.
            resolve: Resolves it.
        """
        params = self.runtime_params
        for key, stencil in [*stencils.items()]:
            texts = stencil.texts(params) if stencil and key[0] == group else None
            if stencil is not None and texts is not None:
                self._runtime_params_hits.update(stencil.found)
                return put_in(stencil.content, texts)
        if (group, None) in stencils:
            return resolve()
        made = cut(resolve, params)
        texts = None if made is None else made.texts(params)
        if made is None or texts is None:
            _put(stencils, (group, None), None, _MAX_RESOLUTIONS)  # it is not tried again
            return resolve()
        about = (*made.stand_ins.items(), *made.environ.items())
        _put(stencils, (group, about), made, _MAX_RESOLUTIONS)
        self.kept.has_read_anew = True
        self._runtime_params_hits.update(made.found)
        return put_in(made.content, texts)

    def _resolution_of(self, key: str, configs: KeptConfigs) -> Resolution | None:
        """Return what is known of some files' entries; None where nothing is to be kept of them."""
        if self._are_globals_replaced:
            return None
        having = "" if key == _GLOBALS else repr(self._globals)
        if having not in configs.resolutions:
            may_use = set() if key == _GLOBALS else {_GLOBALS, _RUNTIME_PARAMS}
            _put(configs.resolutions, having, self._resolve(configs, may_use), _MAX_RESOLUTIONS)
        return configs.resolutions[having]

    @staticmethod
    def _resolve(configs: KeptConfigs, may_use: set[str]) -> Resolution | None:
        static: dict[str, Any] = {}
        dynamic = set()
        for name in configs.raw:
            try:
                with noting_resolvers() as used:
                    value = _resolved(configs.merged, name)
            except Exception:  # it may be another's parameter that makes it resolve
                used.add(_RUNTIME_PARAMS)
            if not used <= may_use:
                return None
            if _RUNTIME_PARAMS in used:
                dynamic.add(name)
            else:
                static[name] = value
        guarded = {
            name: configs.raw[name]
            for name in dynamic
            if any(_RUNTIME_PARAMS in text for text in _texts(configs.raw[name]))
        }
        return Resolution(
            static=static,
            dynamic=frozenset(dynamic),
            guarded=OmegaConf.create(guarded) if guarded else None,
        )


@lru_cache(1)
def _globals_resolver() -> Any:
    def resolve(variable: str, default_value: Any = _NO_VALUE) -> Any:
        refuse_stand_in(variable)
        return active_loader()._get_globals_value(variable, default_value)

    return as_omegaconf_keeps(resolve)


@lru_cache(1)
def _environment_resolver() -> Any:
    def resolve(key: str, default: Any = _NO_VALUE) -> Any:
        note_variable(key)
        return oc.env(key) if default is _NO_VALUE else oc.env(key, default)

    return as_omegaconf_keeps(resolve)


@lru_cache(1)
def _runtime_params_resolver() -> Any:
    def resolve(variable: str, default_value: Any = _NO_VALUE) -> Any:
        stand_in = stand_in_for(variable)
        if stand_in is not None:
            return stand_in
        return active_loader()._get_runtime_value(variable, default_value)

    return as_omegaconf_keeps(resolve)


def _is_scalar(value: Any) -> bool:
    """Whether a value takes another's place as it is."""
    return value is None or (isinstance(value, (str, int, float)) and value != _MISSING)


def _resolved(config: DictConfig, name: str) -> Any:
    value = config[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _copied(content: Any) -> Any:
    """Return a copy of plain data, which is faster than `copy.deepcopy`."""
    if isinstance(content, dict):
        return {name: _copied(each) for name, each in content.items()}
    if isinstance(content, list):
        return [_copied(each) for each in content]
    return content


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, each in content.items():
            yield from _texts(name)
            yield from _texts(each)
    elif isinstance(content, list):
        for each in content:
            yield from _texts(each)


def _holds(content: Any, part: str) -> bool:
    return any(part in text for text in _texts(content))


def _put(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
