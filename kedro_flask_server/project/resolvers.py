"""OmegaConf's resolvers, kept apart for each configuration loader.

OmegaConf looks resolvers up in one table for the whole process, and Kedro's loader puts the
runtime parameters of one run behind a name in it: two runs at a time, and each can read the
other's. Here the table gets layers. What a loader registers or clears goes into a layer of
its own, which counts only in the thread that works with that loader; beneath it lies the
table that all share, for what a project registers once for the whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

_CLEARED = object()

_installing = threading.Lock()

_noted: ContextVar[set[str] | None] = ContextVar("noted_resolvers", default=None)


@contextmanager
def noting_resolvers() -> Iterator[set[str]]:
    """Note the names of the resolvers that OmegaConf looks up, in this thread.

    Nothing is noted unless a `ResolverLayer` is active.
    """
    names: set[str] = set()
    token = _noted.set(names)
    try:
        yield names
    finally:
        _noted.reset(token)


def are_all_of_omegaconf() -> bool:
    """Whether a project has registered no resolver for the whole process."""
    return all(name.startswith("oc.") for name in _LayeredTable.installed())


class _Own(dict[str, Any]):
    """Resolvers of one configuration loader."""

    def __init__(self, loader: Any) -> None:
        super().__init__()
        self.loader = loader


def active_loader() -> Any:
    """Return the configuration loader whose layer is active in this thread."""
    layer = _LayeredTable.installed().layer.get()
    return None if layer is None else layer.loader


class ResolverLayer:
    """The resolvers of one configuration loader."""

    def __init__(self, loader: Any = None) -> None:
        """Begin with none.

        Args:
            loader: Whose they are.
        """
        self._own = _Own(loader)
        # A loader may be asked by several threads of its run (ThreadRunner, a project's hooks).
        self._lock = threading.RLock()

    def put(self, name: str, resolver: Any) -> None:
        """Add a resolver as OmegaConf keeps it."""
        self._own[name] = resolver

    def clear(self, name: str) -> None:
        """Have none under a name."""
        self._own[name] = _CLEARED

    def has(self, name: str) -> bool:
        """Whether it has a resolver of its own under a name."""
        return self._own.get(name, _CLEARED) is not _CLEARED

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let OmegaConf, in this thread, see this layer's resolvers before all others."""
        table = _LayeredTable.installed()
        with self._lock:
            token = table.layer.set(self._own)
            try:
                yield
            finally:
                table.layer.reset(token)


def as_omegaconf_keeps(resolver: Callable[..., Any]) -> Any:
    """Return what OmegaConf makes of a resolver when it is registered."""
    layer = ResolverLayer()
    with layer.active():
        OmegaConf.register_new_resolver("resolver", resolver)
        return BaseContainer._resolvers["resolver"]


class _LayeredTable(MutableMapping[str, Any]):
    """Stands in for OmegaConf's resolver table (private there; there is no public door)."""

    def __init__(self, shared: MutableMapping[str, Any]) -> None:
        self._shared = shared
        self.layer: ContextVar[_Own | None] = ContextVar("resolver_layer", default=None)

    @classmethod
    def installed(cls) -> _LayeredTable:
        """Return the table that OmegaConf uses, layered from the first call on.

        ``OmegaConf.clear_resolvers`` replaces the table, hence the look each time.
        """
        table: Any = BaseContainer._resolvers
        if not isinstance(table, cls):
            with _installing:
                table = BaseContainer._resolvers
                if not isinstance(table, cls):
                    table = cls(table)
                    BaseContainer._resolvers = table
        return cast("_LayeredTable", table)

    def __getitem__(self, name: str) -> Any:
        noted = _noted.get()
        if noted is not None:
            noted.add(name)
        layer = self.layer.get()
        found = self._shared[name] if layer is None or name not in layer else layer[name]
        if found is _CLEARED:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, resolver: Any) -> None:
        layer = self.layer.get()
        (self._shared if layer is None else layer)[name] = resolver

    def __delitem__(self, name: str) -> None:
        layer = self.layer.get()
        if layer is None:
            del self._shared[name]
        elif name in self:
            layer[name] = _CLEARED
        else:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        own = dict(self.layer.get() or {})
        return iter([name for name in {**self._shared, **own} if own.get(name) is not _CLEARED])

    def __len__(self) -> int:
        return sum(1 for _ in self)
