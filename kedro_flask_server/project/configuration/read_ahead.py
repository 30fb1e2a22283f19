"""Reads the configuration ahead of runs: into the cache, and for what is to be redacted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from kedro.framework.project import settings

from kedro_flask_server.project.configuration.resolvers import are_all_of_omegaconf
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.configuration.yaml_tags import has_own_tags
from kedro_flask_server.project.known_names import names_in_configuration
from kedro_flask_server.redaction import SECRETS


def learn_credentials(configuration: SelectedConfiguration) -> None:
    """Learn the secrets in a project's configuration; each run does so, too."""
    with suppress(Exception, SystemExit):  # it fails again in the run that needs it
        _ = configuration.loader()["credentials"]


def learn_names(configuration: SelectedConfiguration) -> None:
    """Learn the names in a project's configuration, which are no secrets."""
    with suppress(Exception, SystemExit):  # as above
        loader = configuration.loader()
        for key in ("catalog", "parameters"):
            with suppress(Exception, SystemExit):
                SECRETS.learn_names(names_in_configuration(loader[key]))


def read_ahead(configuration: SelectedConfiguration, params: Iterable[str] = ()) -> bool:
    """Read the configuration, so that the runs of processes forked from this one need not.

    That is done where it executes no code of the project's: with Kedro's own configuration
    loader, no resolvers but its own and OmegaConf's, and no YAML tags of the project's.

    Args:
        configuration: The configuration.
        params: The runtime parameters that runs have, by their names and paths.

    Returns:
        Whether it was done.
    """
    has_own_resolvers = (
        settings.CONFIG_LOADER_ARGS.get("custom_resolvers") or not are_all_of_omegaconf()
    )
    if not configuration.is_cached or has_own_resolvers or has_own_tags():
        return False
    # After two looks it is known which files there are, and after the third what they hold.
    runtime_params = _texts_named(params)
    for _ in range(3):
        with suppress(Exception):  # it fails again in the run that needs it
            loader = configuration.loader(
                runtime_params=runtime_params, restrict_runtime_params_type_selection=True
            )
            for key in ("catalog", "credentials", "parameters"):
                with suppress(Exception):
                    _ = loader[key]
    pop_has_new_entries(configuration)
    return True


def pop_has_new_entries(configuration: SelectedConfiguration) -> bool:
    """Return whether the cache has new entries since the last call or `read_ahead`."""
    if not configuration.is_cached:
        return False
    cache = settings.CONFIG_LOADER_CLASS.cache
    has_new_entries: bool = cache.has_new_entries
    cache.has_new_entries = False
    return has_new_entries


def _texts_named(names: Iterable[str]) -> dict[str, Any]:
    """Return runtime parameters of some names and paths, each of them a text."""
    params: dict[str, Any] = {}
    for name in names:
        *folders, last = name.split(".")
        inner: Any = params
        for folder in folders:
            inner = inner.setdefault(folder, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.setdefault(last, "text")
    return params
