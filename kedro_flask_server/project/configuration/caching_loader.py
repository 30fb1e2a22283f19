"""Kedro's configuration loader, which does nothing twice that comes out the same.

A run reads every file of the configuration once, and gets its own copy of what they hold. The
cache is keyed by the list of all files and by every byte in them, so that no edit is missed,
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
    RUNTIME_PARAMS,
    UNCACHEABLE,
    ConfigCache,
    ParsedFiles,
    Resolution,
    copied,
    holds,
    is_scalar,
    resolved,
)
from kedro_flask_server.project.configuration.files import View
from kedro_flask_server.project.configuration.literals import has_literals
from kedro_flask_server.project.configuration.placeholders import (
    PLACEHOLDER,
    NoTemplateError,
    TemplateCache,
    fill,
    placeholder_for,
    record_variable,
    refuse_placeholder,
    texts_in,
)
from kedro_flask_server.project.configuration.resolvers import (
    ResolverLayer,
    active_loader,
    as_registered,
    recording_resolvers,
)
from kedro_flask_server.project.configuration.yaml_cache import record_merge

# OmegaConf's, which Kedro has for credentials alone.
_ENVIRONMENT = "oc.env"

_OF_KEDRO = {GLOBALS, RUNTIME_PARAMS}

_uncached: ContextVar[list[str] | None] = ContextVar("uncached_kinds", default=None)


@contextmanager
def recording_uncached() -> Iterator[list[str]]:
    """Record the kinds of configuration that depend on more than files and runtime parameters.

    Nothing is recorded of a project's own configuration loader.
    """
    recorded: list[str] = []
    token = _uncached.set(recorded)
    try:
        yield recorded
    finally:
        _uncached.reset(token)


class CachingConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader``, with its two inner steps: read a folder, and resolve what it holds.

    Attributes:
        cache: What all loaders of a class share.
    """

    cache: ConfigCache

    _layer: ResolverLayer
    _are_globals_replaced = False
    _last_view: View | None = None
    # Of the catalog, base and environment; None where something was left to Kedro.
    _catalog_parts: list[Resolution] | None = None

    @classmethod
    def is_supported(cls) -> bool:
        """Return whether this Kedro has these steps (since 1.7)."""
        return hasattr(OmegaConfigLoader, "_read_dir_configs") and hasattr(
            OmegaConfigLoader, "_guard_runtime_params_in_catalog_type"
        )

    @property
    def dynamic_names(self) -> frozenset[str] | None:
        """The datasets of the catalog that depend on runtime parameters; None where any may."""
        parts = self._catalog_parts
        return frozenset().union(*(part.dynamic for part in parts)) if parts else None

    def __getitem__(self, key: str) -> dict[str, Any]:
        if key == "catalog":
            self._catalog_parts = []
            self._last_view = None  # a run's hooks may have written files since it was made
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == GLOBALS:  # what was made of the former ones stays in Kedro's loader, in part
            self._are_globals_replaced = True
        super().__setitem__(key, value)

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
        read = super()._read_dir_configs
        files = None
        if self._protocol == "file" and Path(conf_path).is_absolute():
            files = self.cache.files_in(
                conf_path,
                (conf_path, patterns, key, str(self.conf_source), self.ignore_hidden),
                view=self._view(),
                read=lambda: read(conf_path, patterns, key, set()),
                check=partial(self._check_duplicates, key),
            )
        if files is None:
            return cast(
                "dict[Path, DictConfig]",
                read(conf_path, patterns, key, processed_files, read_environment_variables),
            )
        processed_files.update(files)
        return files

    def _view(self) -> View:
        """Return what is in the folders: the same of all that a run reads at its beginning."""
        if self._last_view is None or not self._last_view.is_fresh:
            self._last_view = View()
        return self._last_view

    def _register_globals_resolver(self) -> None:
        self._layer.put(GLOBALS, _globals_resolver())

    def _register_runtime_params_resolver(self) -> None:
        self._layer.put(RUNTIME_PARAMS, _runtime_params_resolver())

    def _merge_and_resolve(self, key: str, config_per_file: dict[Path, DictConfig]) -> Any:
        """Return what the files of a folder come to, with the runtime parameters of this loader."""
        if isinstance(config_per_file, ParsedFiles):
            resolve = {
                "parameters": self._resolve_parameters,
                "credentials": self._resolve_credentials,
            }.get(key, self._resolve_entries)
            found = resolve(key, config_per_file) if config_per_file else {}
            if found is not None:
                return found
            config_per_file = config_per_file.fresh()
        recorded = _uncached.get()
        if recorded is not None:
            recorded.append(key)
        if key == "catalog":
            self._catalog_parts = None
        return super()._merge_and_resolve(key, config_per_file)

    def _resolve_parameters(self, key: str, files: ParsedFiles) -> dict[str, Any] | None:
        given = self.runtime_params
        if any("${" in text and not has_literals(text) for text in texts_in(given)):
            return None
        found = {
            name: value
            for name, value in given.items()
            if is_scalar(value) and (name not in files.raw or is_scalar(files.raw[name]))
        }
        names = [
            name
            for name in files.raw
            if name not in found and (name in given or name not in files.plain)
        ]
        if not files.looks_outward_only(names):
            return None
        others = {name: value for name, value in given.items() if name not in found}
        if names or others:
            merged = self._merge_parameters(files, names, others)
            if merged is None:
                return None
            found |= merged
        both = {
            name: found[name] if name in found else copied(value)
            for name, value in files.raw.items()
        }
        return {**both, **{name: found[name] for name in (*given, *found) if name not in both}}

    def _merge_parameters(
        self, files: ParsedFiles, names: list[str], others: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Resolve some parameters of the files, and merge runtime parameters into them.

        Args:
            files: The files.
            names: The parameters.
            others: The runtime parameters.

        Returns:
            The parameters; None where they depend on more than globals and runtime parameters.
        """

        def resolve() -> Any:
            own = OmegaConf.create({name: files.raw[name] for name in names})
            return OmegaConf.to_container(OmegaConf.unsafe_merge(own, others), resolve=True)

        with recording_resolvers() as used:
            group = (repr(self._globals), *names)
            has_own = self._are_globals_replaced or others
            merged = resolve() if has_own else self._fill(files.templates, group, resolve)
        return merged if used <= _OF_KEDRO else None

    def _resolve_credentials(self, key: str, files: ParsedFiles) -> dict[str, Any]:
        """Resolve all that the files hold, as Kedro does: each file, and what they are merged to.

        Variables of the environment count in the first alone.
        """

        def resolve() -> Any:
            fresh = files.fresh()
            for config in fresh.values():
                self._resolve_environment_variables(config)
            return super(CachingConfigLoader, self)._merge_and_resolve(key, fresh)

        if self._are_globals_replaced or self._layer.has(_ENVIRONMENT):
            return cast("dict[str, Any]", resolve())
        with recording_resolvers() as used:
            found = self._fill(files.templates, (repr(self._globals),), resolve)
        if not used <= {*_OF_KEDRO, _ENVIRONMENT}:
            files.templates.clear()
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

    def _resolve_entries(self, key: str, files: ParsedFiles) -> dict[str, Any] | None:
        resolution = self._resolution_of(key, files)
        if resolution is UNCACHEABLE:
            return None
        record_merge(files.merged, files.raw)
        self._runtime_params_hits = set()
        with recording_resolvers() as used:
            dynamic = {
                name: self._fill(
                    resolution.templates[name], name, partial(resolved, files.merged, name)
                )
                for name in files.raw
                if name in resolution.dynamic
            }
        if not used <= _OF_KEDRO:
            return None
        if key == "catalog":
            self._check_catalog(resolution, dynamic)
        return {
            name: dynamic[name] if name in dynamic else copied(resolution.static[name])
            for name in files.raw
            if not name.startswith("_")
        }

    def _resolution_of(self, key: str, files: ParsedFiles) -> Resolution:
        if self._are_globals_replaced:
            return UNCACHEABLE
        if key == GLOBALS:
            return files.resolution("", set())
        return files.resolution(repr(self._globals), _OF_KEDRO)

    def _check_catalog(self, resolution: Resolution, dynamic: dict[str, Any]) -> None:
        # Kedro objects to a type that names a parameter which was found, and to no other.
        chosen = resolution.chosen_types
        if any(name in each for name in self._runtime_params_hits for each in chosen):
            self._guard_runtime_params_in_catalog_type([resolution.guarded], dynamic)
        if self._catalog_parts is not None:
            self._catalog_parts.append(resolution)

    def _fill(self, templates: TemplateCache, group: Any, resolve: Callable[[], Any]) -> Any:
        """Return what some configuration is resolved to, by a template where there is one.

        Args:
            templates: The templates that there are.
            group: What is resolved.
            resolve: Resolves it.
        """
        found = templates.find(group, self.runtime_params)
        if found is None and not holds(self._globals, PLACEHOLDER):
            found = templates.make(group, self.runtime_params, resolve)
            self.cache.has_new_entries |= found is not None
        if found is None:
            return resolve()
        template, texts = found
        self._runtime_params_hits.update(template.found)
        try:
            return fill(template.content, texts)
        except NoTemplateError:
            return resolve()


@lru_cache(1)
def _globals_resolver() -> Any:
    def resolve(variable: str, default_value: Any = _NO_VALUE) -> Any:
        refuse_placeholder(variable)
        return active_loader()._get_globals_value(variable, default_value)

    return as_registered(resolve)


@lru_cache(1)
def _environment_resolver() -> Any:
    def resolve(key: str, default: Any = _NO_VALUE) -> Any:
        record_variable(key)
        return oc.env(key) if default is _NO_VALUE else oc.env(key, default)

    return as_registered(resolve)


@lru_cache(1)
def _runtime_params_resolver() -> Any:
    def resolve(variable: str, default_value: Any = _NO_VALUE) -> Any:
        placeholder = placeholder_for(variable)
        if placeholder is not None:
            return placeholder
        return active_loader()._get_runtime_value(variable, default_value)

    return as_registered(resolve)
