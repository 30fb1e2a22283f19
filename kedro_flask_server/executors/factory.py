"""Creates the executor that the settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kedro_flask_server.config.settings import (
    ServerConfig,
    keeps_runs_apart,
    secret_variables,
)
from kedro_flask_server.errors import UNLOCATED
from kedro_flask_server.executors import Executor, ServedWorkers
from kedro_flask_server.logs import LogWriter
from kedro_flask_server.model.executors import PROCESSES, THREADS
from kedro_flask_server.model.served import Preload, ServedSettings
from kedro_flask_server.project import KedroProject

if TYPE_CHECKING:
    from kedro_flask_server.workers.handles import TemplateHandle
    from kedro_flask_server.workers.protocol import WorkerSettings

logger = logging.getLogger(__name__)

# Workers of served pipelines stay.
_ANY_NUMBER = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorParts:
    """The parts of an executor.

    Attributes:
        project: The project whose pipelines run.
        config: The settings of the server.
        worker_settings: Returns the settings of worker processes.
        template: The workers' template, if it was started ahead.
        owns_process: Whether this process is the server's alone, as with ``kedro server start``:
            what logs in it may be replaced.
    """

    project: KedroProject
    config: ServerConfig
    worker_settings: Callable[[], WorkerSettings]
    template: TemplateHandle | None = None
    owns_process: bool = False


def create_executor(parts: ExecutorParts) -> Executor:
    """Return the executor that the setting ``executor`` names, not started."""
    return _FACTORIES[parts.config.executor](parts)


def _threads(parts: ExecutorParts) -> Executor:
    from kedro_flask_server.executors.threads import ThreadExecutor

    parts.project.prepare_for_threads(
        log_format=parts.config.log_format, revision=parts.config.project_revision
    )
    unlocated = parts.project.unlocated_datasets() if keeps_runs_apart(parts.config) else []
    if unlocated:
        logger.warning(UNLOCATED, ", ".join(map(repr, unlocated)))
    writer = LogWriter() if parts.owns_process else None
    return ThreadExecutor(parts.project, workers=parts.config.workers, log_writer=writer)


def _processes(parts: ExecutorParts) -> Executor:
    # These need what Windows lacks.
    from kedro_flask_server.executors.processes import ProcessExecutor
    from kedro_flask_server.executors.served_processes import ServedProcesses
    from kedro_flask_server.workers.pool import WorkerPool

    config, worker_settings = parts.config, parts.worker_settings()
    safe = parts.project.safe_text
    pool = WorkerPool(
        worker_settings,
        size=config.workers + 1,
        secrets=secret_variables(),
        template=parts.template,
    )

    def served_workers(preload: Preload, settings: ServedSettings) -> ServedWorkers:
        own = replace(worker_settings, preload=preload.dump(), max_runs=_ANY_NUMBER, niceness=0)
        pool = WorkerPool(own, size=settings.workers, secrets=secret_variables())
        return ServedProcesses(pool, safe, grace_s=config.cancel_grace_s)

    return ProcessExecutor(
        pool,
        safe,
        workers=config.workers,
        cancel_grace_s=config.cancel_grace_s,
        served_workers=served_workers,
    )


_FACTORIES = {PROCESSES.name: _processes, THREADS.name: _threads}
