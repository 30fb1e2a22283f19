"""The guard of a catalog's classes: its files choose them, and never a caller.

Kedro imports and instantiates what a ``type`` names. Its own guard compares texts and looks at
that key alone; this one resolves a value of the catalog and sees whether that looks up a runtime
parameter. What names a class in another form (``dataset: pkg.Class`` of a ``PartitionedDataset``)
is checked when Kedro looks for the class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kedro_flask_server.project.configuration.yaml_cache import Merged

Path = tuple[Any, ...]

# What Kedro and kedro-datasets import by name: the last is a module beside a type that unpickles.
_CLASS_KEYS = ("type", "comparison_func")
_MODULE_KEY = "backend"
_IMPORTS_BACKEND = "pickle"

# Kedro looks for a dataset's class in these first.
_PACKAGES = ("kedro.io.", "kedro_datasets.")

_PLACEHOLDER = re.compile(r"\\\{.*?\\\}")
_NOTHING = object()


class ClassGuard:
    """Refuses classes in a run's catalog that its runtime parameters may have chosen.

    Args:
        config: The catalog.
        names: Those of its datasets that may depend on the parameters.
        folders: What the catalog was made of, the folder that counts most last; empty where that
            is not known.
        asks: Returns whether a function makes OmegaConf look up a runtime parameter that there is.
        alternatives: Return the catalogs of other parameters; a value that is the same in the first
            that can be made is no choice of the caller's.
    """

    def __init__(
        self,
        config: dict[str, Any],
        names: Iterable[str],
        *,
        folders: Sequence[Merged],
        asks: Callable[[Callable[[], Any]], bool],
        alternatives: Iterable[Callable[[], Any]],
    ) -> None:
        self._config = {name: config[name] for name in names}
        self._folders = folders
        self._asks = asks
        self._alternatives = alternatives

    def check(self) -> None:
        """Refuse a catalog in which runtime parameters have chosen a class.

        Raises:
            InterpolationResolutionError: If that cannot be ruled out.
        """
        for path, value in classes_in(self._config):
            self._check(path, value)

    def check_class(self, class_path: str) -> None:
        """Refuse a class that Kedro is about to import by a name from this catalog.

        Args:
            class_path: Its dotted path, perhaps after the name of a package of Kedro's.

        Raises:
            InterpolationResolutionError: As for `check`.
        """
        for package in ("", *_PACKAGES):
            if class_path.startswith(package):
                self._check_name(class_path.removeprefix(package))

    def _check_name(self, name: str) -> None:
        by_text, patterns = self._texts
        for path in by_text.get(name, ()):
            self._check(path, name)
        for pattern, path, text in patterns:
            if pattern.fullmatch(name):
                self._check(path, text)

    @cached_property
    def _texts(self) -> tuple[dict[str, list[Path]], list[tuple[re.Pattern[str], Path, str]]]:
        """The paths of each text of the catalog, and the texts with placeholders of factories."""
        by_text: dict[str, list[Path]] = {}
        patterns = []
        for path, value in _leaves_of(self._config):
            if not isinstance(value, str):
                continue
            by_text.setdefault(value, []).append(path)
            if "{" in value and "{" in str(path[0]):  # Kedro fills in those of factories alone
                patterns.append((_pattern_of(value), path, value))
        return by_text, patterns

    def _check(self, path: Path, value: Any) -> None:
        if self._stands_in_files(path, value) or self._is_in_alternative(path, value):
            return
        raise InterpolationResolutionError(
            f"Dataset '{path[0]}' has a '{path[-1]}' that cannot be told from one that runtime "
            "parameters chose, which is not permitted: they must not select which dataset class is "
            "instantiated."
        )

    def _stands_in_files(self, path: Path, value: Any) -> bool:
        """Return whether a value comes from the files without looking up a parameter."""
        for folder in reversed(self._folders):
            if path[0] not in folder.raw:
                continue
            found = _literal_at(folder.raw, path)
            if found is not _NOTHING:
                return bool(found == value)
            resolved: list[Any] = []
            try:
                asked = self._asks(lambda: resolved.append(_resolved_at(folder.config, path)))  # noqa: B023
            except Exception:  # whatever a resolver raises
                return False
            if resolved != [_NOTHING]:
                return not asked and resolved == [value]
        return False

    def _is_in_alternative(self, path: Path, value: Any) -> bool:
        for types in self._types_of_alternatives:
            return bool(types.get(path, _NOTHING) == value)
        return False

    @cached_property
    def _types_of_alternatives(self) -> list[dict[Path, Any]]:
        found = next(filter(None, (make() for make in self._alternatives)), None)
        return [] if found is None else [dict(_leaves_of(found))]


_guard: ContextVar[ClassGuard | None] = ContextVar("class_guard", default=None)


@contextmanager
def classes_guarded() -> Iterator[None]:
    """Give this run a guard of its own, which `guard_classes` sets."""
    token = _guard.set(None)
    try:
        yield
    finally:
        _guard.reset(token)


def guard_classes(guard: ClassGuard) -> None:
    """Check a catalog, and from now on each class that Kedro looks for, in this context."""
    guard.check()
    _guard.set(guard)


def refuse_chosen_class(class_path: str) -> None:
    """Refuse a class that a caller has chosen, as `ClassGuard.check_class` does."""
    guard = _guard.get()
    if guard is not None:
        guard.check_class(class_path)


def classes_in(config: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path of each class or module that a catalog's configuration names, and its name."""
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        imports = key == _MODULE_KEY and _IMPORTS_BACKEND in str(config.get("type")).lower()
        if key in _CLASS_KEYS or imports:
            yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from classes_in(value, (*path, key))


def _pattern_of(text: str) -> re.Pattern[str]:
    """Return a pattern of the class names that a factory's text may become.

    A text of placeholders alone becomes no dotted path.
    """
    has_own_part = bool(_PLACEHOLDER.sub("", re.escape(text)))
    return re.compile(_PLACEHOLDER.sub(".*" if has_own_part else "[^./]*", re.escape(text)))


def _leaves_of(config: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from _leaves_of(value, (*path, key))


def _literal_at(raw: Any, path: Path) -> Any:
    """Return the value at a path, if nothing is to be resolved on the way to it."""
    for key in path:
        held = dict(enumerate(raw)) if isinstance(raw, list) else raw
        if not isinstance(held, dict) or key not in held:
            return _NOTHING
        raw = held[key]
    return _NOTHING if not isinstance(raw, str) or "${" in raw else raw


def _resolved_at(config: Any, path: Path) -> Any:
    for key in path:
        is_there = key in config if OmegaConf.is_dict(config) else OmegaConf.is_list(config)
        if not is_there:
            return _NOTHING
        config = config[key]
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
