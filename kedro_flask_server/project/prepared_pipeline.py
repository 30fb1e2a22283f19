"""A pipeline whose context and catalog are made once for many calls, with data that stays loaded.

What is in a generation of a served pipeline: the process that has it executes calls of this
pipeline, one at a time in a worker, several in threads.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kedro import __version__ as kedro_version
from kedro.framework.project import settings
from kedro.framework.session import KedroServiceSession
from kedro.io import DataCatalog, MemoryDataset
from kedro.io.core import DatasetError, Version
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner, ParallelRunner

from kedro_flask_server.errors import NothingToLoadError
from kedro_flask_server.model.provenance import DatasetUse
from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.model.served import Preload
from kedro_flask_server.project.data_files import state_of, state_text
from kedro_flask_server.project.data_locations import DatasetConfig, config_of_catalog
from kedro_flask_server.project.datasets import put_dataset, uncached, version_of
from kedro_flask_server.project.exchange.interface import METADATA, DatasetTypes
from kedro_flask_server.project.execution import run_pipelines
from kedro_flask_server.project.planned_access import selected_nodes
from kedro_flask_server.project.provenance import use_of

logger = logging.getLogger(__name__)

_CHANGED = (
    "The preloaded dataset '%s' was changed by a call: later calls see that. Have the nodes that "
    "take it (%s) leave it as it is, or say in the catalog how it is copied for each call "
    "(metadata, kedro-flask-server, copy_mode)"
)


class PreparedPipeline:
    """A pipeline, with its context, its catalog, and the datasets that were loaded for it."""

    def __init__(
        self,
        preload: Preload,
        session: KedroServiceSession,
        runtime_params: dict[str, Any] | None,
        project_path: Path,
    ) -> None:
        """Make the context and the catalog, and load the datasets; hooks are called as in a run.

        Args:
            preload: The pipeline and the datasets.
            session: Has the pipeline.
            runtime_params: The parameters of a request without any, as the loader is to have them.
            project_path: The project's folder.

        Raises:
            NothingToLoadError: If a dataset is not there.
            Exception: What the project's code and data raise.
        """
        self._preload = preload
        self._session = session
        self._project_path = project_path.resolve()
        context = session.load_context(runtime_params)
        context._pipelines_to_validate = [preload.pipeline]
        versions = {name: each for name, each in preload.versions.items() if each is not None}
        self._catalog: Any = context._get_catalog(
            catalog_class=settings.DATA_CATALOG_CLASS, load_versions=versions
        )
        self._env = context.env
        config_of = config_of_catalog(self._catalog)
        self._configs = {name: config_of(name) for name in preload.versions}
        self._uses: dict[str, DatasetUse] = {}
        self._loaded = {name: self._load(name) for name in preload.versions}
        self._can_be_copied = isinstance(self._catalog, DataCatalog)
        self._pipelines: dict[str, Pipeline] = {}
        self._types: dict[int, tuple[Pipeline, DatasetTypes]] = {}

    def _load(self, name: str) -> MemoryDataset:
        dataset = self._catalog.get(name)
        if dataset is None or not dataset.exists():
            raise NothingToLoadError(name)
        self._refuse_changed(name, dataset)
        data = self._catalog.load(name)
        self._refuse_changed(name, dataset)
        version = version_of(uncached(dataset))
        use = use_of(dataset, f"{self._project_path}/")
        wanted = self._preload.versions[name] or (version.load if version else None)
        self._uses[name] = replace(use, version=wanted)
        loaded = MemoryDataset(data, copy_mode=_copy_mode(self._configs[name]))
        put_dataset(self._catalog, name, loaded)
        return loaded

    def _refuse_changed(self, name: str, dataset: Any) -> None:
        """Refuse a file that is not what was chosen: others belong to what there was.

        Raises:
            DatasetError: If it has changed.
        """
        wanted = self._preload.states.get(name)
        if wanted and state_text(state_of(uncached(dataset), is_saved=False)) != wanted:
            raise DatasetError(f"The file of '{name}' has changed since it was chosen.")

    def run(
        self,
        runner: AbstractRunner,
        run_id: str,
        request: RunRequest,
        runtime_params: dict[str, Any] | None,
    ) -> None:
        """Execute a call, as `run_pipelines` executes a run; hooks are called for each.

        A call with parameters, versions or another kind of catalog gets a context and a catalog of
        its own, in which the preloaded datasets are put that are the same there (`put_into`).

        Args:
            runner: Runs once.
            run_id: The id of the call.
            request: What to run.
            runtime_params: Its parameters as the loader is to have them.
        """
        before = self._digests() if self._preload.check else {}
        if self.has_catalog_for(request, runner):
            self._run_on_copy(runner, run_id, request)
        else:
            run_pipelines(self._session, runner, run_id, request, runtime_params)
        for name, digest in before.items():
            if _digest(self._loaded[name]._data) != digest:
                nodes = self.pipeline_of(request).nodes
                takers = [node.name for node in nodes if name in node.inputs]
                logger.warning(_CHANGED, name, ", ".join(takers))

    def has_catalog_for(self, request: RunRequest, runner: AbstractRunner) -> bool:
        """Return whether a call uses the catalog that was made once."""
        return (
            self._can_be_copied
            and not request.params
            and not request.load_versions
            and not isinstance(runner, ParallelRunner)
        )

    def _run_on_copy(self, runner: AbstractRunner, run_id: str, request: RunRequest) -> None:
        """Do what Kedro's session does, with a pipeline and a catalog that are there."""
        pipeline = self.pipeline_of(request)
        catalog = _copy_of(self._catalog)
        hooks = self._session._hook_manager
        called: dict[str, Any] = {
            "session_id": self._session.session_id,
            "run_id": run_id,
            "project_path": self._project_path.as_posix(),
            "env": self._env,
            "kedro_version": kedro_version,
            "tags": tuple(request.tags or ()),
            "from_nodes": request.from_nodes or [],
            "to_nodes": request.to_nodes or [],
            "node_names": tuple(request.node_names or ()),
            "from_inputs": request.from_inputs or [],
            "to_outputs": request.to_outputs or [],
            "load_versions": {},
            "runtime_params": {},
            "pipeline_names": request.pipeline_names,
            "namespaces": request.namespaces or [],
            "runner": str(runner),
            "only_missing_outputs": request.only_missing_outputs,
        }
        hooks.hook.before_pipeline_run(run_params=called, pipeline=pipeline, catalog=catalog)
        try:
            result = runner.run(
                pipeline,
                catalog,
                hooks,
                run_id=run_id,
                only_missing_outputs=request.only_missing_outputs,
            )
        except Exception as error:
            hooks.hook.on_pipeline_error(
                error=error, run_params=called, pipeline=pipeline, catalog=catalog
            )
            raise
        hooks.hook.after_pipeline_run(
            run_params=called, run_result=result, pipeline=pipeline, catalog=catalog
        )

    def pipeline_of(self, request: RunRequest) -> Pipeline:
        """Return the nodes of a call."""
        selected = replace(request, data=None, params=None, load_versions=None, runner=None)
        key = repr(selected)
        found = self._pipelines.get(key)
        if found is None:
            found = selected_nodes(request)
            if len(self._pipelines) < _MAX_SELECTIONS:
                self._pipelines[key] = found
        return found

    def put_into(self, catalog: Any, request: RunRequest) -> None:
        """Put the preloaded datasets into the catalog of a call that has one of its own.

        Those stay as they are whose version the request gives, or which its parameters change.
        """
        config_of = config_of_catalog(catalog)
        for name, dataset in self._loaded.items():
            is_same = name not in (request.load_versions or {})
            if is_same and _without_version(config_of(name)) == _without_version(
                self._configs[name]
            ):
                put_dataset(catalog, name, dataset)

    def types_in(self, pipeline: Pipeline, *, allows_excel: bool) -> DatasetTypes:
        """Return what is known of the data of a pipeline in this catalog, found once.

        Args:
            pipeline: The pipeline.
            allows_excel: Whether workbooks are read.
        """
        known = self._types.get(id(pipeline))
        if known is None or known[0] is not pipeline:
            known = (pipeline, DatasetTypes(pipeline, self._config_of, allows_excel=allows_excel))
            if len(self._types) < _MAX_SELECTIONS:
                self._types[id(pipeline)] = known
        return known[1]

    def _config_of(self, name: str) -> DatasetConfig | None:
        """Return the configuration of a dataset, in no call's catalog."""
        own = self._configs.get(name)
        return config_of_catalog(self._catalog)(name) if own is None else own

    @property
    def uses(self) -> Mapping[str, DatasetUse]:
        """What the preloaded datasets are, with the versions that were loaded."""
        return self._uses

    @property
    def versions(self) -> dict[str, str | None]:
        """The versions that were loaded."""
        return {name: use.version for name, use in self._uses.items()}

    def _digests(self) -> dict[str, str]:
        """Return the digests of the preloaded data, where it has some."""
        found = {name: _digest(each._data) for name, each in self._loaded.items()}
        return {name: digest for name, digest in found.items() if digest}


_MAX_SELECTIONS = 100


def _copy_of(catalog: Any) -> Any:
    """Return a catalog with the same datasets, in which others can be put."""
    copied = object.__new__(type(catalog))
    for name, value in vars(catalog).items():
        setattr(copied, name, copy.copy(value) if isinstance(value, (dict, set)) else value)
    return copied


def _copy_mode(config: DatasetConfig | None) -> Any:
    """Return how a preloaded dataset is passed to a node: as it is, unless the catalog says."""
    config = config or {}
    said = (config.get("metadata") or {}).get(METADATA) or {}
    return said.get("copy_mode") or config.get("copy_mode") or "assign"


def _without_version(config: DatasetConfig | None) -> dict[str, Any]:
    return {
        name: value
        for name, value in (config or {}).items()
        if not isinstance(value, Version) and name not in ("version", "versioned", "type")
    }


def _digest(data: Any) -> str:
    """Return a text that differs if data differs; empty for what has no such text."""
    try:
        return hashlib.blake2b(pickle.dumps(data), digest_size=16).hexdigest()
    except Exception:  # of the project's classes
        return ""
