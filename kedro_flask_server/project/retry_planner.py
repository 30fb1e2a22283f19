"""What of a failed run runs again, by the project of today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import AbstractDataset, is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from kedro_flask_server.model.provenance import FINISHED, INTERRUPTED, Revision
from kedro_flask_server.model.retry import (
    START,
    ChainPast,
    DatasetPast,
    NextRun,
    PlannedNode,
    Refusal,
)
from kedro_flask_server.project.configuration.selected import SelectedConfiguration
from kedro_flask_server.project.data_files import FileState, state_of
from kedro_flask_server.project.datasets import (
    arguments_of,
    bare_name,
    uncached,
    version_of,
)
from kedro_flask_server.project.failures import safe_name
from kedro_flask_server.project.planned_access import planned_catalog, selected_nodes
from kedro_flask_server.project.provenance import planned_parameters, use_of

# Nothing is saved.
_NO_VERSION = "planned"

# Modes of tables that add to what is there, beside "append".
_ADDING = ("upsert", "insert", "merge")

_IN_MEMORY = ("MemoryDataset", "SharedMemoryDataset", "")


def plan_next_run(
    past: ChainPast,
    runtime_params: dict[str, Any] | None,
    configuration: SelectedConfiguration,
    revision: Revision | None,
) -> NextRun:
    """Return the next run of a chain.

    Args:
        past: What the chain has done.
        runtime_params: The parameters of the next run, as the loader is to have them.
        configuration: The project's configuration.
        revision: The revision of the project's code.

    Raises:
        Exception: What the project's configuration or pipelines raise, as in the run.
    """
    pipeline = selected_nodes(past.request)
    loader, resolver = planned_catalog(configuration, runtime_params)
    catalog = DataCatalog(config_resolver=resolver, save_version=_NO_VERSION)
    plan = _Plan(past, pipeline, _Datasets(catalog, f"{configuration.project_path}/"))
    return NextRun(
        nodes=tuple(plan.planned_nodes()),
        load_versions=plan.load_versions(),
        refusals=tuple(plan.refusals()),
        parameters=planned_parameters(loader, pipeline),
        revision=revision,
    )


class _Datasets:
    """The datasets of the project of today, and their files; names without their transcoding."""

    def __init__(self, catalog: DataCatalog, root: str) -> None:
        self._catalog = catalog
        self._root = root
        self._states: dict[str, FileState] = {}

    def get(self, name: str) -> AbstractDataset[Any, Any] | None:
        """Return a dataset of the catalog; None for one in memory."""
        dataset: AbstractDataset[Any, Any] | None = uncached(self._catalog.get(name))
        return None if isinstance(dataset, MemoryDataset) else dataset

    def state(self, name: str) -> FileState:
        """Return the state of a dataset's file, empty if there is none."""
        if name not in self._states:
            dataset = self.get(name)
            if dataset is not None:
                dataset.release()  # a file system may keep what it knew of a file
            self._states[name] = {} if dataset is None else state_of(dataset, is_saved=True)
        return self._states[name]

    def is_versioned(self, name: str) -> bool:
        dataset = self.get(name)
        return dataset is not None and version_of(dataset) is not None

    def has_version(self, name: str, version: str) -> bool:
        dataset = self.get(name)
        assert isinstance(dataset, AbstractVersionedDataset)  # noqa: S101  it is versioned
        return bool(dataset._exists_function(str(dataset._get_versioned_path(version))))

    def appends(self, name: str) -> bool:
        """Return whether saving a dataset adds to what is there, by its configuration."""
        return _appends(arguments_of(self.get(name)))

    def has_moved(self, name: str, past: DatasetPast) -> bool:
        """Return whether a dataset is of another class, or lies elsewhere, than it did."""
        dataset = self.get(name)
        if dataset is None or not past.type:
            return False
        now = use_of(dataset, self._root)
        return (now.type, now.place) != (past.type, past.place)


class _Plan:
    """Decides which nodes run."""

    def __init__(self, past: ChainPast, pipeline: Pipeline, datasets: _Datasets) -> None:
        self._past = past
        self._pipeline = pipeline
        self._datasets = datasets
        self._producers = {
            bare_name(name): node for node in pipeline.nodes for name in node.outputs
        }
        self._by_bare_name: dict[str, DatasetPast] = {}
        for name, each in past.datasets.items():
            known = self._by_bare_name.get(bare_name(name))
            if known is None or each.saved is not None:
                self._by_bare_name[bare_name(name)] = each
        self._gone: set[str] = set()

    @cached_property
    def _chosen(self) -> dict[str, str]:
        """The nodes that run, by their names, and why."""
        if self._past.start == START:
            reason = "the request is that of the run"
            if self._past.request.only_missing_outputs:
                reason += ", and leaves out nodes whose outputs are there (only_missing_outputs)"
            return {node.name: reason for node in self._pipeline.nodes}
        nodes = [node for node in self._pipeline.nodes if self._is_expected(node)]
        chosen = {node.name: "it has not finished" for node in nodes if not self._is_done(node)}
        to_check = [node for node in nodes if node.name in chosen]
        while to_check:
            for name in filter(_is_data, to_check.pop().inputs):
                producer = self._producers.get(bare_name(name))
                if producer is None or producer.name in chosen:
                    continue
                if not self._is_expected(producer):  # what it makes was there before
                    continue
                why = self._why_again(name)
                if why is not None:
                    chosen[producer.name] = why
                    to_check.append(producer)
        return chosen

    def _is_expected(self, node: Node) -> bool:
        expected = self._past.expected
        return expected is None or safe_name(node.name) in expected

    def _is_done(self, node: Node) -> bool:
        return self._state(node) == FINISHED

    def _state(self, node: Node) -> str | None:
        return self._past.states.get(safe_name(node.name))

    def _begun(self, node: Node) -> set[str]:
        """Return the states that a node has had in any run of the chain."""
        return {*self._past.begun.get(safe_name(node.name), ())}

    def _why_again(self, name: str) -> str | None:
        """Return why a dataset has to be made again that a finished node has made; None if not."""
        past = self._by_bare_name.get(bare_name(safe_name(name)))
        was_in_memory = past is None or past.type in _IN_MEMORY
        if past is None or self._datasets.get(name) is None or was_in_memory:
            return f"its output {safe_name(name)} was in memory alone, and is needed"
        # Of a dataset in two forms (`x@pandas`, `x@spark`), each has a class of its own.
        if self._datasets.has_moved(name, self._past.datasets.get(safe_name(name), past)):
            return f"its output {safe_name(name)} lies elsewhere by now, and is needed"
        if not self._datasets.is_versioned(name):
            is_gone = bool(past.saved and not self._datasets.state(name))
        else:
            version = past.saved_by
            is_gone = version is None or not self._datasets.has_version(name, version)
        if is_gone:
            self._gone.add(name)
            return f"its output {safe_name(name)} is gone, and is needed"
        return None

    def planned_nodes(self) -> Iterator[PlannedNode]:
        """Yield the nodes, with the reason of each."""
        for node in self._pipeline.nodes:
            why = self._chosen.get(node.name)
            why_not = "it has finished"
            if not self._is_expected(node):
                why_not = "the run has left it out (only_missing_outputs)"
            yield PlannedNode(name=node.name, runs=why is not None, reason=why or why_not)

    @property
    def _to_run(self) -> list[Node]:
        return [node for node in self._pipeline.nodes if node.name in self._chosen]

    @property
    def _to_keep(self) -> list[Node]:
        return [node for node in self._pipeline.nodes if node.name not in self._chosen]

    @cached_property
    def _written(self) -> set[str]:
        """What the run writes: Kedro would load a pinned version of it instead of its own."""
        return {bare_name(name) for node in self._to_run for name in node.outputs}

    @cached_property
    def _read(self) -> list[str]:
        """What the run reads of the data of others."""
        names = {name for node in self._to_run for name in node.inputs if _is_data(name)}
        return sorted(name for name in names if bare_name(name) not in self._written)

    def _wanted_versions(self) -> Iterator[tuple[str, str]]:
        if self._past.start == START:
            return
        for name in filter(self._datasets.is_versioned, self._read):
            past = self._by_bare_name.get(bare_name(safe_name(name)))
            version = past and (past.saved_by or past.version)
            if version:
                yield name, version

    def load_versions(self) -> dict[str, str]:
        """Return the versions that the run loads: of its own chain, or as that has loaded."""
        versions = self._wanted_versions()
        return {name: each for name, each in versions if self._datasets.has_version(name, each)}

    def refusals(self) -> Iterator[Refusal]:
        """Yield what stands in the way."""
        yield from self._appended()
        yield from self._confirmed()
        if self._past.start == START:
            return
        known = {safe_name(node.name) for node in self._pipeline.nodes}
        for name, state in self._past.states.items():
            if state == FINISHED and name not in known:
                message = f"The node {name} has finished, and the pipeline has it no longer."
                yield Refusal(type="node_gone", loc=("node", name), msg=message)
        for name, version in self._wanted_versions():
            if not self._datasets.has_version(name, version):
                message = f"The version {version} of {name} is no longer there."
                yield Refusal(type="version_gone", loc=("dataset", name), msg=message)
        for name in sorted(self._gone):
            if self._datasets.is_versioned(name):
                message = f"The version of {name} that the run has saved is no longer there."
                yield Refusal(type="version_gone", loc=("dataset", name), msg=message)
        yield from self._changed()

    def _appended(self) -> Iterator[Refusal]:
        for node in self._to_run:
            if not self._begun(node):
                continue
            for name in filter(self._datasets.appends, node.outputs):
                message = (
                    f"The node {safe_name(node.name)} had begun, and appends to {safe_name(name)}: "
                    "it may have done so."
                )
                yield Refusal(type="append", loc=("dataset", safe_name(name)), msg=message)

    def _confirmed(self) -> Iterator[Refusal]:
        confirmed = {
            bare_name(name)
            for node in self._pipeline.nodes
            if self._begun(node).intersection((FINISHED, INTERRUPTED))
            for name in node.confirms
        }
        loaded = {bare_name(name) for node in self._to_run for name in node.inputs}
        for name in sorted(map(safe_name, confirmed & loaded)):
            message = f"What was new in {name} is confirmed, and would not be loaded again."
            yield Refusal(type="checkpoint_confirmed", loc=("dataset", name), msg=message)

    def _changed(self) -> Iterator[Refusal]:
        """Yield the files that are not as nodes which have finished have read or written them."""
        own = [past.saved for past in self._past.datasets.values() if past.saved]
        for name, before in sorted(self._kept_states().items()):
            now = self._datasets.state(name)
            if not _is_same(now, before) and not any(_is_same(now, each) for each in own):
                how = "has changed since" if now else "is gone"
                message = f"The file of {safe_name(name)} {how}."
                yield Refusal(type="dataset_changed", loc=("dataset", safe_name(name)), msg=message)

    def _kept_states(self) -> dict[str, FileState]:
        """Return the states of the files that nodes have read and made which do not run again."""
        found: dict[str, FileState] = {}
        read = {bare_name(name) for name in self._read} | {bare_name(name) for name in self._gone}
        for node in self._to_keep:
            if not self._is_done(node):
                continue
            for name in filter(_is_data, node.inputs):
                past = self._past.datasets.get(safe_name(name))
                if past is None or bare_name(name) in self._producers:
                    continue
                if self._datasets.has_moved(name, past):
                    found[name] = {}
                elif past.loaded:
                    found[name] = past.loaded
        for node in self._pipeline.nodes:
            for name in node.outputs:
                past = self._past.datasets.get(safe_name(name))
                if past and past.saved and self._is_done(node) and bare_name(name) in read:
                    found[name] = past.saved
        return {name: each for name, each in found.items() if not self._datasets.is_versioned(name)}


def _appends(given: Mapping[str, Any]) -> bool:
    """Return whether a dataset with these arguments, or one inside it, appends when it saves."""
    save_args = given.get("save_args") or {}
    open_args = (given.get("fs_args") or {}).get("open_args_save") or {}
    modes = [each.get("mode") for each in (save_args, open_args, given)]
    modes += [given.get("write_mode"), save_args.get("if_exists")]
    is_appended = any(
        isinstance(mode, str) and (mode.startswith("a") or mode in _ADDING) for mode in modes
    )
    inner = given.get("dataset")
    if isinstance(inner, AbstractDataset):
        inner = arguments_of(inner)
    return is_appended or (isinstance(inner, Mapping) and _appends(inner))


def _is_same(one: FileState, other: FileState) -> bool:
    """Return whether two states are those of the same content, as far as can be told."""
    if "etag" in one and "etag" in other:
        return bool(one["etag"] == other["etag"])
    names = ("size_bytes", "modified_at")
    return bool(one) and all(one.get(name) == other.get(name) for name in names)


def _is_data(name: str) -> bool:
    return not is_parameter(name)
