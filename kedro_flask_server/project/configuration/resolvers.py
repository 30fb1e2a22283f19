"""OmegaConf's resolvers, isolated for each configuration loader.

OmegaConf looks resolvers up in one table for the whole process, and Kedro's loader registers a
resolver there that returns the runtime parameters of one run: of two runs at the same time, each
could read the other's. Here the table has layers. What a loader registers or clears goes into a
layer of its own, which counts only in the thread that uses that loader; below it is the table that
all share, for what a project registers once for the whole process. What a run's loaders have
registered stays there for its nodes and hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.configuration.literals import passing_literals

_CLEARED = object()

_recorded: ContextVar[set[str] | None] = ContextVar("recorded_resolvers", default=None)


@contextmanager
def recording_resolvers() -> Iterator[set[str]]:
    """Record the names of the resolvers that OmegaConf looks up, in this thread.

    Nothing is recorded unless a `ResolverLayer` is active.
    """
    names: set[str] = set()
    token = _recorded.set(names)
    try:
        yield names
    finally:
        _recorded.reset(token)


def are_all_of_omegaconf() -> bool:
    """Return whether a project has registered no resolver for the whole process."""
    return all(name.startswith("oc.") for name in _LayeredTable.installed())


class _RunResolvers:
    """The resolvers that the loaders of a run have registered, for its nodes and hooks."""

    def __init__(self) -> None:
        self.table: object = None
        self.resolvers: dict[str, Any] = {}
        self.loader: Any = None

    def update(self, table: object, resolvers: dict[str, Any], loader: Any) -> None:
        if self.table is not table:  # `OmegaConf.clear_resolvers` has been called
            self.table, self.resolvers = table, {}
        self.resolvers.update(resolvers)
        self.loader = loader


class _CurrentRun:
    """The run whose resolvers count: that of the context, or the one that the process is for.

    Attributes:
        of_context: The run that this thread executes.
        of_process: The run that has this process to itself, in all its threads.
    """

    def __init__(self) -> None:
        self.of_context: ContextVar[_RunResolvers | None] = ContextVar(
            "resolvers_of_run", default=None
        )
        self.of_process: _RunResolvers | None = None

    def get(self) -> _RunResolvers | None:
        return self.of_context.get() or self.of_process


_current_run = _CurrentRun()


@contextmanager
def resolvers_of_run(*, is_alone: bool) -> Iterator[None]:
    """Let a run's nodes and hooks use what its configuration loaders register.

    Kedro registers for the process: ``custom_resolvers``, ``globals`` and ``runtime_params`` stay.

    Args:
        is_alone: Whether the run has the process to itself. Otherwise they are there in this
            thread, and in those that Kedro's runners start, and no other run sees them.
    """
    run = _RunResolvers()
    token = _current_run.of_context.set(run)
    if is_alone:
        _current_run.of_process = run
    try:
        yield
    finally:
        _current_run.of_process = None
        _current_run.of_context.reset(token)


def active_loader() -> Any:
    """Return the configuration loader that is active in this thread, or was so last."""
    active = _LayeredTable.installed().active.get()
    if active is not None:
        return active[1]
    run = _current_run.get()
    return None if run is None else run.loader


class ResolverLayer:
    """The resolvers of one configuration loader."""

    def __init__(self) -> None:
        """Begin with none."""
        self._own: dict[str, Any] = {}
        # A loader may be asked by several threads of its run (ThreadRunner, a project's hooks).
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: object) -> ResolverLayer:
        """Return a layer with the same resolvers, for a copy of the loader."""
        copied = ResolverLayer()
        copied._own.update(self._own)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the resolvers behind: they are functions, and registered again where they go."""
        return ResolverLayer, ()

    @property
    def is_empty(self) -> bool:
        """True if no resolver was registered or cleared in it."""
        return not self._own

    def put(self, name: str, resolver: Any) -> None:
        """Add a resolver in the form of `as_registered`."""
        self._own[name] = resolver

    def clear(self, name: str) -> None:
        """Hide what is under a name."""
        self._own[name] = _CLEARED

    def has(self, name: str) -> bool:
        """Return whether it has a resolver of its own under a name."""
        return self._own.get(name, _CLEARED) is not _CLEARED

    @contextmanager
    def active(self, loader: Any = None, *, is_trial: bool = False) -> Iterator[None]:
        """Let OmegaConf, in this thread, see this layer's resolvers before all others.

        Args:
            loader: Whose they are.
            is_trial: Whether the run does without them afterwards.
        """
        table = _LayeredTable.installed()
        with self._lock:
            token = table.active.set((self._own, loader))
            try:
                yield
            finally:
                table.active.reset(token)
                run = _current_run.get()
                if run is not None and not is_trial and table.active.get() is None:
                    run.update(table, self._own, loader)


# OmegaConf 2.4 has another name for it, and warns of the former one.
_register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)


def as_registered(resolver: Callable[..., Any]) -> Any:
    """Return a resolver in the form in which OmegaConf registers it."""
    layer = ResolverLayer()
    with layer.active():
        _register("resolver", resolver)
        return BaseContainer._resolvers["resolver"]


class _LayeredTable(MutableMapping[str, Any]):
    """Replaces OmegaConf's table of resolvers.

    An active loader sees its own layer above what all share, and registers in it. At other times a
    run sees what its loaders have left there, and what is registered then is shared.
    """

    def __init__(self, shared: MutableMapping[str, Any]) -> None:
        self._shared = shared
        self.active: ContextVar[tuple[dict[str, Any], Any] | None] = ContextVar(
            "resolver_layer", default=None
        )

    @classmethod
    def installed(cls) -> _LayeredTable:
        """Return the table that OmegaConf uses, layered from the first call on.

        ``OmegaConf.clear_resolvers`` replaces the table, hence the look each time.
        """
        table: Any = BaseContainer._resolvers
        while not isinstance(table, cls):
            kedro_patches.apply(kedro_patches.Stage.CONFIG_LOADER)
            table = BaseContainer._resolvers
        return table

    def _layer(self) -> dict[str, Any]:
        active = self.active.get()
        if active is not None:
            return active[0]
        run = _current_run.get()
        return run.resolvers if run is not None and run.table is self else {}

    def __getitem__(self, name: str) -> Any:
        recorded = _recorded.get()
        if recorded is not None:
            recorded.add(name)
        layer = self._layer()
        found = layer[name] if name in layer else self._shared[name]
        if found is _CLEARED:
            raise KeyError(name)
        return passing_literals(name, found)

    def __setitem__(self, name: str, resolver: Any) -> None:
        if self.active.get() is None:
            self._shared[name] = resolver
        self._layer()[name] = resolver

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        if self.active.get() is None:
            self._shared.pop(name, None)
        self._layer()[name] = _CLEARED

    def __iter__(self) -> Iterator[str]:
        own = dict(self._layer())
        return iter([name for name in {**self._shared, **own} if own.get(name) is not _CLEARED])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def layered_table(shared: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return OmegaConf's resolver table with a layer for each configuration loader."""
    return _LayeredTable(shared)
