"""The configuration that all runs and snapshots of a project use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.project import settings

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.project.configuration.caching_loader import CachingConfigLoader
from kedro_flask_server.project.configuration.isolated_loader import is_kedro_loader
from kedro_flask_server.project.configuration.literals import unescaped


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedConfiguration:
    r"""The configuration that all runs and snapshots of a project use.

    Attributes:
        project_path: The project's folder.
        env: Kedro's configuration environment; None for the project's default.
        conf_source: Where the configuration is; None for the project's own folder.
        resolves_params: Whether OmegaConf resolves what runtime parameters hold. Otherwise they are
            literal, and ``\${`` in them stands for ``${``.
    """

    project_path: Path
    env: str | None = None
    conf_source: str | None = None
    resolves_params: bool = False

    @property
    def env_name(self) -> str:
        """The configuration environment, the default one by its name."""
        return self.env or settings.get("CONFIG_LOADER_ARGS", {}).get("default_run_env") or "base"

    @property
    def source(self) -> Path:
        """The folder or archive of the configuration."""
        return Path(self.conf_source or self.project_path / settings.CONF_SOURCE)

    @property
    def is_cached(self) -> bool:
        """True if its loader has a cache."""
        return issubclass(settings.CONFIG_LOADER_CLASS, CachingConfigLoader)

    def folders(self) -> list[Path]:
        """Return the folders of all files that count; none where they are not known."""
        return self.folders_of_kedro() if self.is_cached else []

    def folders_of_kedro(self) -> list[Path]:
        """Return the folders that Kedro's own loader reads: the base's and the environment's."""
        given = settings.CONFIG_LOADER_ARGS
        env = self.env or given.get("default_run_env") or ""
        return [self.source / each for each in dict.fromkeys((given.get("base_env") or "", env))]

    def loader(self, **options: Any) -> AbstractConfigLoader:
        """Return a loader of the project's class.

        Args:
            **options: Its arguments, beside those of the project's settings.
        """
        loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
            conf_source=self.conf_source or str(self.project_path / settings.CONF_SOURCE),
            env=self.env,
            **{**settings.CONFIG_LOADER_ARGS, **options},
        )
        return loader

    def runtime_params(self, params: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return a request's parameters as the loader is to have them."""
        return params if self.resolves_params else unescaped(params)

    def refuse_unknown_env(self) -> None:
        """Refuse a configuration environment that has no folder: each run would fail for that.

        Only a folder with Kedro's own configuration loader is looked at.

        Raises:
            ServerSettingsError: If there is none. The message names those that there are.
        """
        is_known = is_kedro_loader(settings.CONFIG_LOADER_CLASS) and self.source.is_dir()
        if self.env is None or not is_known or (self.source / self.env).is_dir():
            return
        there = sorted(each.name for each in self.source.iterdir() if each.is_dir())
        raise ServerSettingsError(
            f"Setting 'env' cannot be {self.env!r}: there is no such folder in {self.source}. The "
            f"environments are: {', '.join(there)}."
        )
