"""Reads requests with data: as JSON, in parts, or as one raw body. Data is written as it comes.

JSON that is given for a dataset is not parsed here: the process of the run does that.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import PurePath
from typing import Any, BinaryIO

import msgspec
from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData, State

from kedro_flask_server.errors import ForbiddenError
from kedro_flask_server.model.data_exchange import GivenData, file_name
from kedro_flask_server.model.media_types import JSON, OCTETS, TEXT, media_type_of
from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.run_files import RunFiles
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.text import bounded
from kedro_flask_server.web.arguments import is_json, parse_json, report
from kedro_flask_server.web.authentication import authorized_runs
from kedro_flask_server.web.errors import InvalidRequestError, UnreadableBodyError
from kedro_flask_server.web.schemas.fields import Problem

MULTIPART = "multipart/form-data"
FORM = "application/x-www-form-urlencoded"

REQUEST_PART = "request"
"""The part with all that is no data."""

_MAX_PARTS = 200
_MAX_HEADERS_BYTES = 65_536
_MAX_SHOWN_CHARS = 2_000

# Bodies of JSON are parsed as a whole: so many large ones at a time.
_LARGE_BYTES = 4_000_000
_large_bodies = threading.BoundedSemaphore(2)

_MAX_NAME_CHARS = 500
_CHUNK_BYTES = 1 << 18

GIVEN_TWICE = Problem("value_error", "Value error, this dataset is given twice")
"""What is wrong with a dataset that a request has more than once."""

_NO_NAME = Problem("value_error", "Value error, each part needs a name, of up to 500 characters")
_NOT_A_FORM = Problem(
    "value_error",
    "Value error, send JSON, multipart/form-data, or one dataset's data with its media type",
)
_NOT_AN_OBJECT = Problem("dict_type", "Input should be a valid dictionary")
_CUT_OFF = Problem("value_error", "Value error, the body has no valid end of multipart/form-data")

# What other sites' pages may send without being asked first, if they are let
# (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
_SENT_BY_FORMS = ("", MULTIPART, FORM, TEXT)


_TAKES_DATA = re.compile(r"(?:/[^/]+)*(?:/pipelines/[^/]+/run|/ui/start)/?")


def takes_data(path: str) -> bool:
    """Return whether a path is that of requests with data, under whatever prefix."""
    return _TAKES_DATA.fullmatch(path) is not None


def refuse_forms_of_other_sites(request: Request) -> None:
    """Refuse what a page of another site might have sent without being asked first.

    Raises:
        ForbiddenError: If the request has neither a key nor this site's ``Origin``. One of another
            site is refused before (`HostOriginMiddleware`).
    """
    if request.mimetype not in _SENT_BY_FORMS or request.headers.get("Origin"):
        return
    if request.authorization is None:
        raise ForbiddenError(
            "Without an API key, this media type is taken with this site's Origin alone: send a "
            f"key, 'Origin: {request.host_url.rstrip('/')}', or the data as JSON."
        )


def refuse_data_early(request: Request, runs: RunService) -> None:
    """Refuse a request with data by its headers, before its body is read.

    Raises:
        ForbiddenError: As `refuse_forms_of_other_sites`, or if the caller may not run the pipeline.
        UnknownPipelineError: If there is no such pipeline.
        StorageFullError: If there is no space for it.
    """
    if request.method != "POST" or not takes_data(request.path):
        return
    pipeline = (request.view_args or {}).get("pipeline")
    if pipeline is not None:  # a page's form has a token of its own
        refuse_forms_of_other_sites(request)
        wanted = RunRequest(pipeline_names=[pipeline])
        authorized_runs(runs).refuse_forbidden(wanted, None)
        runs.refuse_unknown(wanted)
    runs.data.refuse_without_space(request.content_length or 0)


class DataForm:
    """The fields and the data of one request.

    Attributes:
        folder: The folder of its data.
        fields: The fields that are no data, not validated.
        inputs: The data, by dataset.
        max_content_bytes: Up to which size JSON gets no file.
    """

    def __init__(
        self, files: RunFiles, known: Collection[str], *, max_content_bytes: int = 0
    ) -> None:
        """Begin without data; `staged` deletes what nobody has kept.

        Args:
            files: Takes the data.
            known: The datasets that may be given.
            max_content_bytes: Up to which size JSON gets no file.
        """
        self.max_content_bytes = max_content_bytes
        self.has_files = False
        self.folder = files.new_folder()
        self.fields: dict[str, Any] = {}
        self.inputs: dict[str, GivenData] = {}
        self.is_kept = False
        self._files = files
        self._known = known

    def add(self, dataset: str, media_type: str, content: bytes | memoryview) -> None:
        """Write the data of a dataset, or keep it where it is small."""
        if media_type == JSON and len(content) <= self.max_content_bytes:
            data = bytes(content)
            with suppress(UnicodeDecodeError):  # which the reader of a file says
                text = data.decode()
                self._refuse(dataset)
                self.inputs[dataset] = GivenData(
                    media_type=JSON,
                    size_bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    content=text,
                )
                return
        with self.writing(dataset, media_type) as file:
            file.write(content)

    @contextmanager
    def writing(self, dataset: str, media_type: str) -> Iterator[_HashingFile]:
        """Write the data of a dataset as it comes.

        Raises:
            InvalidRequestError: If it is given twice, or is none of the pipeline's.
        """
        self._refuse(dataset)
        self.has_files = True
        with self._files.writing(self.folder, file_name(dataset)) as file:
            hashing = _HashingFile(file)
            yield hashing
        self.inputs[dataset] = hashing.given(media_type)

    def _refuse(self, dataset: str) -> None:
        if dataset not in self._known:
            names = bounded(", ".join(sorted(self._known)), _MAX_SHOWN_CHARS)
            problem = Problem("extra_forbidden", f"The datasets of the pipeline are: {names}")
            raise InvalidRequestError([report(problem, ("inputs", dataset), None)])
        if dataset in self.inputs:
            raise InvalidRequestError([report(GIVEN_TWICE, ("inputs", dataset), None)])

    def write_raw(self, stream: Any, dataset: str, media_type: str) -> None:
        """Write the data of a raw body."""
        with self.writing(dataset, media_type) as file:
            while chunk := stream.read(_CHUNK_BYTES):
                file.write(chunk)


class _HashingFile:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size += len(content)

    def given(self, media_type: str) -> GivenData:
        return GivenData(
            media_type=media_type, size_bytes=self._size, sha256=self._digest.hexdigest()
        )


@contextmanager
def staged(
    keeper: DataKeeper, known: Collection[str], *, max_content_bytes: int
) -> Iterator[DataForm]:
    """Return a form whose data is deleted in the end, unless a run has it."""
    form = DataForm(keeper.files, known, max_content_bytes=max_content_bytes)
    try:
        yield form
    finally:
        if form.has_files and not form.is_kept:
            keeper.discard(form.folder)


def read_form(
    request: Request, form: DataForm, *, raw_input: str | None, max_fields_bytes: int
) -> None:
    """Read a request with data.

    Args:
        request: The request, its body not read yet.
        form: Takes what comes.
        raw_input: The dataset whose data a raw body is; None where the request does not say, and
            JSON is no raw body.
        max_fields_bytes: The size of all that is no data.

    Raises:
        InvalidRequestError: If the body has no form that is known, or not that which it says.
        UnreadableBodyError: If it cannot be parsed at all.
        werkzeug.exceptions.RequestEntityTooLarge: If it is too large.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A body with Content-Encoding is not taken.")
    if request.mimetype == MULTIPART:
        _read_parts(request, form, max_fields_bytes)
    elif request.mimetype in ("", FORM):
        raise InvalidRequestError([report(_NOT_A_FORM, (), None)])
    elif raw_input is None and is_json(request.mimetype):
        is_large = (request.content_length or _LARGE_BYTES) >= _LARGE_BYTES
        with _large_bodies if is_large else nullcontext():
            _read_json(request.get_data(cache=False), form, max_fields_bytes)
    elif raw_input is not None:
        media_type = JSON if is_json(request.mimetype) else request.mimetype
        form.write_raw(request.stream, raw_input, media_type)


def _read_json(raw: bytes, form: DataForm, max_fields_bytes: int) -> None:
    form.fields, inputs = _split_json(raw, max_fields_bytes)
    for dataset, content in inputs.items():
        form.add(dataset, JSON, content)


def _split_json(
    raw: bytes, max_fields_bytes: int
) -> tuple[dict[str, Any], Mapping[str, memoryview]]:
    """Return the fields of a JSON body that are no data, and those that are, not parsed.

    Raises:
        InvalidRequestError: If it is no JSON, or no object.
        UnreadableBodyError: If it cannot be parsed at all.
    """
    if not raw:
        return {}, {}
    try:
        given = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        inputs = msgspec.json.decode(given.pop("inputs", b"{}"), type=dict[str, msgspec.Raw] | None)
    except RecursionError as error:
        raise UnreadableBodyError from error
    except msgspec.ValidationError as error:
        content = parse_json(raw)
        where = ("inputs",) if isinstance(content, dict) else ()
        raise InvalidRequestError([report(_NOT_AN_OBJECT, where, content)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        parse_json(raw)  # says what is wrong, and where; it takes more, such as NaN
        problem = Problem("json_invalid", "JSON decode error")
        raise InvalidRequestError([report(problem, (), {}, ctx={"error": str(error)})]) from error
    if sum(len(name) + len(memoryview(each)) for name, each in given.items()) > max_fields_bytes:
        raise RequestEntityTooLarge(
            f"What is no data is larger than {max_fields_bytes} bytes (setting max_body_bytes)"
        )
    fields = {name: parse_json(bytes(content)) for name, content in given.items()}
    return fields, {name: memoryview(each) for name, each in (inputs or {}).items()}


def _read_parts(request: Request, form: DataForm, max_fields_bytes: int) -> None:
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary:
        raise InvalidRequestError([report(_CUT_OFF, (), None)])
    decoder = MultipartDecoder(
        boundary.encode("latin-1", "replace"),
        request.max_content_length,
        max_parts=_MAX_PARTS,
    )
    parts = _Parts(form, max_fields_bytes)
    try:
        while chunk := request.stream.read(_CHUNK_BYTES):
            decoder.receive_data(chunk)
            if parts.take_all(decoder):
                break
            is_before_data = decoder.state in (State.PREAMBLE, State.PART)
            if is_before_data and len(decoder.buffer) > _MAX_HEADERS_BYTES:
                raise RequestEntityTooLarge("The headers of a part are too large")
        else:
            decoder.receive_data(None)
            parts.take_all(decoder)
    except RequestEntityTooLarge:
        raise
    except ValueError as error:
        raise InvalidRequestError([report(_CUT_OFF, (), None)]) from error
    finally:
        parts.close()
    parts.read_fields()


class _Parts:
    """The parts of a body, as they come."""

    def __init__(self, form: DataForm, max_fields_bytes: int) -> None:
        self._form = form
        self._max_fields_bytes = max_fields_bytes
        self._fields: bytearray | None = None
        self._open: Any = None
        self._file: Any = None
        self._is_fields = False

    def take_all(self, decoder: MultipartDecoder) -> bool:
        """Take what a decoder has; return whether that was all there is."""
        while True:
            event = decoder.next_event()
            if isinstance(event, (Field, File)):
                self._begin(event)
            elif isinstance(event, Data):
                self._take(event)
            elif isinstance(event, Epilogue):
                return True
            elif isinstance(event, NeedData):
                return False

    def _begin(self, part: Field | File) -> None:
        name = part.name
        if not name or len(name) > _MAX_NAME_CHARS:
            raise InvalidRequestError([report(_NO_NAME, (), None)])
        self._is_fields = name == REQUEST_PART
        if self._is_fields:
            if self._fields is not None:
                raise InvalidRequestError([report(GIVEN_TWICE, (REQUEST_PART,), None)])
            self._fields = bytearray()
            return
        file_name = part.filename if isinstance(part, File) else None
        self._open = self._form.writing(name, _media_type_of(part.headers, file_name))
        self._file = self._open.__enter__()

    def _take(self, event: Data) -> None:
        if self._is_fields:
            assert self._fields is not None  # noqa: S101  it has begun
            self._fields += event.data
            if len(self._fields) > self._max_fields_bytes:
                raise RequestEntityTooLarge
            return
        self._file.write(event.data)
        if not event.more_data:
            self.close()

    def close(self) -> None:
        """Close the file of the part that came last."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def read_fields(self) -> None:
        """Read the part with what is no data; data in it is written."""
        _read_json(bytes(self._fields or b""), self._form, self._max_fields_bytes)


def _media_type_of(headers: Headers, name: str | None) -> str:
    """Return the media type of a part; where it says nothing, by the ending of its file's name.

    ``curl -F`` sends most files as octets.
    """
    media_type = parse_options_header(headers.get("content-type", ""))[0].lower()
    if name and media_type in ("", OCTETS):
        return media_type_of(PurePath(name))
    if not media_type:
        return TEXT  # RFC 7578, section 4.4
    return JSON if is_json(media_type) else media_type
