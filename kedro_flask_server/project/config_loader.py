"""The project's configuration loader, made safe for runs at the same time."""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError

from kedro_flask_server.project.keeping import KeepingConfigLoader
from kedro_flask_server.project.kept import CatalogSource, KeptFolders, types_in
from kedro_flask_server.project.parsing import noting_what_is_read
from kedro_flask_server.project.resolvers import ResolverLayer
from kedro_flask_server.redaction import SECRETS

# Stands for "$" in runtime parameters while they are resolved: a character that Unicode leaves to
# programs (https://www.unicode.org/faq/private_use.html#noncharacters).
_MARK = "\ufdd0"

_ESCAPED = re.compile(r"(?<!\\)(\\+)\$\{")

_GUARD = "restrict_runtime_params_type_selection"


class IsolatedConfigLoader(AbstractConfigLoader):
    """Mixed in before a project's loader, keeps each instance's values to itself.

    What it promises for any loader class:

    - Its OmegaConf resolvers are its own, so no run resolves another's runtime parameters.
    - Runtime parameters are taken literally: nothing in them is resolved, however often the class
      resolves what they have become a part of. With `resolves_params`, they are OmegaConf's.
    - What it finds among the credentials is kept out of all that is logged and sent.
    - A class that does not take the newest of Kedro's arguments works without it.
    - Kedro's guard against runtime parameters that choose a dataset's ``type`` holds, whatever
      the class makes of the argument that asks for it.
    """

    resolves_params = False

    _project_class: type[AbstractConfigLoader]
    _is_guarded = False

    kept: KeptFolders

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        is_guarded = bool(kwargs.pop(_GUARD, False))
        self._layer = ResolverLayer(self)
        self._has_marks = False
        if not self.resolves_params and kwargs.get("runtime_params"):
            given = kwargs["runtime_params"]
            kwargs["runtime_params"] = _replaced(given, "$", _MARK)
            self._has_marks = kwargs["runtime_params"] != given
        self._arguments = args, dict(kwargs)
        self._is_guarded = is_guarded
        if is_guarded and _takes_guard(self._project_class):
            kwargs[_GUARD] = True
        with self._layer.active():
            super().__init__(*args, **kwargs)

    @property
    def restrict_runtime_params_type_selection(self) -> bool:
        """Whether Kedro's own loader keeps its guard; once it is on, nothing turns it off."""
        return self._is_guarded

    @restrict_runtime_params_type_selection.setter
    def restrict_runtime_params_type_selection(self, value: bool) -> None:
        self._is_guarded = self._is_guarded or value

    def __getitem__(self, key: str) -> Any:
        with self._layer.active(), noting_what_is_read() as texts:
            config = super().__getitem__(key)
        if self._has_marks:
            config = _replaced(config, _MARK, "$")
        if key == "credentials":
            SECRETS.learn_all_in(config)
        if key == "catalog" and self._is_guarded and self.runtime_params:
            self._refuse_chosen_types(config, texts)
        return config

    def _refuse_chosen_types(self, config: dict[str, Any], texts: list[Any]) -> None:
        """Refuse a catalog in which runtime parameters made a dataset's type what it is.

        A class may resolve in ways unknown here, and Kedro's own guard compares text. So the
        types must be those that come out without the parameters or, where some are required,
        with other values in the same places. Kedro's own class resolves as OmegaConf does: a type
        that its files give literally is what it is, and need not be looked at again.
        """
        dynamic = self.dynamic_names if isinstance(self, KeepingConfigLoader) else None
        names = [name for name in config if dynamic is None or name in dynamic]
        found = dict(types_in({name: config[name] for name in names}))
        if self._project_class is OmegaConfigLoader:
            found = {
                path: each for path, each in found.items() if not _is_literal(texts, path, each)
            }
        if not found:
            return
        expected = self._types_without_params()
        if expected is None:
            expected, _ = self._types_with(_with_other_values(self.runtime_params))
        for path, dataset_type in found.items():
            if expected is None or expected.get(path) != dataset_type:
                raise InterpolationResolutionError(
                    f"Dataset '{path[0]}' has a 'type' that cannot be told from one that runtime "
                    "parameters chose, which is not permitted: they must not select which dataset "
                    "class is instantiated."
                )

    def _types_without_params(self) -> dict[tuple[Any, ...], Any] | None:
        """Return the types in the catalog without parameters; None where it needs some."""
        source = _source_of(self)
        types: dict[tuple[Any, ...], Any] | None = self.kept.types_in(source)
        if types is None:
            types, found_in = self._types_with({})
            if found_in == source:  # otherwise somebody has just edited it
                self.kept.keep_types(source, types)
        return types

    def _types_with(
        self, runtime_params: dict[str, Any]
    ) -> tuple[dict[tuple[Any, ...], Any] | None, CatalogSource | None]:
        """Return the types in the catalog with other parameters; None where it needs those."""
        args, kwargs = self._arguments
        try:
            other = type(self)(*args, **{**kwargs, "runtime_params": runtime_params})
            return dict(types_in(other["catalog"])), _source_of(other)
        except Exception:  # whatever the project's class raises for a parameter it misses
            return None, None


@lru_cache
def _takes_guard(loader_class: type[AbstractConfigLoader]) -> bool:
    return _GUARD in inspect.signature(loader_class.__init__).parameters


def _source_of(loader: object) -> CatalogSource | None:
    return loader.catalog_source if isinstance(loader, KeepingConfigLoader) else None


def isolated(loader_class: type[AbstractConfigLoader]) -> type[AbstractConfigLoader]:
    """Return a subclass of a project's configuration loader for runs at the same time.

    Args:
        loader_class: ``CONFIG_LOADER_CLASS`` of the project's settings.

    Returns:
        A subclass with the promises of `IsolatedConfigLoader`; the class itself if it has them.
    """
    if issubclass(loader_class, IsolatedConfigLoader):
        return loader_class
    inner: type[AbstractConfigLoader] = loader_class
    if loader_class is OmegaConfigLoader and KeepingConfigLoader.is_possible():
        inner = KeepingConfigLoader
    return type(
        loader_class.__name__,
        (IsolatedConfigLoader, inner),
        {"_project_class": loader_class, "kept": KeptFolders()},
    )


def unescaped(params: Any) -> Any:
    r"""Return runtime parameters with ``${`` where ``\${`` was, as OmegaConf would have it."""
    if isinstance(params, str):
        return _ESCAPED.sub(lambda found: "\\" * (len(found[1]) // 2) + "${", params)
    if isinstance(params, dict):
        return {key: unescaped(each) for key, each in params.items()}
    if isinstance(params, list):
        return [unescaped(each) for each in params]
    return params


def _replaced(content: Any, old: str, new: str) -> Any:
    """Return configuration with a character replaced in all texts, those of keys included."""
    if isinstance(content, str):
        return content.replace(old, new)
    if isinstance(content, dict):
        return {
            _replaced(key, old, new): _replaced(each, old, new) for key, each in content.items()
        }
    if isinstance(content, list):
        return [_replaced(each, old, new) for each in content]
    return content


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


def _is_literal(texts: list[Any], path: tuple[Any, ...], value: Any) -> bool:
    """Whether a value stands in one of some texts, and no other could have put it in its place."""
    is_there = False
    for text in texts:
        content = text
        for key in path:
            held = dict(enumerate(content)) if isinstance(content, list) else content
            if not isinstance(held, dict) or key not in held:
                break
            content = held[key]
        else:
            is_there = is_there or content == value
        if isinstance(content, str) and "${" in content:  # it, or what it would be a part of
            return False
    return is_there
