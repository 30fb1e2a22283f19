"""A Kedro project: bootstrapped once, inspected and executed many times."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import kedro
from kedro.config import AbstractConfigLoader
from kedro.framework.cli.utils import _split_params
from kedro.framework.project import pipelines, settings, validate_settings
from kedro.framework.session import KedroServiceSession, KedroSession
from kedro.framework.session.store import BaseSessionStore
from kedro.framework.startup import ProjectMetadata, bootstrap_project
from kedro.inspection import get_project_snapshot
from kedro.io.core import parse_dataset_definition

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.logs import logs_of
from kedro_flask_server.model.report import Report
from kedro_flask_server.model.run import (
    DEFAULT_PIPELINE,
    ErrorDetail,
    RunOutcome,
    RunRequest,
    RunStatus,
    Snapshot,
    StopReason,
)
from kedro_flask_server.model.stop import RunInterrupted, StopRequest
from kedro_flask_server.origins import InstalledOnly, OwnModuleError, is_installed_module
from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.configuration.caching_loader import (
    CachingConfigLoader,
    recording_uncached,
)
from kedro_flask_server.project.configuration.class_guard import classes_guarded
from kedro_flask_server.project.configuration.files import stamps_in
from kedro_flask_server.project.configuration.isolated_loader import is_kedro_loader, isolated
from kedro_flask_server.project.configuration.literals import unescaped
from kedro_flask_server.project.configuration.resolvers import (
    are_all_of_omegaconf,
    resolvers_of_run,
)
from kedro_flask_server.project.configuration.yaml_tags import has_own_tags
from kedro_flask_server.project.failures import describe, describe_run, safe, trace
from kedro_flask_server.project.hook_calls import pipelines_named, prepare_calls
from kedro_flask_server.project.names import (
    names_in_configuration,
    names_of_pipelines,
    names_of_project,
)
from kedro_flask_server.project.plugins import (
    has_hooks_before_datasets,
    warn_of_plugins_with_state,
)
from kedro_flask_server.project.run_hooks import report_nodes
from kedro_flask_server.project.runner import (
    RunStopped,
    create_runner,
    start_processes_safely,
    stop_between_nodes,
)
from kedro_flask_server.project.snapshot import changed_since, fingerprint_of, sources_in
from kedro_flask_server.redaction import SECRETS, redact_snapshot

logger = logging.getLogger(__name__)

# Others' text is no markup: rich.logging.RichHandler would stumble over a "[/]" in it.
_PLAIN = {"markup": False}


class KedroProject:
    """A Kedro project: its settings, its snapshot and the execution of its pipelines.

    Kedro keeps the project's settings and pipelines once for the process, so a process has one
    `KedroProject`. All its methods may be called from any thread.
    """

    def __init__(self, metadata: ProjectMetadata) -> None:
        """Take a project that is bootstrapped; `bootstrap` does both."""
        self._metadata = metadata
        self._resolves_params = False
        self._is_shared = False
        self._env: str | None = None
        self._conf_source: str | None = None
        self._session: KedroServiceSession | None = None
        self._session_of_some: KedroServiceSession | None = None
        self._loaded_alone: set[str] = set()
        self._loading = threading.Lock()
        self._last_attempt_at = 0.0
        self._last_failure: BaseException | None = None

    @classmethod
    def bootstrap(cls, project_path: Path) -> KedroProject:
        """Make a project known to Kedro and read its settings.

        Args:
            project_path: The folder with the project's pyproject.toml.

        Returns:
            The project, with the configuration environment still to be chosen by `configure`.

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
        """Load the pipelines, and see to what runs that share a process must not do.

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
        r"""Choose the configuration that every run and snapshot uses.

        Args:
            env: Kedro's configuration environment; None for the project's default.
            conf_source: Where the configuration is; None for the project's own folder.
            resolves_params: Whether OmegaConf resolves what runtime parameters hold. Otherwise
                they are literal, and ``\${`` in them stands for ``${``.
        """
        self._resolves_params = resolves_params
        loader_class = isolated(settings.CONFIG_LOADER_CLASS, resolves_params=resolves_params)
        settings.set("CONFIG_LOADER_CLASS", loader_class)
        self._env = env
        self._conf_source = conf_source
        SECRETS.learn_names((self.env,))

    @property
    def name(self) -> str:
        """The project's name."""
        return self._metadata.project_name

    @property
    def env(self) -> str:
        """The configuration environment of every run and snapshot, the default one by its name."""
        default = settings.get("CONFIG_LOADER_ARGS", {}).get("default_run_env")
        return self._env or default or "base"

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
        """Say in the log which settings count for ``kedro run`` and not for a server's runs."""
        used: dict[str, tuple[type, ...]] = {
            "SESSION_CLASS": (KedroSession, KedroServiceSession),
            "SESSION_STORE_CLASS": (BaseSessionStore,),
        }
        unused = [name for name, classes in used.items() if settings.get(name) not in classes]
        if unused:
            logger.warning(
                "%s in settings.py: not used by a server, whose runs share a session of Kedro's "
                "(KedroServiceSession), without a store. What it does for each run belongs in a "
                "hook.",
                " and ".join(unused),
            )

    def refuse_unknown_env(self) -> None:
        """Refuse a configuration environment that has no folder: each run would fail for that.

        Only a folder with Kedro's own configuration loader is looked at.

        Raises:
            ServerSettingsError: If there is none. The message names those that there are.
        """
        loader_class = settings.CONFIG_LOADER_CLASS
        source = Path(self._conf_source or self.path / settings.CONF_SOURCE)
        if self._env is None or not is_kedro_loader(loader_class) or not source.is_dir():
            return
        if not (source / self._env).is_dir():
            there = sorted(each.name for each in source.iterdir() if each.is_dir())
            raise ServerSettingsError(
                f"Setting 'env' cannot be {self._env!r}: there is no such folder in {source}. The "
                f"environments are: {', '.join(there)}."
            )

    @property
    def pipelines(self) -> list[str] | None:
        """The names of the registered pipelines; None where they are not loaded."""
        return list(pipelines) if self._session is not None else None

    def try_to_load(self) -> None:
        """Load the registered pipelines; if that fails, say so in the log.

        Every snapshot and run tries again for as long as it fails.
        """
        try:
            self._loaded_session()
        except (Exception, SystemExit) as error:  # the registry is the project's
            logger.error(
                "The project's pipelines cannot be loaded. Until they can, /run and /snapshot "
                "fail; each request tries again. %s",
                trace(error),
                extra=_PLAIN,
            )

    def _loaded_session(self) -> KedroServiceSession:
        """Return the one session, its pipelines loaded, whatever it takes.

        While it fails, each call tries again; those that came before an attempt began share
        what it found.
        """
        asked_at = time.monotonic()
        with self._loading:
            if self._session is not None:
                return self._session
            if self._last_failure is not None and self._last_attempt_at > asked_at:
                raise self._last_failure
            self._last_attempt_at = time.monotonic()
            try:
                importlib.invalidate_caches()  # a mended registry may import new modules
                with self._as_before_if_it_fails():
                    self._session = self._new_session(serving_mode=True)
            except BaseException as error:
                self._last_failure = error
                raise
            self._last_failure = None
            with suppress(Exception):  # of nodes that a project has made its own
                SECRETS.learn_names(names_of_pipelines(), are_pipelines_known=True)
            return self._session

    def _session_for(self, names: Sequence[str] | None) -> KedroServiceSession:
        """Return a session that has the pipelines of a run.

        Where all together cannot be loaded, those that the run names are loaded alone, as
        ``kedro run --pipelines`` does.
        """
        try:
            return self._loaded_session()
        except (Exception, SystemExit):
            if not names or DEFAULT_PIPELINE in names:
                raise
        with self._loading:
            self._load_alone(names)
            if self._session_of_some is None:
                self._session_of_some = self._new_session(serving_mode=False)
                # As after `_enable_serving_mode`, which loads all: runs leave the registry alone,
                # and parameters must not choose a dataset's type.
                self._session_of_some._serving_mode = True
            return self._session_of_some

    def _load_alone(self, names: Sequence[str]) -> None:
        """Load pipelines beside those that were loaded alone before; no run sees less than that."""
        wanted = {*self._loaded_alone, *names}
        with self._as_before_if_it_fails():
            pipelines.set_requested(sorted(wanted))
            list(pipelines)
        self._loaded_alone = wanted

    @contextmanager
    def _as_before_if_it_fails(self) -> Iterator[None]:
        """Load pipelines without taking from other runs what was loaded before.

        Kedro's registry forgets that when it is asked for others; meanwhile its readers wait.
        """
        with pipelines._lock:
            try:
                yield
            except BaseException:
                pipelines.set_requested(sorted(self._loaded_alone) or None)
                raise

    def _new_session(self, *, serving_mode: bool) -> KedroServiceSession:
        session = KedroServiceSession.create(
            project_path=self.path,
            env=self._env,
            conf_source=self._conf_source,
            serving_mode=serving_mode,
        )
        prepare_calls(session._hook_manager)
        return session

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project, without running anything.

        Args:
            params: Runtime parameters in the format of ``kedro run --params``.

        Returns:
            The snapshot, or why there is none.
        """
        try:
            runtime_params = self._params(_parse_params(params) if params else None)
            self._loaded_session()
            began_ns, before = time.time_ns(), self._state_of_files()
            with recording_uncached() as left:
                found = get_project_snapshot(
                    env=self._env,
                    conf_source=self._conf_source,
                    metadata=self._metadata,
                    runtime_params=runtime_params,
                )
            content = dataclasses.asdict(found)
            sources = sources_in(content, self.path)
            content = redact_snapshot(content)
            # What was edited meanwhile, or depends on more than that, is not to be found again.
            is_lasting = not left and before == self._state_of_files()
            if not is_lasting or changed_since(sources, began_ns):
                return Snapshot(content=content)
            shown = tuple(map(str, sources))
            return Snapshot(content=content, fingerprint=self.fingerprint(shown), sources=shown)
        except BaseException as error:  # the project's code may raise anything
            failure = describe(error)
            logger.error(
                "Snapshot failed: %s: %s\n%s",
                failure.type,
                failure.message,
                trace(error),
                extra=_PLAIN,
            )
            return failure

    def fingerprint(self, sources: Iterable[str]) -> str | None:
        """Return what a snapshot depends on, beside its parameters, as short text.

        Args:
            sources: The files of Python that it says lines of.

        Returns:
            A text that changes whenever the configuration or the sources do; None where that
            cannot be told: of a project's own configuration loader, and of what is no folder here.
        """
        folders = self._configuration_folders()
        return fingerprint_of(folders, map(Path, sources)) if folders else None

    def _state_of_files(self) -> object:
        """Return what also changes when a file is edited, and edited back."""
        return self.fingerprint(()), [
            stamps_in(str(each)) for each in self._configuration_folders()
        ]

    def _configuration_folders(self) -> list[Path]:
        if not issubclass(settings.CONFIG_LOADER_CLASS, CachingConfigLoader):
            return []
        given = settings.CONFIG_LOADER_ARGS
        source = Path(self._conf_source or self.path / settings.CONF_SOURCE)
        env = self._env or given.get("default_run_env") or ""
        return [source / each for each in dict.fromkeys((given.get("base_env") or "", env))]

    def learn_credentials(self) -> None:
        """Take down what is secret in the project's configuration; each run does so, too."""
        with suppress(Exception, SystemExit):  # it fails again in the run that needs it
            _ = self._configuration()["credentials"]

    def learn_names(self) -> None:
        """Take down the names in the project's configuration, which are no secrets."""
        with suppress(Exception, SystemExit):  # as above
            config = self._configuration()
            for key in ("catalog", "parameters"):
                with suppress(Exception, SystemExit):
                    SECRETS.learn_names(names_in_configuration(config[key]))

    def read_ahead(self, params: Iterable[str] = ()) -> bool:
        """Read the configuration, so that the runs of processes forked from this one need not.

        That is done where it executes no code of the project's: with Kedro's own configuration
        loader, no resolvers but its own and OmegaConf's, and no YAML tags of the project's.

        Args:
            params: The runtime parameters that runs have, by their names and paths.

        Returns:
            Whether it was done.
        """
        given = settings.CONFIG_LOADER_ARGS
        is_keeping = issubclass(settings.CONFIG_LOADER_CLASS, CachingConfigLoader)
        has_own_resolvers = given.get("custom_resolvers") or not are_all_of_omegaconf()
        if not is_keeping or has_own_resolvers or has_own_tags():
            return False
        # After two looks it is known which files there are, and after the third what they hold.
        runtime_params = _texts_named(params)
        for _ in range(3):
            with suppress(Exception):  # it fails again in the run that needs it
                loader = self._configuration(
                    runtime_params=runtime_params, restrict_runtime_params_type_selection=True
                )
                for key in ("catalog", "credentials", "parameters"):
                    with suppress(Exception):
                        _ = loader[key]
        self.take_has_read_anew()
        return True

    def _configuration(self, **options: Any) -> AbstractConfigLoader:
        loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
            conf_source=self._conf_source or str(self.path / settings.CONF_SOURCE),
            env=self._env,
            **{**settings.CONFIG_LOADER_ARGS, **options},
        )
        return loader

    def take_has_read_anew(self) -> bool:
        """Return whether a configuration was parsed here since the last call or `read_ahead`."""
        loader_class = settings.CONFIG_LOADER_CLASS
        if not issubclass(loader_class, CachingConfigLoader):
            return False
        has_read_anew: bool = loader_class.cache.has_new_entries
        loader_class.cache.has_new_entries = False
        return has_read_anew

    def import_datasets(self) -> list[str]:
        """Import the classes of the project's datasets, as far as they can be told.

        Those of the project's own are not imported; and none, where code of the project's comes
        before it in a run, and may set what their modules look at.

        Returns:
            The modules that were imported, in that order.
        """
        before = set(sys.modules)
        snapshot = None if has_hooks_before_datasets() else self.snapshot()
        if snapshot is None or isinstance(snapshot, ErrorDetail):
            return []
        refused: set[str] = set()
        for dataset_type in {each["type"] for each in snapshot.content["datasets"].values()}:
            known = set(sys.modules)
            try:
                with suppress(Exception), InstalledOnly():  # it fails again where it is needed
                    parse_dataset_definition({"type": dataset_type})
            except OwnModuleError:
                refused |= set(sys.modules) - known
        names = [name for name in sys.modules if name not in before | refused]
        return [name for name in names if is_installed_module(sys.modules[name])]

    def execute(
        self, run_id: str, request: RunRequest, stop: StopRequest, report: Report
    ) -> RunOutcome:
        """Run pipelines, here and now.

        Args:
            run_id: The run's id and the save version of its versioned datasets.
            request: What to run.
            stop: Whether the run is to stop, which it does between two nodes.
            report: Takes down what happens in the run, and what it logs.

        Returns:
            What became of it. Whatever the project's code raises, ``SystemExit`` and
            ``KeyboardInterrupt`` included, is in the outcome: this never raises.
        """
        SECRETS.learn_environment(os.environ)  # the project's code may have added to it
        with logs_of(run_id, report):
            outcome = self._execute(run_id, request, stop, report)
            _log(run_id, outcome)
        return outcome

    def _execute(
        self, run_id: str, request: RunRequest, stop: StopRequest, report: Report
    ) -> RunOutcome:
        started_at = time.perf_counter()
        error: ErrorDetail | None = None
        is_stopped = False
        try:
            with (
                resolvers_of_run(is_alone=not self._is_shared),
                classes_guarded(),
                stop.enforced(),
            ):
                self._run(run_id, request, stop, report)
        except (RunStopped, RunInterrupted):
            is_stopped = True
        except BaseException as raised:  # a node may raise anything, and only its own run fails
            error = describe_run(raised)
        duration_ms = round((time.perf_counter() - started_at) * 1000, 2)
        # A run that is cancelled during its last node has done all that it was to do. One that
        # took longer than it may has failed by that alone.
        if is_stopped or (error is None and stop.reason is StopReason.TIMEOUT):
            return stop.outcome(duration_ms)
        status = RunStatus.SUCCESS if error is None else RunStatus.FAILURE
        return RunOutcome(status=status, duration_ms=duration_ms, error=error)

    def _run(self, run_id: str, request: RunRequest, stop: StopRequest, report: Report) -> None:
        session = self._session_for(request.pipeline_names)
        runner = create_runner(
            request.runner, is_async=request.is_async, package_name=self._metadata.package_name
        )
        stop_between_nodes(runner, stop)
        report_nodes(runner, report)
        if stop.reason is not None:
            raise RunStopped
        # What the command passes: hooks find it in `run_params`.
        with pipelines_named(request.pipeline_names):
            session.run(
                run_id=run_id,
                runner=runner,
                pipeline_names=request.pipeline_names or [],
                tags=tuple(request.tags or ()),
                node_names=tuple(request.node_names or ()),
                from_nodes=request.from_nodes or [],
                to_nodes=request.to_nodes or [],
                from_inputs=request.from_inputs or [],
                to_outputs=request.to_outputs or [],
                load_versions=request.load_versions or {},
                namespaces=request.namespaces or [],
                only_missing_outputs=request.only_missing_outputs,
                runtime_params=self._params(request.params),
            )

    def _params(self, params: dict[str, Any] | None) -> dict[str, Any] | None:
        return params if self._resolves_params else unescaped(params)

    @property
    def is_loaded(self) -> bool:
        """Whether the registered pipelines could be loaded, the last time that was tried."""
        return self._session is not None

    def close(self) -> None:
        """End the session, if there is one."""
        with self._loading:
            for session in filter(None, (self._session, self._session_of_some)):
                session.close()
            self._session = self._session_of_some = None


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


def _log(run_id: str, outcome: RunOutcome) -> None:
    if outcome.error is None:
        logger.info("Run %s succeeded in %.2f ms", run_id, outcome.duration_ms)
        return
    if outcome.status is RunStatus.CANCELLED:
        logger.warning("Run %s was cancelled", run_id)
        return
    logger.error(
        "Run %s failed: %s: %s\n%s",
        run_id,
        outcome.error.type,
        outcome.error.message,
        outcome.error.traceback or "",
        extra=_PLAIN,
    )


def _texts_named(names: Iterable[str]) -> dict[str, Any]:
    """Return runtime parameters of some names and paths, each of them a text."""
    params: dict[str, Any] = {}
    for name in names:
        *folders, last = name.split(".")
        place: Any = params
        for folder in folders:
            place = place.setdefault(folder, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(last, "text")
    return params


def _parse_params(text: str) -> dict[str, Any]:
    """Return runtime parameters from the format of ``kedro run --params``.

    Raises:
        ValueError: If the text is not of that format.
    """
    try:
        # Kedro reports a fault through a click context: without one, as an AttributeError.
        parsed: dict[str, Any] = _split_params(None, None, text)  # type: ignore[arg-type]
    except Exception as error:
        raise ValueError(
            f"Invalid 'params' value: {text!r}. It takes name=value pairs separated by commas, "
            "such as 'version=02,model.lr=0.01', and no commas within values."
        ) from error
    return parsed
