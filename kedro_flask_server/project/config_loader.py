"""The project's configuration loader, made safe for runs at the same time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError

from kedro_flask_server.project.resolvers import ResolverLayer

_GUARD = "restrict_runtime_params_type_selection"


class IsolatedConfigLoader(AbstractConfigLoader):
    """Mixed in before a project's loader, keeps each instance's values to itself.

    What it promises for any loader class:

    - Its OmegaConf resolvers are its own, so no run resolves another's runtime parameters.
    - A class that does not take the newest of Kedro's arguments works without it.
    - Kedro's guard against runtime parameters that choose a dataset's ``type`` holds, be it
      the class's own or, where it has none, the one of this class.
    """

    _project_class: type[AbstractConfigLoader]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        guarded = bool(kwargs.get(_GUARD))
        unguarded = {name: value for name, value in kwargs.items() if name != _GUARD}
        if guarded and not self._takes_guard():
            kwargs = unguarded
        self._layer = ResolverLayer()
        with self._layer.active():
            super().__init__(*args, **kwargs)
        has_guard = isinstance(self, OmegaConfigLoader)
        if guarded and has_guard:
            self.restrict_runtime_params_type_selection = True
        self._probe_arguments = (args, unguarded) if guarded and not has_guard else None

    def __getitem__(self, key: str) -> Any:
        with self._layer.active():
            config = super().__getitem__(key)
        if key == "catalog" and self._probe_arguments and self.runtime_params:
            self._refuse_chosen_types(config)
        return config

    @classmethod
    def _takes_guard(cls) -> bool:
        """Whether the project's class takes the newest of Kedro's arguments."""
        parameters = inspect.signature(cls._project_class.__init__).parameters.values()
        return any(each.name == _GUARD or each.kind is each.VAR_KEYWORD for each in parameters)

    def _refuse_chosen_types(self, config: dict[str, Any]) -> None:
        """Refuse a catalog whose dataset types depend on the values of runtime parameters.

        The class resolves in ways unknown here, so it is asked again with other values in the
        same places: the types must come out the same.
        """
        args, kwargs = self._probe_arguments or ((), {})
        probe = type(self)(
            *args, **{**kwargs, "runtime_params": _with_other_values(self.runtime_params)}
        )
        try:
            expected = dict(_types(probe["catalog"]))
        except Exception as error:
            raise InterpolationResolutionError(
                "The configuration loader has no guard of its own against runtime parameters "
                "that choose a dataset's 'type', and with other values for the same parameters "
                f"it fails ({type(error).__qualname__}), so that nothing can be shown."
            ) from error
        for path, dataset_type in _types(config):
            if expected.get(path) != dataset_type:
                raise InterpolationResolutionError(
                    f"Dataset '{path[0]}' takes its 'type' from runtime parameters, which is not "
                    "permitted: they must not select which dataset class is instantiated."
                )


def isolated(loader_class: type[AbstractConfigLoader]) -> type[AbstractConfigLoader]:
    """Return a subclass of a project's configuration loader for runs at the same time.

    Args:
        loader_class: ``CONFIG_LOADER_CLASS`` of the project's settings.

    Returns:
        A subclass with the promises of `IsolatedConfigLoader`; the class itself if it has them.
    """
    if issubclass(loader_class, IsolatedConfigLoader):
        return loader_class
    return type(
        loader_class.__name__,
        (IsolatedConfigLoader, loader_class),
        {"_project_class": loader_class},
    )


def _with_other_values(value: Any) -> Any:
    """Return runtime parameters of the same shape and types, with none of the same values."""
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


def _types(config: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield where each ``type`` stands in a catalog's configuration, and what it is."""
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        if key == "type":
            yield path, value
        elif isinstance(value, (dict, list)):
            yield from _types(value, (*path, key))
