"""Opens a project with its settings, before a server and its imports."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kedro_flask_server.config.settings import (
    ServerConfig,
    keeps_runs_apart,
    secret_variables,
    settings,
)
from kedro_flask_server.config.sources import load_config, resolve_project_path
from kedro_flask_server.model.executors import PROCESSES
from kedro_flask_server.project import KedroProject
from kedro_flask_server.redaction import SECRETS, passwords_in

if TYPE_CHECKING:
    from kedro_flask_server.workers.handles import TemplateHandle
    from kedro_flask_server.workers.protocol import WorkerSettings


logger = logging.getLogger(__name__)

# Of the processes of runs, where callers wait for served pipelines.
_BATCH_NICENESS = 10

STATE_DIR = ".kedro_server"
"""The folder of a project for the data of its server."""


@dataclass(frozen=True, slots=True)
class OpenedProject:
    """A project and the settings of its server.

    Attributes:
        project: The project, bootstrapped.
        config: The settings.
    """

    project: KedroProject
    config: ServerConfig


def open_project(project_path: str | Path | None, arguments: Mapping[str, object]) -> OpenedProject:
    """Bootstrap a project and read its settings.

    Args:
        project_path: The project's folder; by default ``KEDRO_PROJECT_PATH``.
        arguments: Settings that override all others.

    Raises:
        ServerSettingsError: If the project is missing or cannot be opened, or a setting is unknown
            or has a value that is not allowed.
    """
    path = resolve_project_path(project_path, os.environ)
    project = KedroProject.bootstrap(path)
    config = load_config(
        path,
        arguments=arguments,
        environ=os.environ,
        read_file=project.settings_file,
        project_settings=project.setting("SERVER", {}),
    )
    # Withheld from workers, too (`secret_variables`).
    SECRETS.learn(_secrets_of_server(config), is_lasting=True)
    project.configure(
        env=config.env,
        conf_source=config.conf_source,
        resolves_params=config.allow_param_interpolation,
        shared_paths=config.shared_paths,
        data_url=data_url(OpenedProject(project, config)),
        allows_excel=config.allow_excel,
    )
    return OpenedProject(project, config)


def _secrets_of_server(config: ServerConfig) -> Iterator[str]:
    variables = (os.environ.get(each, "") for each in secret_variables())
    values = (getattr(config, each.name) for each in settings() if each.metadata["is_secret"])
    for value in (*variables, *values):
        if value:
            yield from passwords_in(value) if "://" in value else (value,)


def state_dir(opened: OpenedProject) -> Path:
    """Return the folder in which a server keeps its data."""
    return Path(opened.config.state_dir or opened.project.path / STATE_DIR)


def data_url(opened: OpenedProject) -> str:
    """Return where the data of a server's runs is."""
    wanted = opened.config.data_url or str(state_dir(opened) / "data")
    # Workers have another working directory.
    return wanted if "://" in wanted else str(Path(wanted).absolute())


def warn_of_data_apart(opened: OpenedProject) -> None:
    """Log that servers which share a database have their data apart."""
    config = opened.config
    is_shared = (config.database_url or "").startswith("postgresql")
    if is_shared and config.data_url is None:
        logger.info(
            "The data that requests give and runs return is in %s: servers that share the database "
            "need one place that they share, too (setting data_url)",
            data_url(opened),
        )


def worker_settings(opened: OpenedProject) -> WorkerSettings:
    """Return the settings of a server's worker processes."""
    from kedro_flask_server.workers.protocol import WorkerSettings  # needs what Windows lacks

    config = opened.config
    return WorkerSettings(
        project_path=str(opened.project.path),
        env=config.env,
        conf_source=config.conf_source and _absolute(config.conf_source),
        resolves_params=config.allow_param_interpolation,
        shared_paths=[*config.shared_paths],
        data_url=data_url(opened),
        allows_excel=config.allow_excel,
        has_locks=keeps_runs_apart(config),
        start_method=config.worker_start_method,
        max_runs=config.max_runs_per_worker,
        max_rss_mb=config.max_worker_rss_mb,
        log_format=config.log_format,
        memory_limit_mb=config.worker_memory_limit_mb,
        python_path=[*map(_absolute, sys.path)],
        revision=config.project_revision,
        niceness=_BATCH_NICENESS if config.served_pipelines else 0,
    )


def _absolute(path: str) -> str:
    """Return a path that is also valid in the project's folder, where the workers run.

    What is not a local path, such as a URL or the argument of an import hook, stays.
    """
    is_relative = not path or (not Path(path).is_absolute() and Path(path).exists())
    return str(Path.cwd() / path) if is_relative else path


def start_template(opened: OpenedProject) -> TemplateHandle | None:
    """Start the template of the workers ahead, while the server is being created.

    It ends by itself if this process does.

    Returns:
        The template; None if runs execute in threads, or if it cannot be started now.
    """
    if opened.config.executor != PROCESSES.name:
        return None
    from kedro_flask_server.workers.handles import TemplateHandle

    try:
        return TemplateHandle.start(worker_settings(opened), secret_variables())
    except OSError:  # retried when the server starts, which reports why
        return None
