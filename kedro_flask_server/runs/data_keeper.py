"""Keeps the data that requests give and runs return: within limits, and for some time."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import (
    DataGoneError,
    StorageFullError,
    StoreUnavailableError,
    UnknownOutputError,
)
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.data_exchange import (
    DataRequest,
    GivenData,
    RunOutputs,
    file_name,
)
from kedro_flask_server.model.media_types import JSON
from kedro_flask_server.model.run import ErrorDetail, RunRequest, Submitter
from kedro_flask_server.run_files import RunFiles
from kedro_flask_server.runs.access_planner import selection_of
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)

_MAX_DESCRIPTIONS = 500

# For how long the size of what is stored counts as known.
_KNOWN_FOR_S = 1.0

# A folder that no run has is being written, or is left over.
_LEFT_OVER_AFTER_S = 3_600.0
_SWEEP_EVERY_S = 300.0


class DataKeeper:
    """The data of the runs of this server's project."""

    def __init__(
        self,
        store: RunStore,
        files: RunFiles,
        executor: Executor,
        config: ServerConfig,
        *,
        state_dir: Path,
        fingerprint: Callable[[Iterable[str]], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            store: Has the runs.
            files: Has their data.
            executor: Knows what data pipelines take.
            config: ``max_stored_data_bytes``, ``min_free_disk_bytes`` and ``keep_outputs_hours``.
            state_dir: The folder of the server's own state.
            fingerprint: Returns a text that changes with the configuration; None where there is
                none.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self.files = files
        self._store = store
        self._executor = executor
        self._config = config
        self._fingerprint = fingerprint
        self._clock = clock
        root = files.local_root
        self._disks = (state_dir, *([root] if root else []))
        self._descriptions: BoundedCache[str, tuple[str, dict[str, Any]]] = BoundedCache(
            _MAX_DESCRIPTIONS
        )
        self._describing = threading.Lock()
        self._lock = threading.Lock()
        self._reserved_bytes = 0
        self._stored = (float("-inf"), 0)
        self._swept_at = float("-inf")

    def describe(self, request: RunRequest) -> dict[str, Any] | ErrorDetail:
        """Return what data the nodes of a request take and return, or why that cannot be told."""
        return self.describe_all([request])[0]

    def describe_all(self, requests: Sequence[RunRequest]) -> list[dict[str, Any] | ErrorDetail]:
        """Return the same for several requests."""
        keys = [json.dumps(selection_of(request)) for request in requests]
        state = self._fingerprint(())
        remembered = [*map(self._descriptions.get, keys)]
        known = [each for each in remembered if each is not None]
        if len(known) == len(keys) and all(each[0] == state for each in known):
            return [described for _, described in known]
        with self._describing:
            found = self._executor.describe_data(requests)
            if state is not None and state == self._fingerprint(()):
                for key, each in zip(keys, found, strict=True):
                    if not isinstance(each, ErrorDetail):
                        self._descriptions.put(key, (state, each))
        return found

    @contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Reserve space for data that is about to be written.

        Raises:
            StorageFullError: If there is not as much left.
        """
        with self._lock:
            self._refuse_without_space(size_bytes)
            self._reserved_bytes += size_bytes
        try:
            yield
        finally:
            with self._lock:
                self._reserved_bytes -= size_bytes
                at, stored = self._stored
                self._stored = (at, stored + size_bytes)

    def refuse_without_space(self, size_bytes: int) -> None:
        """Refuse data for which there is no space.

        Raises:
            StorageFullError: If there is none.
        """
        with self._lock:
            self._refuse_without_space(size_bytes)

    def _refuse_without_space(self, size_bytes: int) -> None:
        config = self._config
        at, stored = self._stored
        if self._clock() - at > _KNOWN_FOR_S:
            stored = self._store.data.stored_bytes()
            self._stored = (self._clock(), stored)
        if stored + self._reserved_bytes + size_bytes > config.max_stored_data_bytes:
            raise StorageFullError("max_stored_data_bytes")
        for disk in (*self._disks, *_temporary_folder()):
            if _free_bytes(disk) - self._reserved_bytes - size_bytes < config.min_free_disk_bytes:
                raise StorageFullError("min_free_disk_bytes")

    def write_json(self, contents: Mapping[str, Any]) -> DataRequest:
        """Write data as if a request had given it, in a folder that the caller deletes.

        Args:
            contents: JSON data, by dataset.
        """
        folder, inputs = self.files.new_folder(), {}
        for name, content in contents.items():
            data = json.dumps(content).encode()
            with self.files.writing(folder, file_name(name)) as file:
                file.write(data)
            digest = hashlib.sha256(data).hexdigest()
            inputs[name] = GivenData(media_type=JSON, size_bytes=len(data), sha256=digest)
        return DataRequest(inputs=inputs, folder=folder)

    def with_files(self, request: RunRequest) -> RunRequest:
        """Write the given data of a request that has no file yet, and return it with files."""
        exchange = request.exchange
        if exchange is None or not exchange.contents or exchange.folder is None:
            return request
        for name, content in exchange.contents.items():
            with self.files.writing(exchange.folder, file_name(name)) as file:
                file.write(content.encode("utf-8", "surrogatepass"))
        return replace(request, data=exchange.without_contents().dump())

    def outputs_with_files(self, found: RunOutputs) -> RunOutputs:
        """Write returned data that has no file yet, and return it with files."""
        outputs = dict(found.outputs)
        for name, each in found.outputs.items():
            if each.content is not None and found.folder is not None:
                with self.files.writing(found.folder, file_name(name)) as file:
                    file.write(each.content.encode())
                outputs[name] = replace(each, file=file_name(name), content=None)
        return replace(found, outputs=outputs)

    def outputs(self, run_id: str) -> RunOutputs:
        """Return what is kept of the data of a run."""
        return self._store.data.of(run_id)

    def values(self, run_id: str) -> dict[str, Any]:
        """Return the small JSON objects that are kept of a run, by dataset."""
        found = self.outputs(run_id).outputs
        return {name: each.value for name, each in found.items() if each.value is not None}

    def open(self, run_id: str, dataset: str, found: RunOutputs) -> BinaryIO:
        """Open the data that a run has returned for a dataset.

        Args:
            run_id: The run.
            dataset: The dataset.
            found: What is kept of the run, as `outputs` returns it.

        Raises:
            UnknownOutputError: If it has returned none.
            DataGoneError: If that was deleted.
        """
        output = found.outputs.get(dataset)
        # A run's own code could have told another path.
        if output is not None and output.place is not None and run_id in Path(output.place).parts:
            with suppress(OSError):
                return Path(output.place).open("rb")
            raise DataGoneError(run_id)
        if output is None or output.file is None or found.folder is None:
            raise UnknownOutputError(run_id, dataset, found.outputs)
        if found.deleted_at is None:
            with suppress(OSError):
                return self.files.open(found.folder, output.file)
        raise DataGoneError(run_id)

    def delete(self, run_id: str, by: Submitter) -> None:
        """Delete the data of a run, given and returned."""
        returned = self.outputs(run_id).folder or ""
        self._store.data.delete(run_id, by)
        self._sweep(0.0, {run_id, returned, self._given_folder(run_id)})

    def discard(self, folder: str) -> None:
        """Delete a folder of given data, unless a run has it: a request may fail after that."""
        try:
            if not self._store.data.has_folder(folder):
                self.files.delete(folder)
        except StoreUnavailableError:  # it is deleted later, if no run has it
            logger.debug("Whether a run has the data in %s is not known now", folder)

    def _given_folder(self, run_id: str) -> str:
        run = self._store.get(run_id)
        exchange = None if run is None else run.request.exchange
        return (exchange.folder if exchange else None) or ""

    def flush(self) -> None:
        """Do nothing: nothing is pending."""

    def purge(self, before: datetime) -> None:
        """Delete what was kept for long enough, and what nobody has."""
        while self._store.data.expire(self._config.keep_outputs_hours):
            pass
        if self._clock() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = self._clock()
            self._sweep(_LEFT_OVER_AFTER_S)

    def _sweep(self, older_than_s: float, names: set[str] | None = None) -> None:
        """Delete folders that no run has.

        Args:
            older_than_s: How many seconds ago they were last written to.
            names: Which; None for all.
        """
        # What is written meanwhile is too young; what is stored meanwhile, in use.
        found = [name for name, age_s in self.files.folders() if age_s >= older_than_s]
        found = [name for name in found if names is None or name in names]
        if not found:
            return
        in_use = self._store.data.folders_in_use()
        for name in found:
            if name not in in_use:
                self.files.delete(name)


def _temporary_folder() -> Iterator[Path]:
    with suppress(FileNotFoundError):  # a server needs none until data comes
        yield Path(tempfile.gettempdir())


def _free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
