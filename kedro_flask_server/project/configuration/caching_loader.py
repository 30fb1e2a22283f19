"""Kedro's configuration loader, which does nothing twice that comes out the same.

A run reads every file of the configuration once, and gets its own copy of what they hold. What is
kept is found again by the list of all files and by every byte in them, so that no edit is missed,
however soon it comes and however alike it is. Where any resolver is used but Kedro's own (and
``oc.env`` in credentials), Kedro does it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from kedro.config import OmegaConfigLoader
from kedro.config.omegaconf_config import _NO_VALUE
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from kedro_flask_server.project.configuration.cache import (
    GLOBALS,
    NOT_KEPT,
    RUNTIME_PARAMS,
    CatalogSource,
    Folder,
    KeptConfigs,
    KeptFolders,
    Resolution,
    Stencils,
    copied,
    holds,
    is_scalar,
)
from kedro_flask_server.project.configuration.files import View
from kedro_flask_server.project.configuration.literals import has_literals
from kedro_flask_server.project.configuration.placeholders import (
    STAND_IN,
    NotCutError,
    cut,
    note_variable,
    put_in,
    refuse_stand_in,
    stand_in_for,
    texts_in,
)
from kedro_flask_server.project.configuration.resolvers import (
    ResolverLayer,
    active_loader,
    as_omegaconf_keeps,
    noting_resolvers,
)
from kedro_flask_server.project.configuration.yaml_cache import note_merge, parsed
from kedro_flask_server.project.configuration.yaml_tags import depends_on_itself_alone

# OmegaConf's, which Kedro has for credentials alone.
_ENVIRONMENT = "oc.env"

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
            self._last_view = None  # a run's hooks may have written files since it was made
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == GLOBALS:  # what was made of the former ones stays in Kedro's loader, in part
            self._are_globals_replaced = True
        super().__setitem__(key, value)

    _are_globals_replaced = False
    _last_view: View | None = None

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
        if self._protocol == "file" and Path(conf_path).is_absolute():
            configs = self._look_into(conf_path, patterns, key)
        if configs is None:
            read = super()._read_dir_configs
            return cast(
                "dict[Path, DictConfig]",
                read(conf_path, patterns, key, processed_files, read_environment_variables),
            )
        processed_files.update(configs)
        return configs

    def _view(self) -> View:
        """Return what is in the folders: the same of all that a run reads at its beginning."""
        if self._last_view is None or not self._last_view.is_fresh:
            self._last_view = View()
        return self._last_view

    def _register_globals_resolver(self) -> None:
        self._layer.put(GLOBALS, _globals_resolver())

    def _register_runtime_params_resolver(self) -> None:
        self._layer.put(RUNTIME_PARAMS, _runtime_params_resolver())

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
            kept = Folder(listing=listing, paths=paths, is_certain=is_certain)
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
            kept = Folder(
                listing=listing, paths=kept.paths, is_certain=True, texts=known, configs=configs
            )
            self.kept.keep(place, kept)
        return kept.configs

    def _made_of(self, texts: dict[Path, bytes], key: str) -> KeptConfigs | None:
        """Return what texts hold; None where that is for Kedro to say."""
        try:
            decoded = {path: text.decode() for path, text in texts.items()}
            if not all(map(depends_on_itself_alone, decoded.values())):
                return None
            configs = KeptConfigs({path: parsed(text) for path, text in decoded.items()})
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
        if any("${" in text and not has_literals(text) for text in texts_in(given)):
            return None
        found = {
            name: value
            for name, value in given.items()
            if is_scalar(value) and (name not in configs.raw or is_scalar(configs.raw[name]))
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
            if not used <= {GLOBALS, RUNTIME_PARAMS}:
                return None
            found |= resolved
        both = {
            name: found[name] if name in found else copied(value)
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
        if not used <= {GLOBALS, RUNTIME_PARAMS, _ENVIRONMENT}:
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
        if resolution is NOT_KEPT:
            return None
        note_merge(configs.merged, configs.raw)
        self._runtime_params_hits = set()
        with noting_resolvers() as used:
            dynamic = {
                name: self._fill(
                    resolution.stencils[name],
                    name,
                    partial(_resolved, configs.merged, name),
                )
                for name in configs.raw
                if name in resolution.dynamic
            }
        if not used <= {GLOBALS, RUNTIME_PARAMS}:
            return None
        if key == "catalog":
            # It objects to a type that names a parameter which was found, and to no other.
            chosen = resolution.chosen_types
            if any(name in each for name in self._runtime_params_hits for each in chosen):
                self._guard_runtime_params_in_catalog_type([resolution.guarded], dynamic)
            if self._catalog_parts is not None:
                self._catalog_parts.append((configs, resolution))
        return {
            name: dynamic[name] if name in dynamic else copied(resolution.static[name])
            for name in configs.raw
            if not name.startswith("_")
        }

    def _fill(self, stencils: Stencils, group: Any, resolve: Callable[[], Any]) -> Any:
        """Return what some configuration is resolved to, by a stencil where there is one.

        Args:
            stencils: Those that are kept, by a group and what parameters there were.
            group: What is resolved.
            resolve: Resolves it.
        """
        try:
            return self._fill_in(stencils, group, resolve)
        except NotCutError:
            return resolve()

    def _fill_in(self, stencils: Stencils, group: Any, resolve: Callable[[], Any]) -> Any:
        params = self.runtime_params
        for key, stencil in stencils.items():
            texts = stencil.texts(params) if key[0] == group else None
            if texts is not None:
                self._runtime_params_hits.update(stencil.found)
                return put_in(stencil.content, texts)
        made = None if holds(self._globals, STAND_IN) else cut(resolve, params)
        texts = None if made is None else made.texts(params)
        if made is None or texts is None:
            return resolve()
        about = (*made.stand_ins.items(), *made.environ.items())
        stencils.put((group, about), made)
        self.kept.has_read_anew = True
        self._runtime_params_hits.update(made.found)
        return put_in(made.content, texts)

    def _resolution_of(self, key: str, configs: KeptConfigs) -> Resolution:
        if self._are_globals_replaced:
            return NOT_KEPT
        having = "" if key == GLOBALS else repr(self._globals)
        found = configs.resolutions.get(having)
        if found is None:
            may_use = set() if key == GLOBALS else {GLOBALS, RUNTIME_PARAMS}
            found = _resolution(configs, may_use)
            configs.resolutions.put(having, found)
        return found


def _resolution(configs: KeptConfigs, may_use: set[str]) -> Resolution:
    """Return what some files come to, if they use no resolvers but some."""
    static: dict[str, Any] = {}
    for name in configs.raw:
        try:
            with noting_resolvers() as used:
                value = _resolved(configs.merged, name)
        except Exception:  # it may be another's parameter that makes it resolve
            used.add(RUNTIME_PARAMS)
        if not used <= may_use:
            return NOT_KEPT
        if RUNTIME_PARAMS not in used:
            static[name] = value
    return Resolution.of(configs, static)


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


def _resolved(config: DictConfig, name: str) -> Any:
    value = config[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
