"""Incoming requests, and their responses or refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import RequestEntityTooLarge

from kedro_flask_server.serving.memory import Room
from kedro_flask_server.web.clients import HAS_FINISHED
from kedro_flask_server.web.data_forms import takes_data

# Of a request with data; the rest is in a temporary file.
_MEMORY_BYTES = 524_288

SMALL_BODY_BYTES = 16_384
"""Bodies up to this size need no room: the number of connections bounds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A response to a request whose body is not read.

    Attributes:
        status: The status line's code and reason.
        headers: The headers of the response.
        body: Its body.
    """

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, error: Any) -> Refusal:
        """Return the response to an error of waitress: JSON, as for all errors."""
        if isinstance(error, cls):
            return error
        return cls.in_json(f"{error.code} {error.reason}", f"{error.reason}: {error.body}")

    @classmethod
    def in_json(cls, status: str, detail: str, *headers: tuple[str, str]) -> Refusal:
        """Return a refusal with a reason."""
        kind = ("Content-Type", "application/json")
        body = json.dumps({"detail": detail}).encode()
        return cls(status=status, headers=[kind, *headers], body=body)


class RequestParser(HTTPRequestParser):
    """A request whose body is read once it is admitted and has room.

    A body that is too large is refused while it arrives, before it is buffered.
    """

    error: Any
    expect_continue: bool
    is_let_in = False
    has_data = False
    wants_continue = False

    def __init__(self, adj: Any, *, max_body_bytes: int, max_data_bytes: int, room: Room) -> None:
        """Begin with no data.

        Args:
            adj: The settings of waitress.
            max_body_bytes: The largest body.
            max_data_bytes: The largest body of a request with data.
            room: The memory that bodies share.
        """
        super().__init__(adj)
        self._max_body_bytes = max_body_bytes
        self._max_data_bytes = max_data_bytes
        self._room = room
        self._has_room = False
        self._needed = 0

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Content-Length has more digits than Python accepts
            raise ParsingError("Content-Length is invalid") from error
        except TransferEncodingNotImplemented as error:  # waitress' 501 would be a server error
            raise ParsingError(str(error)) from error
        # waitress would send "100 Continue" at once.
        self.wants_continue, self.expect_continue = self.expect_continue, False
        if self.command == "POST" and takes_data(self.path):
            self.has_data = True
            self._max_body_bytes = self._max_data_bytes
            if self.body_rcv is not None:  # in a temporary file that has no name
                self.body_rcv.buf = OverflowableBuffer(_MEMORY_BYTES)

    def received(self, data: bytes) -> int:
        """Consume bytes, and return how many."""
        consumed = int(super().received(data))
        if self._size > self._max_body_bytes and self.error is None:
            self.error = RequestEntityTooLarge(
                f"The body is larger than {self._max_body_bytes} bytes (setting {self._setting})"
            )
            self.completed = True
        return consumed

    @property
    def _size(self) -> int:
        if self.chunked and self.body_rcv is not None:
            return len(self.body_rcv) + int(self.body_rcv.chunk_remainder)
        return int(self.content_length)

    @property
    def _setting(self) -> str:
        return "max_data_bytes" if self.has_data else "max_body_bytes"

    @property
    def received_bytes(self) -> int:
        """How much of the body has arrived."""
        return 0 if self.body_rcv is None else len(self.body_rcv)

    @property
    def is_large(self) -> bool:
        """Whether the body, as far as its size is known, is to be admitted before it is read."""
        return self._size > SMALL_BODY_BYTES

    def acquire_room(self) -> bool:
        """Acquire room for the body, unless that is done; return whether it has room."""
        if self.has_data:  # it takes no memory
            return True
        if not self._has_room:
            self._needed = self._max_body_bytes if self.chunked else self._size
            self._has_room = self._room.acquire(self._needed)
        return self._has_room

    def release_room(self) -> None:
        """Release the room."""
        if self._has_room:
            self._has_room = False
            self._room.release(self._needed)

    def close(self) -> None:
        """Discard the body."""
        super().close()
        self.release_room()


class AnswerTask(WSGITask):
    """A request that the application answers."""

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment."""
        environ: dict[str, Any] = super().get_environment()
        environ[HAS_FINISHED] = self.channel.has_client_finished
        return environ

    def build_response_header(self) -> bytes:
        """Return the headers; while the server stops, they close the connection."""
        if self.channel.is_ending():
            self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        return header


class RefusalTask(ErrorTask):
    """A request that is refused before it reaches the application."""

    def execute(self) -> None:
        """Write the refusal."""
        refusal = Refusal.of(self.request.error)
        self.status = refusal.status
        self.response_headers.extend(
            each for each in refusal.headers if each[0].lower() != "content-length"
        )
        self.set_close_on_finish()
        self.content_length = len(refusal.body)
        self.write(refusal.body)
