"""Creates the executor that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedro_flask_server.config.settings import ServerConfig, secret_variables
from kedro_flask_server.executors import Executor
from kedro_flask_server.logs import LogWriter
from kedro_flask_server.model.executors import PROCESSES, THREADS
from kedro_flask_server.project import KedroProject

if TYPE_CHECKING:
    from kedro_flask_server.workers.handles import TemplateHandle
    from kedro_flask_server.workers.protocol import WorkerSettings


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

    parts.project.prepare_for_threads(log_format=parts.config.log_format)
    writer = LogWriter() if parts.owns_process else None
    return ThreadExecutor(parts.project, workers=parts.config.workers, log_writer=writer)


def _processes(parts: ExecutorParts) -> Executor:
    # These need what Windows lacks.
    from kedro_flask_server.executors.processes import ProcessExecutor
    from kedro_flask_server.workers.pool import WorkerPool

    config = parts.config
    pool = WorkerPool(
        parts.worker_settings(),
        size=config.workers + 1,
        secrets=secret_variables(),
        template=parts.template,
    )
    return ProcessExecutor(
        pool,
        parts.project.safe_text,
        workers=config.workers,
        cancel_grace_s=config.cancel_grace_s,
    )


_FACTORIES = {PROCESSES.name: _processes, THREADS.name: _threads}
