"""Gives a run the data of its request, and keeps what the run is to return."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataset
from kedro.io.data_catalog import SharedMemoryDataCatalog
from kedro.pipeline import Pipeline

from kedro_flask_server.data_frames import TABLES, is_of
from kedro_flask_server.model.data_exchange import (
    MAX_VALUE_BYTES,
    DataRequest,
    GivenData,
    Output,
    file_name,
)
from kedro_flask_server.model.media_types import JSON, SUFFIXES, media_type_of
from kedro_flask_server.project.data_files import saved_version
from kedro_flask_server.project.data_locations import config_of_catalog
from kedro_flask_server.project.datasets import bare_name, put_dataset
from kedro_flask_server.project.exchange import native
from kedro_flask_server.project.exchange.bounds import bounded_memory
from kedro_flask_server.project.exchange.codecs import decode, encode, to_json
from kedro_flask_server.project.exchange.interface import (
    DatasetTypes,
    ExchangedDataset,
    free_inputs,
)
from kedro_flask_server.project.exchange.problems import InvalidInput
from kedro_flask_server.project.failures import safe
from kedro_flask_server.run_files import RunFiles

logger = logging.getLogger(__name__)

# Of runs whose requests name no outputs.
_MAX_VALUES = 20
_MAX_VERSIONS = 200

_SIDECAR = ".json"


class RunExchange:
    """The data of one run: what it is given, and what it returns."""

    def __init__(
        self,
        folder: str,
        request: DataRequest | None,
        files: RunFiles,
        *,
        allows_excel: bool,
        is_alone: bool,
        max_content_bytes: int = 0,
    ) -> None:
        """Prepare.

        Args:
            folder: The folder of what it returns, below that of all data.
            request: What its request says of data; None for a run of the catalog's data alone.
            files: Has the data.
            allows_excel: Whether workbooks are read.
            is_alone: Whether it has the process to itself.
            max_content_bytes: Up to which size JSON is returned without a file.
        """
        self._is_alone = is_alone
        self._max_content_bytes = max_content_bytes
        self._folder = folder
        self._request = request
        self._files = files
        self._allows_excel = allows_excel
        self._capture: Capture | None = None
        self._saved: tuple[Sequence[str], Any] = ((), None)

    def types_of(self, pipeline: Pipeline, catalog: Any) -> DatasetTypes:
        """Return what is known of the data of a pipeline."""
        return DatasetTypes(pipeline, config_of_catalog(catalog), allows_excel=self._allows_excel)

    def begin(self, pipeline: Pipeline, catalog: Any, types: DatasetTypes) -> None:
        """Put the given data into the catalog of the run, and have the catalog keep the rest.

        Args:
            pipeline: The nodes that are to run.
            catalog: The catalog of the run.
            types: What is known of their data.

        Raises:
            InvalidInput: If the data is not what the nodes take.
        """
        config_of = config_of_catalog(catalog)
        request = self._request
        if request is None:
            wanted: dict[str, _Form | None] = {
                name: None for name in sorted(pipeline.outputs()) if not types.is_private(name)
            }
        else:
            wanted = {name: self._form_of(types.find(name), request) for name in request.outputs}
            self._put_inputs(types, pipeline, catalog, request)
            if not request.saves:
                _keep_in_memory(pipeline, catalog)
            _assign_outputs(pipeline, catalog, config_of)
        made = [name for name in sorted(pipeline.all_outputs()) if not types.is_private(name)]
        self._saved = (made, catalog)
        if wanted:
            self._capture = Capture(
                wanted, self._working_folder(), max_content_bytes=self._max_content_bytes
            )
            self._capture.attach(catalog)

    def _working_folder(self) -> Path:
        """Return where captured data is written: nearby, where it is to stay there."""
        root = self._files.local_root
        if root is not None:
            return root / self._folder
        return Path(tempfile.gettempdir()) / f"kedro-server-{uuid.uuid4().hex}"

    def _form_of(self, found: ExchangedDataset, request: DataRequest) -> _Form | None:
        if request.accept in found.offers:
            return _Form(found, request.accept)
        # What has no JSON form is returned in another, by its address.
        return _Form(found, found.offers[0]) if request.accept == JSON and found.offers else None

    def _put_inputs(
        self, types: DatasetTypes, pipeline: Pipeline, catalog: Any, request: DataRequest
    ) -> None:
        names = free_inputs(pipeline)
        for name, given in request.inputs.items():
            targets = [each for each in names if name in (each, bare_name(each))]
            if not targets:
                raise InvalidInput(name, "the pipeline has no such input", [])
            # What has no file is small, and JSON: it cannot grow without bounds.
            is_bounded = self._is_alone and given.content is None
            with (
                self._source(name, given, request) as source,
                bounded_memory(is_alone=is_bounded),
            ):
                for target in targets:
                    found = types.find(target)
                    data = _read(name, found, given.media_type, source)
                    data = _validated(name, target, data, catalog)
                    getattr(catalog, "_validator_specs", {}).pop(target, None)
                    put_dataset(
                        catalog, target, MemoryDataset(data, copy_mode=_copy_mode(pipeline, found))
                    )

    @contextmanager
    def _source(self, name: str, given: GivenData, request: DataRequest) -> Iterator[Path | bytes]:
        """Yield the file of given data, or the data itself."""
        if given.content is not None:
            yield given.content.encode("utf-8", "surrogatepass")
            return
        assert request.folder is not None  # noqa: S101  where something was given
        suffix = SUFFIXES[given.media_type]
        with self._files.local_copy(request.folder, file_name(name), suffix) as path:
            yield path

    def finish(self) -> dict[str, Output]:
        """Return what the run has made of what it was to return, stored."""
        outputs = self._versions()
        for name, kept in ({} if self._capture is None else self._kept(self._capture)).items():
            version = outputs.get(name)
            has_both = version is not None and not kept.is_returned
            outputs[name] = replace(version, value=kept.value) if version and has_both else kept
        return outputs

    def _versions(self) -> dict[str, Output]:
        """Return the versions of datasets that the run has saved to files of this machine."""
        names, catalog = self._saved
        found: dict[str, Output] = {}
        for name in names:
            path = saved_version(catalog._datasets.get(name))
            if path is not None and len(found) < _MAX_VERSIONS:
                state = path.stat()
                found[name] = Output(
                    media_type=media_type_of(path),
                    size_bytes=state.st_size,
                    sha256=f"{state.st_mtime_ns:x}-{state.st_size:x}",
                    is_returned=False,
                    place=str(path),
                )
        return found

    def _kept(self, capture: Capture) -> dict[str, Output]:
        outputs = capture.collect()
        folder = capture.folder
        try:
            for each in outputs.values():
                if each.file is not None and not self._files.is_local:
                    self._files.put(folder / each.file, self._folder)
        except Exception as error:  # of the file system: the run has ended as it has
            logger.exception("What the run returns could not be stored")
            reason = safe(f"it could not be stored: {type(error).__qualname__}: {error}")
            outputs = {
                name: each if each.file is None else Output(reason=reason)
                for name, each in outputs.items()
            }
        finally:
            if not self._files.is_local or self._request is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                with suppress(OSError):  # unless something is in it
                    folder.rmdir()
        return outputs


class _Form:
    """The form in which a dataset is returned."""

    def __init__(self, found: ExchangedDataset, media_type: str) -> None:
        self.media_type = media_type
        is_native = found.native is not None and media_type in found.native.media_types
        self._dataset_class = found.dataset_class if is_native else None
        self._arguments = native.carried(found.arguments)

    def content(self, data: Any) -> bytes | None:
        """Return the JSON form of data; None where it is another, or there is none."""
        if self.media_type != JSON or self._dataset_class is not None:
            return None
        try:
            return to_json(data)
        except Exception:  # which is told where it is written
            return None

    def write(self, data: Any, path: Path) -> None:
        if self._dataset_class is None:
            encode(data, self.media_type, path)
            return
        suffixed = path.with_suffix(SUFFIXES[self.media_type])
        native.write(self._dataset_class, self._arguments, data, suffixed)
        suffixed.replace(path)


def _write_somehow(data: Any, form: _Form, path: Path) -> str:
    """Write data in a form or, where it has none of that, as JSON; return the media type.

    Raises:
        Exception: If it has no form at all.
    """
    try:
        form.write(data, path)
        return form.media_type
    except Exception:
        if form.media_type != JSON:
            with suppress(TypeError):
                encode(data, JSON, path)
                return JSON
        raise


class Capture:
    """Keeps datasets as they are when a node saves them, in whichever process does.

    It takes the place of a catalog's ``save``, and goes with the catalog to the processes of
    ``ParallelRunner``: what is saved there is found by the files beside its data.
    """

    def __init__(
        self, wanted: Mapping[str, _Form | None], folder: Path, *, max_content_bytes: int = 0
    ) -> None:
        """Prepare.

        Args:
            wanted: The datasets, each with the form in which it is returned; None keeps it only
                if it is a small JSON object.
            folder: The folder for its data, which is created when it is needed.
            max_content_bytes: Up to which size JSON has no file.
        """
        self._max_content_bytes = max_content_bytes
        self._wanted = dict(wanted)
        self.folder = folder
        self._pid = os.getpid()
        self._found: dict[str, Output] = {}

    def attach(self, catalog: Any) -> None:
        """Have a catalog keep what it saves."""
        catalog.save = _SaveAndKeep(catalog, self)

    def __contains__(self, dataset: str) -> bool:
        return dataset in self._wanted

    def keep(self, dataset: str, data: Any) -> None:
        """Keep a dataset that was just saved; the last that is saved counts."""
        form = self._wanted[dataset]
        output = None if form is None else self._inline(data, form)
        if output is None:
            output = self._small(data) if form is None else self._written(dataset, data, form)
        if output is None:
            return
        if os.getpid() == self._pid:
            self._found[dataset] = output
            return
        content = json.dumps({"dataset": dataset, "output": output.dump()})
        try:
            self._prepare_folder()
            _replace(self.folder / f"{file_name(dataset)}{_SIDECAR}", content.encode())
        except OSError as error:  # the run goes on
            logger.warning("What the run makes of '%s' could not be kept: %s", dataset, error)

    def _inline(self, data: Any, form: _Form) -> Output | None:
        """Return data itself, as JSON; None where that has to be written."""
        content = form.content(data) if self._max_content_bytes else None
        if content is None or len(content) > self._max_content_bytes:
            return None
        return Output(
            media_type=JSON,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            is_table=is_of(data, *TABLES),
            content=content.decode(),
        )

    def _small(self, data: Any) -> Output | None:
        """Return a small JSON object; None for all else."""
        if not isinstance(data, dict) or len(self._found) >= _MAX_VALUES:
            return None
        if len(data) > MAX_VALUE_BYTES // 4:  # as many cannot be small
            return None
        try:
            content = to_json(data)
        except TypeError:
            return None
        if len(content) > MAX_VALUE_BYTES:
            return None
        return Output(
            media_type=JSON,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            is_returned=False,
            value=json.loads(content),
        )

    def _written(self, dataset: str, data: Any, form: _Form) -> Output:
        path = self.folder / file_name(dataset)
        temporary = path.with_name(f"{path.name}-{os.getpid()}")
        value = None
        try:
            self._prepare_folder()
            media_type = _write_somehow(data, form, temporary)
            size_bytes, digest = temporary.stat().st_size, _sha256(temporary)
            is_small = isinstance(data, dict) and size_bytes <= MAX_VALUE_BYTES
            if media_type == JSON and is_small:
                value = json.loads(temporary.read_bytes())
            temporary.chmod(0o600)
            temporary.replace(path)
        except Exception as error:  # of libraries: the run goes on
            with suppress(OSError):
                temporary.unlink()
            return Output(reason=safe(f"{type(error).__qualname__}: {error}"))
        return Output(
            media_type=media_type,
            size_bytes=size_bytes,
            sha256=digest,
            is_table=is_of(data, *TABLES),
            file=path.name,
            value=value,
        )

    def _prepare_folder(self) -> None:
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def collect(self) -> dict[str, Output]:
        """Return what was kept, here and in other processes."""
        found = dict(self._found)
        if self.folder.is_dir():
            for sidecar in self.folder.glob(f"*{_SIDECAR}"):
                content = json.loads(sidecar.read_bytes())
                found[content["dataset"]] = Output.load(content["output"])
                sidecar.unlink()
        return found


class _SaveAndKeep:
    """The ``save`` of a catalog that keeps what is to be returned; it can be pickled with it."""

    def __init__(self, catalog: DataCatalog, capture: Capture) -> None:
        self._catalog = catalog
        self._capture = capture

    def __call__(self, ds_name: str, data: Any) -> None:
        type(self._catalog).save(self._catalog, ds_name, data)
        if ds_name in self._capture:
            self._capture.keep(ds_name, data)


def _read(name: str, found: ExchangedDataset, media_type: str, source: Path | bytes) -> Any:
    """Return the data in a file, as the catalog's class or a standard codec reads it.

    Raises:
        InvalidInput: If it cannot be read, or may not.
    """
    own = found.native
    if found.is_private or media_type not in found.accepts:
        raise InvalidInput(name, f"it is not taken as {media_type}")
    if own is None or not own.may_read or media_type not in own.media_types:
        load_args = found.arguments.get("load_args") if own is not None else None
        return decode(name, source, media_type, found.data_type, load_args)
    if isinstance(source, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"data{SUFFIXES[media_type]}"
            path.write_bytes(source)
            return _read(name, found, media_type, path)
    assert found.dataset_class is not None  # noqa: S101  it has a format
    try:
        return native.read(found.dataset_class, found.arguments, own, source)
    except Exception as error:  # of libraries
        raise InvalidInput(name, _cause(error)) from None


def _cause(error: Exception) -> str:
    """Return what a library says, without what Kedro says around it."""
    inner = error.__cause__ or error
    return f"{type(inner).__qualname__}: {inner}"


def _validated(name: str, target: str, data: Any, catalog: Any) -> Any:
    """Return data that the catalog's validator of a dataset has checked, which it does once.

    The validator goes afterwards, so that no node's load checks again.

    Raises:
        InvalidInput: If the data is not valid.
    """
    if target not in getattr(catalog, "validator_specs", {}) or not catalog.validation_enabled:
        return data
    try:
        return catalog._validate(target, data, mode="load")
    except Exception as error:
        raise InvalidInput(name, str(error)) from None


def _keep_in_memory(pipeline: Pipeline, catalog: Any) -> None:
    """Have a run pass on what it makes in memory, as if the catalog did not name it.

    Transcodings of a dataset are one. Validators stay: they check what is saved.
    """
    is_shared = isinstance(catalog, SharedMemoryDataCatalog)
    made = {bare_name(name) for name in pipeline.all_outputs()}
    by_bare: dict[str, list[str]] = {}
    for name in sorted(pipeline.datasets()):
        if bare_name(name) in made:
            by_bare.setdefault(bare_name(name), []).append(name)
    for names in by_bare.values():
        create = _Transcoded if len(names) > 1 else MemoryDataset
        dataset = SharedMemoryDataset() if is_shared else create()
        for name in names:
            put_dataset(catalog, name, dataset)


def _assign_outputs(
    pipeline: Pipeline, catalog: Any, config_of: Callable[[str], Mapping[str, Any] | None]
) -> None:
    """Have what no node takes passed on as it is: a copy of it would be for nobody."""
    if isinstance(catalog, SharedMemoryDataCatalog):
        return
    for name in pipeline.outputs():
        config = config_of(name)
        if config is None or type(catalog._datasets.get(name)) is MemoryDataset:
            put_dataset(catalog, name, MemoryDataset(copy_mode="assign"))


def _copy_mode(pipeline: Pipeline, found: ExchangedDataset) -> Any:
    """Return how given data is passed to a node, unless the catalog says.

    The only one that takes it needs no copy.
    """
    said = found.said.get("copy_mode") or found.arguments.get("copy_mode")
    loads = sum(node.inputs.count(found.name) for node in pipeline.nodes)
    return said or ("assign" if loads == 1 else None)


class _Transcoded(MemoryDataset):
    """Data with several names, of which Kedro releases each when that is used no more."""

    def _release(self) -> None:
        """Stay, until the run has ended."""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
