"""A Kedro project: bootstrapped once, inspected and executed many times."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import kedro
from kedro.framework.project import pipelines, settings, validate_settings
from kedro.framework.startup import ProjectMetadata, bootstrap_project

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.logs import logs_of
from kedro_flask_server.model.report import Report
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project import kedro_patches, warmup
from kedro_flask_server.project.configuration import read_ahead
from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.execution import log_outcome, outcome_of, run_pipelines
from kedro_flask_server.project.failures import PLAIN, describe, safe, trace
from kedro_flask_server.project.known_names import names_of_project
from kedro_flask_server.project.plugins import warn_of_plugins_with_state
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import (
    RunStopped,
    create_runner,
    start_processes_safely,
    stop_between_nodes,
)
from kedro_flask_server.project.sessions import Sessions, warn_of_unused_settings
from kedro_flask_server.project.snapshot import fingerprint, parse_params, snapshot_of
from kedro_flask_server.redaction import SECRETS

logger = logging.getLogger(__name__)


class KedroProject:
    """A Kedro project: its settings, its snapshot and the execution of its pipelines.

    Kedro keeps the project's settings and pipelines once for the process, so a process has one
    `KedroProject`. All its methods may be called from any thread.
    """

    def __init__(self, metadata: ProjectMetadata) -> None:
        """Take a project that is bootstrapped; `bootstrap` does both."""
        self._metadata = metadata
        self._is_shared = False
        self._configuration = SelectedConfiguration(project_path=metadata.project_path)
        self._sessions = Sessions(self._configuration)

    @classmethod
    def bootstrap(cls, project_path: Path) -> KedroProject:
        """Have Kedro open a project, and read its settings.

        Args:
            project_path: The folder with the project's pyproject.toml.

        Returns:
            The project, whose configuration is selected by `configure`.

        Raises:
            ServerSettingsError: If the folder holds no Kedro project, or its settings.py fails.
        """
        try:
            metadata = bootstrap_project(project_path)
            validate_settings()
            loader_class = settings.CONFIG_LOADER_CLASS
        except (Exception, SystemExit) as error:  # settings.py is the project's
            raise ServerSettingsError(
                f"The Kedro project in '{project_path}' cannot be opened: {describe(error).type}: "
                f"{describe(error).message}"
            ) from error
        # Both the session and the snapshot take the class from here.
        settings.set("CONFIG_LOADER_CLASS", isolated(loader_class))
        SECRETS.learn_names(names_of_project(metadata))
        SECRETS.learn_environment(os.environ, is_lasting=True)
        kedro_patches.apply()
        return cls(metadata)

    def prepare_for_threads(self, *, log_format: str) -> None:
        """Load the pipelines, and prepare the process for runs that share it.

        Args:
            log_format: How ``ParallelRunner``'s processes write their log records.
        """
        self._is_shared = True
        warn_of_plugins_with_state()
        start_processes_safely(self.path, log_format)
        self.learn_credentials()
        self.learn_names()
        self.try_to_load()

    def configure(
        self, *, env: str | None, conf_source: str | None, resolves_params: bool = False
    ) -> None:
        r"""Select the configuration that every run and snapshot uses.

        Args:
            env: Kedro's configuration environment; None for the project's default.
            conf_source: Where the configuration is; None for the project's own folder.
            resolves_params: Whether OmegaConf resolves what runtime parameters hold. Otherwise
                they are literal, and ``\${`` in them stands for ``${``.
        """
        loader_class = isolated(settings.CONFIG_LOADER_CLASS, resolves_params=resolves_params)
        settings.set("CONFIG_LOADER_CLASS", loader_class)
        self._configuration = SelectedConfiguration(
            project_path=self.path,
            env=env,
            conf_source=conf_source,
            resolves_params=resolves_params,
        )
        self._sessions = Sessions(self._configuration)
        SECRETS.learn_names((self.env,))

    @property
    def name(self) -> str:
        """The project's name."""
        return self._metadata.project_name

    @property
    def env(self) -> str:
        """The configuration environment of every run and snapshot, the default one by its name."""
        return self._configuration.env_name

    @property
    def path(self) -> Path:
        """The project's folder."""
        return self._metadata.project_path

    @property
    def source_dir(self) -> Path:
        """The folder of the project's modules."""
        return self._metadata.source_dir

    @property
    def kedro_version(self) -> str:
        """The version of Kedro that runs it."""
        return kedro.__version__

    @staticmethod
    def safe_text(text: str) -> str:
        """Return text that may be logged and sent: bounded, printable, without credentials."""
        return safe(text)

    def setting(self, name: str, default: Any) -> Any:
        """Return a value of the project's settings.py.

        Args:
            name: Its name there, in capitals.
            default: What to return where it is not set.

        Returns:
            The value.
        """
        return settings.get(name, default)

    def warn_of_unused_settings(self) -> None:
        """Log which settings count for ``kedro run`` and not for a server's runs."""
        warn_of_unused_settings()

    def refuse_unknown_env(self) -> None:
        """Refuse a configuration environment that has no folder.

        Raises:
            ServerSettingsError: If there is none. The message names those that there are.
        """
        self._configuration.refuse_unknown_env()

    @property
    def is_loaded(self) -> bool:
        """True if the registered pipelines are loaded."""
        return self._sessions.is_loaded

    @property
    def pipelines(self) -> list[str] | None:
        """The names of the registered pipelines; None where they are not loaded."""
        return list(pipelines) if self.is_loaded else None

    def try_to_load(self) -> None:
        """Load the registered pipelines; if that fails, log it. Each run tries again."""
        self._sessions.try_to_load()

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project, without running anything.

        Args:
            params: Runtime parameters in the format of ``kedro run --params``.

        Returns:
            The snapshot, or why there is none.
        """
        try:
            given = parse_params(params) if params else None
            runtime_params = self._configuration.runtime_params(given)
            self._sessions.load()
            return snapshot_of(self._metadata, self._configuration, runtime_params)
        except BaseException as error:  # the project's code may raise anything
            failure = describe(error)
            logger.error(
                "Snapshot failed: %s: %s\n%s",
                failure.type,
                failure.message,
                trace(error),
                extra=PLAIN,
            )
            return failure

    def fingerprint(self, sources: Iterable[str]) -> str | None:
        """Return what a snapshot depends on, beside its parameters, as short text.

        Args:
            sources: The files of Python that it says lines of.

        Returns:
            A text that changes whenever the configuration or the sources do; None where there is
            no such text.
        """
        return fingerprint(self._configuration, sources)

    def learn_credentials(self) -> None:
        """Learn the secrets in the project's configuration; each run does so, too."""
        read_ahead.learn_credentials(self._configuration)

    def learn_names(self) -> None:
        """Learn the names in the project's configuration, which are no secrets."""
        read_ahead.learn_names(self._configuration)

    def read_ahead(self, params: Iterable[str] = ()) -> bool:
        """Read the configuration, so that the runs of processes forked from this one need not.

        Args:
            params: The runtime parameters that runs have, by their names and paths.

        Returns:
            Whether it was done, which it is where it executes no code of the project's.
        """
        return read_ahead.read_ahead(self._configuration, params)

    def pop_has_new_configuration(self) -> bool:
        """Return whether a configuration was parsed here since the last call or `read_ahead`."""
        return read_ahead.pop_has_new_entries(self._configuration)

    def import_datasets(self) -> list[str]:
        """Import the classes of the project's datasets, and return the modules in that order."""
        return warmup.import_datasets(self.snapshot)

    def execute(
        self, run_id: str, request: RunRequest, stop: StopRequest, report: Report
    ) -> RunOutcome:
        """Run pipelines, here and now.

        Args:
            run_id: The run's id and the save version of its versioned datasets.
            request: What to run.
            stop: Whether the run is to stop, which it does between two nodes.
            report: Records what happens in the run, and what it logs.

        Returns:
            What became of it. Whatever the project's code raises, ``SystemExit`` and
            ``KeyboardInterrupt`` included, is in the outcome: this never raises.
        """
        SECRETS.learn_environment(os.environ)  # the project's code may have added to it
        run = partial(self._run, run_id, request, stop, report)
        with logs_of(run_id, report):
            outcome = outcome_of(run, stop, is_alone=not self._is_shared)
            log_outcome(run_id, outcome)
        return outcome

    def _run(self, run_id: str, request: RunRequest, stop: StopRequest, report: Report) -> None:
        session = self._sessions.load_for(request.pipeline_names)
        runner = create_runner(
            request.runner, is_async=request.is_async, package_name=self._metadata.package_name
        )
        stop_between_nodes(runner, stop)
        report_nodes(runner, report)
        if stop.reason is not None:
            raise RunStopped
        runtime_params = self._configuration.runtime_params(request.params)
        run_pipelines(session, runner, run_id, request, runtime_params)

    def close(self) -> None:
        """End the session, if there is one."""
        self._sessions.close()


def watched_paths(metadata: ProjectMetadata, conf_source: str | None) -> tuple[Path, Path]:
    """Return where the files are that make a project.

    Args:
        metadata: The project's, from its pyproject.toml.
        conf_source: The configuration's folder or archive; None for the project's own.

    Returns:
        The source folder and the configuration.
    """
    if conf_source is not None:
        return metadata.source_dir, Path(conf_source).expanduser().resolve()
    try:
        own = settings.get("SERVER", {}).get("conf_source") or settings.CONF_SOURCE
    except (Exception, SystemExit):  # a settings.py that is broken is about to be mended
        own = "conf"
    return metadata.source_dir, metadata.project_path / own
