"""The project's configuration loader, made safe for runs at the same time."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial, wraps
from types import FunctionType
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from kedro.framework.project import settings

from kedro_flask_server.project.configuration.cache import RUNTIME_PARAMS, ConfigCache
from kedro_flask_server.project.configuration.caching_loader import CachingConfigLoader
from kedro_flask_server.project.configuration.class_guard import ClassGuard, guard_classes
from kedro_flask_server.project.configuration.literals import (
    has_literals,
    literal,
    literals_active,
    plain,
)
from kedro_flask_server.project.configuration.resolvers import ResolverLayer, recording_resolvers
from kedro_flask_server.project.configuration.yaml_cache import Merged, recording_merges
from kedro_flask_server.redaction import SECRETS

_GUARD = "restrict_runtime_params_type_selection"

# What a copy sets by itself.
_NOT_COPIED = ("_catalog_parts", "_last_view")


class IsolatedConfigLoader(AbstractConfigLoader):
    """A mixin before a project's loader that isolates each instance from all others.

    What it promises for any loader class:

    - Its OmegaConf resolvers are its own, so no run resolves another's runtime parameters. They
      count while it is active, and afterwards for the nodes and hooks of its run.
    - Runtime parameters are taken literally: nothing in them is resolved, however often OmegaConf
      resolves what they have become a part of. With `resolves_params`, they are OmegaConf's.
    - What it finds among the credentials is redacted in all that is logged and sent.
    - A class that does not take the newest of Kedro's arguments works without it.
    - Kedro's guard against runtime parameters that choose a dataset's ``type`` holds, whatever
      the class makes of the argument that asks for it.
    - It can be copied and pickled as the class itself can.
    """

    cache: ConfigCache
    resolves_params: bool
    _project_class: type[AbstractConfigLoader]
    _is_guarded = False
    _is_trial = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        is_guarded = bool(kwargs.pop(_GUARD, False))
        self._is_trial = bool(kwargs.pop("is_trial", False))
        self._layer = ResolverLayer()
        self._arguments = args, dict(kwargs)
        params = None if self.resolves_params else literal(kwargs.get("runtime_params"))
        self._has_literals = has_literals(params)
        if self._has_literals:
            kwargs["runtime_params"] = params
        self._is_guarded = is_guarded
        if is_guarded and _takes_guard(self._project_class):
            kwargs[_GUARD] = True
        with self._active():
            super().__init__(*args, **kwargs)

    @contextmanager
    def _active(self) -> Iterator[None]:
        with (
            self._layer.active(self, is_trial=self._is_trial),
            literals_active() if self._has_literals else nullcontext(),
        ):
            yield

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: each for name, each in vars(self).items() if name not in _NOT_COPIED}
        return _unpickled, (self._project_class,), state

    def __deepcopy__(self, memo: dict[int, Any]) -> IsolatedConfigLoader:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__reduce__()[2], memo))
        return copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._has_literals:  # they are pickled as ordinary texts
            self.runtime_params = literal(self.runtime_params)
        if self._layer.is_empty and isinstance(self, OmegaConfigLoader):
            with self._active():
                self._layer.clear("oc.env")
                self._register_new_resolvers(self._custom_resolvers or {})
                self._register_globals_resolver()

    @property
    def restrict_runtime_params_type_selection(self) -> bool:
        """True if Kedro's own loader has its guard on; once it is on, nothing turns it off."""
        return self._is_guarded

    @restrict_runtime_params_type_selection.setter
    def restrict_runtime_params_type_selection(self, value: bool) -> None:
        self._is_guarded = self._is_guarded or value

    def __getitem__(self, key: str) -> Any:
        is_guarded = key == "catalog" and self._is_guarded and bool(self.runtime_params)
        config, folders = self._load(key)
        if key == "credentials":
            SECRETS.learn_all_in(config)
        if is_guarded:
            guard_classes(self._guard_of(config, folders))
        return config

    def _load(self, key: str) -> tuple[Any, list[Merged]]:
        """Return a configuration, and what was found in the folders that it was made of."""
        with self._active(), recording_merges() as folders:
            config = super().__getitem__(key)
        return plain(config) if self._has_literals else config, folders

    def _guard_of(self, config: dict[str, Any], folders: list[Merged]) -> ClassGuard:
        """Return the guard of a catalog against classes that runtime parameters have chosen.

        Kedro's own class resolves as OmegaConf does. Others may do so in ways unknown here: what
        they come to must be what Kedro's comes to without looking up a parameter, or what comes
        out without the parameters or, where some are required, with other values for them.
        """
        if self._project_class is OmegaConfigLoader:
            dynamic = self.dynamic_names if isinstance(self, CachingConfigLoader) else None
            names = [name for name in config if dynamic is None or name in dynamic]
            alternatives = [partial(self._catalog_with, {})]
            return ClassGuard(
                config, names, folders=folders, asks=self._asks, alternatives=alternatives
            )
        others = partial(_with_other_values, self.runtime_params)
        kedros, folders = self._read_by_kedro()
        return ClassGuard(
            config,
            config,
            folders=folders,
            asks=lambda function: kedros is None or kedros._asks(function),
            alternatives=[
                partial(self._catalog_with, {}),
                lambda: self._catalog_with(others()),
            ],
        )

    def _asks(self, resolve: Callable[[], Any]) -> bool:
        """Return whether resolving looks up a runtime parameter that there is."""
        before = getattr(self, "_runtime_params_hits", None)
        self._runtime_params_hits: set[str] = set()
        try:
            with self._active(), recording_resolvers() as used:
                resolve()
            return bool(self._runtime_params_hits) if before is not None else RUNTIME_PARAMS in used
        finally:
            if before is not None:
                self._runtime_params_hits = before

    def _read_by_kedro(self) -> tuple[IsolatedConfigLoader | None, list[Merged]]:
        """Return a loader of Kedro's own class with the same arguments, and what it merges."""
        args, kwargs = self._arguments
        known = inspect.signature(OmegaConfigLoader.__init__).parameters
        kwargs = {name: each for name, each in kwargs.items() if name in known}
        try:
            loader: Any = _kedro_loader_class()(*args, **kwargs, is_trial=True)
            _, folders = loader._load("catalog")
        except Exception:  # whatever it does not know of the other's configuration
            return None, []
        return loader, folders

    def _catalog_with(self, runtime_params: dict[str, Any]) -> Any:
        """Return the catalog with other parameters; None where it needs those."""
        args, kwargs = self._arguments
        kwargs = {**kwargs, "runtime_params": runtime_params, "is_trial": True}
        try:
            return type(self)(*args, **kwargs)["catalog"]
        except Exception:  # whatever the project's class raises for a parameter it misses
            return None


@lru_cache
def _takes_guard(loader_class: type[AbstractConfigLoader]) -> bool:
    return _GUARD in inspect.signature(loader_class.__init__).parameters


def isolated(
    loader_class: type[AbstractConfigLoader], *, resolves_params: bool = False
) -> type[AbstractConfigLoader]:
    """Return a subclass of a project's configuration loader for runs at the same time.

    Args:
        loader_class: ``CONFIG_LOADER_CLASS`` of the project's settings.
        resolves_params: Whether OmegaConf resolves what runtime parameters hold.

    Returns:
        A subclass with the promises of `IsolatedConfigLoader`; the class itself if it has them.
    """
    if issubclass(loader_class, IsolatedConfigLoader):
        if loader_class.resolves_params is resolves_params:
            return loader_class
        loader_class = loader_class._project_class
    inner: type[AbstractConfigLoader] = loader_class
    if loader_class is OmegaConfigLoader and CachingConfigLoader.is_supported():
        inner = CachingConfigLoader
    own = {
        "_project_class": loader_class,
        "resolves_params": resolves_params,
        "cache": ConfigCache(),
    }
    return type(
        loader_class.__name__,
        (IsolatedConfigLoader, inner),
        {**{name: _activating(each) for name, each in _public_methods_of(inner)}, **own},
    )


@lru_cache(1)
def _kedro_loader_class() -> Any:
    return isolated(OmegaConfigLoader)


def is_kedro_loader(loader_class: type[AbstractConfigLoader]) -> bool:
    """Return whether a class is Kedro's own loader, or replaces it."""
    return getattr(loader_class, "_project_class", loader_class) is OmegaConfigLoader


def _public_methods_of(loader_class: type[AbstractConfigLoader]) -> Iterator[tuple[str, Any]]:
    """Yield the methods that a loader has beside those of a mapping, which get its items."""
    for name in dir(loader_class):
        method = inspect.getattr_static(loader_class, name)
        is_of_mapping = hasattr(AbstractConfigLoader, name)
        if isinstance(method, FunctionType) and not name.startswith("_") and not is_of_mapping:
            yield name, method


def _activating(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is called with the loader's own resolvers."""

    @wraps(method)
    def call(self: IsolatedConfigLoader, *args: Any, **kwargs: Any) -> Any:
        with self._active():
            found = method(self, *args, **kwargs)
        return plain(found) if self._has_literals else found

    return call


def _unpickled(project_class: type[AbstractConfigLoader]) -> IsolatedConfigLoader:
    """Return a loader without a state, of the class that replaces a project's."""
    current = settings.CONFIG_LOADER_CLASS
    is_it = getattr(current, "_project_class", None) is project_class
    loader_class: Any = current if is_it else isolated(project_class)
    made: IsolatedConfigLoader = loader_class.__new__(loader_class)
    return made


def _with_other_values(value: Any) -> Any:
    """Return runtime parameters of the same shape and types, with other values."""
    if isinstance(value, dict):
        return {key: _with_other_values(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_other_values(each) for each in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"other-{value}"
    return value
