"""A Kedro project: bootstrapped once, inspected and executed many times."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import kedro
from kedro.framework.project import pipelines, settings, validate_settings
from kedro.framework.startup import ProjectMetadata, bootstrap_project
from kedro.pipeline import Pipeline

from kedro_flask_server.config.settings_file import SettingsFile
from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.logs import logs_of
from kedro_flask_server.model.data_access import FoundAccess
from kedro_flask_server.model.data_exchange import MAX_CONTENT_BYTES
from kedro_flask_server.model.provenance import PARTS, Provenance
from kedro_flask_server.model.report import Report
from kedro_flask_server.model.retry import ChainPast, NextRun
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import DatasetVersions, Preload
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project import kedro_patches, warmup
from kedro_flask_server.project.configuration import read_ahead
from kedro_flask_server.project.configuration.class_guard import classes_guarded
from kedro_flask_server.project.configuration.isolated_loader import isolated
from kedro_flask_server.project.configuration.resolvers import resolvers_of_run
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.configuration.settings_file import read_settings_file
from kedro_flask_server.project.data_locations import (
    config_of_catalog,
    find_access,
)
from kedro_flask_server.project.dataset_versions import find_dataset_versions
from kedro_flask_server.project.exchange.run_exchange import RunExchange
from kedro_flask_server.project.execution import log_outcome, outcome_of, run_pipelines
from kedro_flask_server.project.failures import PLAIN, describe, safe, trace
from kedro_flask_server.project.hook_calls import before_start
from kedro_flask_server.project.known_names import names_of_project
from kedro_flask_server.project.planned_access import find_planned_access, find_unlocated
from kedro_flask_server.project.planned_data import describe_planned_data
from kedro_flask_server.project.plugins import warn_of_plugins_with_state
from kedro_flask_server.project.prepared_pipeline import PreparedPipeline
from kedro_flask_server.project.provenance import describe_run
from kedro_flask_server.project.retry_planner import plan_next_run
from kedro_flask_server.project.revision import (
    begin_to_read_revision,
    made_with,
    plugin_versions,
)
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import (
    RunPostponed,
    RunStopped,
    create_runner,
    start_processes_safely,
    stop_between_nodes,
)
from kedro_flask_server.project.sessions import Sessions, warn_of_unused_settings
from kedro_flask_server.project.snapshot import fingerprint, parse_params, snapshot_of
from kedro_flask_server.project.versions import pin_versions
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.run_files import RunFiles

logger = logging.getLogger(__name__)

_LEARN_EVERY_S = 1.0


class KedroProject:
    """A Kedro project: its settings, its snapshot and the execution of its pipelines.

    Kedro keeps the project's settings and pipelines once for the process, so a process has one
    `KedroProject`. All its methods may be called from any thread.
    """

    def __init__(self, metadata: ProjectMetadata) -> None:
        """Take a project that is bootstrapped; `bootstrap` does both."""
        self._metadata = metadata
        self._is_shared = False
        self._shared_paths: tuple[str, ...] = ()
        self._files = RunFiles(str(metadata.project_path / ".kedro_server" / "data"))
        self._allows_excel = False
        self._learnt_at = float("-inf")
        self.made_with = Provenance()
        """What all runs of this process are made of."""
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

    def prepare_for_threads(self, *, log_format: str, revision: str | None = None) -> None:
        """Load the pipelines, and prepare the process for runs that share it.

        Args:
            log_format: How ``ParallelRunner``'s processes write their log records.
            revision: The revision of the project; None to ask git.
        """
        self._is_shared = True
        finish = begin_to_read_revision(self.path, revision)
        warn_of_plugins_with_state()
        start_processes_safely(self.path, log_format)
        self.learn_credentials()
        self.learn_names()
        self.try_to_load()
        self.made_with = made_with(finish(), plugin_versions())

    def configure(
        self,
        *,
        env: str | None,
        conf_source: str | None,
        resolves_params: bool = False,
        shared_paths: Sequence[str] = (),
        data_url: str | None = None,
        allows_excel: bool = False,
    ) -> None:
        r"""Select the configuration that every run and snapshot uses.

        Args:
            env: Kedro's configuration environment; None for the project's default.
            conf_source: Where the configuration is; None for the project's own folder.
            resolves_params: Whether OmegaConf resolves what runtime parameters hold. Otherwise
                they are literal, and ``\${`` in them stands for ``${``.
            shared_paths: Folders that are the same on all machines.
            data_url: Where the data of runs is; None for where no run exchanges data.
            allows_excel: Whether workbooks are read that a request gives.
        """
        self._shared_paths = tuple(shared_paths)
        self._allows_excel = allows_excel
        if data_url is not None:
            self._files = RunFiles(data_url)
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

    def settings_file(self, env: str | None, conf_source: str | None) -> SettingsFile:
        """Return the settings in the configuration, ``conf/<env>/server.yml``.

        Args:
            env: As for `configure`, which need not have been called.
            conf_source: As for `configure`.

        Raises:
            ServerSettingsError: If they cannot be read.
        """
        return read_settings_file(
            SelectedConfiguration(project_path=self.path, env=env, conf_source=conf_source)
        )

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
        self,
        run_id: str,
        request: RunRequest,
        stop: StopRequest,
        report: Report,
        data: RunData,
        *,
        prepared: PreparedPipeline | None = None,
    ) -> RunOutcome:
        """Run pipelines, here and now.

        Args:
            run_id: The run's id and the save version of its versioned datasets.
            request: What to run.
            stop: Whether the run is to stop, which it does between two nodes.
            report: Records what happens in the run, and what it logs.
            data: Decides whether the run may start, and which versions it loads.
            prepared: The pipeline, where it is a call of a served one.

        Returns:
            What became of it; ``queued`` if another run is in the way. Whatever the project's code
            raises, ``SystemExit`` and ``KeyboardInterrupt`` included, is in the outcome: this never
            raises.
        """
        self._learn_environment(is_call=prepared is not None)
        run = partial(self._run, run_id, request, stop, report, data, prepared=prepared)
        with logs_of(run_id, report):
            outcome = outcome_of(run, stop, is_alone=not self._is_shared)
            if outcome.error is not None:
                report.describe(self.made_with)  # all there is of one that fails before its nodes
            log_outcome(run_id, outcome)
        return outcome

    def _learn_environment(self, *, is_call: bool) -> None:
        """Learn the secrets in the environment, to which the project's code may have added.

        Before each run, and of calls once a second: it takes a twelfth of a small one.
        """
        now = time.monotonic()
        if not is_call or now - self._learnt_at > _LEARN_EVERY_S:
            self._learnt_at = now
            SECRETS.learn_environment(os.environ)

    def _run(
        self,
        run_id: str,
        request: RunRequest,
        stop: StopRequest,
        report: Report,
        data: RunData,
        *,
        prepared: PreparedPipeline | None,
    ) -> None:
        session = self._sessions.load_for(request.pipeline_names)
        runner = create_runner(
            request.runner, is_async=request.is_async, package_name=self._metadata.package_name
        )
        stop_between_nodes(runner, stop)
        report_nodes(runner, report, partial(self._describe, report, prepared))
        pin_versions(runner, data)
        if stop.reason is not None:
            raise RunStopped
        runtime_params = self._configuration.runtime_params(request.params)
        exchange = RunExchange(
            data.folder or run_id,
            request.exchange,
            self._files,
            allows_excel=self._allows_excel,
            is_alone=not self._is_shared,
            max_content_bytes=0 if prepared is None else MAX_CONTENT_BYTES,
        )

        def begin(pipeline: Pipeline, catalog: Any) -> None:
            self._acquire(data, request, pipeline, catalog)
            if prepared is not None and prepared.has_catalog_for(request, runner):
                types = prepared.types_in(pipeline, allows_excel=self._allows_excel)
            else:
                types = exchange.types_of(pipeline, catalog)
                if prepared is not None:
                    prepared.put_into(catalog, request)
            exchange.begin(pipeline, catalog, types)

        try:
            with before_start(begin):
                if prepared is None:
                    run_pipelines(session, runner, run_id, request, runtime_params)
                else:
                    prepared.run(runner, run_id, request, runtime_params)
        finally:
            for name, output in exchange.finish().items():
                report.put_output(name, output)

    def _describe(
        self,
        report: Report,
        prepared: PreparedPipeline | None,
        pipeline: Pipeline,
        catalog: Any,
    ) -> None:
        """Record what a run is made of; it goes on if that fails."""
        try:
            found = describe_run(self.made_with, pipeline, catalog, self.path)
            if prepared is not None:
                uses = {
                    name: each for name, each in prepared.uses.items() if name in found.datasets
                }
                found = replace(found, datasets={**found.datasets, **uses})
            report.describe(found)
        except Exception:
            logger.exception("What the run is made of could not be recorded")
            report.describe(replace(self.made_with, lacks=PARTS))

    def _acquire(
        self, data: RunData, request: RunRequest, pipeline: Pipeline, catalog: Any
    ) -> None:
        """Acquire the locks of what a run reads and writes, unless it has them.

        Raises:
            RunPostponed: If another run is in the way.
        """
        if not data.is_checked:
            return
        found = find_access(
            pipeline, config_of_catalog(catalog), self._shared_paths, exchange=request.exchange
        )
        access = found.access
        if access.digest() != data.digest and not data.acquire(access.locks()):
            raise RunPostponed

    def data_access(self, request: RunRequest) -> FoundAccess | None:
        """Return what a run would read and write, without a run and without hooks.

        Args:
            request: What to run.

        Returns:
            What is found; None where that fails, as the run would.
        """
        try:
            self._sessions.load_for(request.pipeline_names)
            runtime_params = self._configuration.runtime_params(request.params)
            return find_planned_access(
                request, runtime_params, self._configuration, self._shared_paths
            )
        except BaseException as error:  # the project's code may raise anything
            logger.debug("What a run reads and writes cannot be told", exc_info=error)
            return None

    def describe_data(self, request: RunRequest) -> dict[str, Any] | ErrorDetail:
        """Return what data the nodes of a request take and return, or why that cannot be told."""
        try:
            self._sessions.load_for(request.pipeline_names)
            runtime_params = self._configuration.runtime_params(request.params)
            return describe_planned_data(
                request, runtime_params, self._configuration, allows_excel=self._allows_excel
            )
        except BaseException as error:  # the project's code may raise anything
            return describe(error)

    def plan_next_run(self, past: ChainPast) -> NextRun | ErrorDetail:
        """Return the next run of a chain, or why the project cannot tell it."""
        try:
            self._sessions.load_for(past.request.pipeline_names)
            runtime_params = self._configuration.runtime_params(past.request.params)
            return plan_next_run(past, runtime_params, self._configuration, self.made_with.revision)
        except BaseException as error:  # the project's code may raise anything
            return describe(error)

    def prepare(self, preload: Preload) -> PreparedPipeline:
        """Return a pipeline for calls, its context and catalog made and its datasets loaded.

        Args:
            preload: The pipeline and the datasets.

        Raises:
            NothingToLoadError: If a dataset is not there.
            BaseException: What the project's code and data raise.
        """
        session = self._sessions.load_for([preload.pipeline])
        with resolvers_of_run(is_alone=not self._is_shared), classes_guarded():
            runtime_params = self._configuration.runtime_params(None)
            return PreparedPipeline(preload, session, runtime_params, self.path)

    def dataset_versions(self, names: Sequence[str]) -> DatasetVersions | ErrorDetail:
        """Return what could be loaded for datasets now, or why that cannot be told."""
        try:
            return find_dataset_versions(self._configuration, names)
        except BaseException as error:  # the project's code may raise anything
            return describe(error)

    def unlocated_datasets(self) -> list[str]:
        """Return the datasets of all pipelines whose places the catalog does not tell, sorted."""
        try:
            return find_unlocated(self._configuration) if self.is_loaded else []
        except (Exception, SystemExit):  # it fails again in the run that needs it
            return []

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
