"""Makes text from elsewhere (exceptions, log records) safe to store, log and send.

A node's exception can contain megabytes, or characters that no encoding can represent. Whatever the
server passes on goes through here first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

LITERAL_DOLLAR = "\ufdd0"
"""Stands for "$" in a runtime parameter while OmegaConf resolves a configuration: a character that
Unicode leaves to programs (https://www.unicode.org/faq/private_use.html#noncharacters)."""

MAX_MESSAGE_CHARS = 8_192
"""The limit of an exception's message, in characters."""

MAX_TRACEBACK_CHARS = 16_384
"""The limit of a traceback, in characters: its end, which is most useful."""

MAX_PRINTED_BYTES = 65_536
"""The limit of a printed line, in bytes."""

# Control characters except tab and line feed, including those that terminals execute, those that
# end a line and those that change the direction of writing in Unicode.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# A URL that was cut, perhaps before what would identify its credentials.
_CUT_URL = re.compile(r"://[^\s'\"<>)\]]*\Z")


def bounded(text: str, max_chars: int = MAX_MESSAGE_CHARS) -> str:
    """Return `text` cut to about `max_chars` characters, with a note where it was cut.

    A URL at the cut loses all that follows its scheme, so that a password whose ``@`` was cut off
    cannot slip past redaction.

    Args:
        text: Any text.
        max_chars: How many characters to keep.

    Returns:
        The text itself, or its beginning and a note of its full length.
    """
    if len(text) <= max_chars:
        return text
    head = _CUT_URL.sub("://", text[:max_chars])
    return f"{head}… [cut: {len(text):,} characters in all]"


def bounded_end(text: str, max_chars: int) -> str:
    """Return the end of `text`, about `max_chars` characters, with a note where it was cut.

    Args:
        text: Any text, already redacted.
        max_chars: How many characters to keep.
    """
    if len(text) <= max_chars:
        return text
    return f"[cut: {len(text):,} characters in all] …{text[-max_chars:]}"


def printable(text: str) -> str:
    r"""Return `text` with lone surrogates written as escapes, so that UTF-8 can encode it.

    Args:
        text: Any text, ``"\ud800"`` included.

    Returns:
        Text that encodes to UTF-8.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    r"""Return `text` with its control characters written as escapes, such as ``\x1b``.

    Only tabs and line feeds remain, so that a terminal displays the text and executes nothing.

    Args:
        text: Any text.
    """
    if text.isprintable():  # a fast test, true of most texts
        return text
    return _INVISIBLE.sub(_escape, text.replace("\r\n", "\n"))


def in_one_line(text: str) -> str:
    r"""Return `text` with its line feeds written as ``\n``, so that it cannot forge another line.

    Args:
        text: Any text; line feeds at its end are dropped.
    """
    return text.rstrip("\n").replace("\n", "\\n")


def shown_line(line: bytes | bytearray, safe: Callable[[str], str]) -> str:
    """Return a printed line as a terminal finally displays it.

    Args:
        line: The line, without its end. If it was redrawn, as progress bars are, the last state is
            used.
        safe: Returns text that may be stored and shown.
    """
    states = [each for each in line.decode("utf-8", "replace").split("\r") if each.strip()]
    return visible(safe(states[-1] if states else ""))


class PrintedLines:
    """Splits printed output into lines, in bounded memory.

    The rest of a line of more than `MAX_PRINTED_BYTES` is skipped, not returned as another line: a
    secret across the cut would not be recognised in either. A carriage return begins the line
    again, so that each state of a long-lived progress bar is complete.
    """

    def __init__(self) -> None:
        """Begin without output."""
        self._unended = bytearray()
        self._skipped: int | None = None

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        """Return the lines that more output completes, without their ends."""
        lines: list[bytes | bytearray] = []
        if self._skipped is not None:
            data = self._skip(data, lines)
        self._unended += data
        if b"\n" in data:
            *ended, self._unended = self._unended.split(b"\n")
            lines += ended
        if len(self._unended) > MAX_PRINTED_BYTES:
            lines.append(self._cut())
        return lines

    def end(self) -> list[bytes | bytearray]:
        """Return the line that has no end yet, if there is one."""
        lines: list[bytes | bytearray] = [self._unended] if self._unended else []
        if self._skipped is not None:
            lines.append(_skipped_note(self._skipped))
        self._unended, self._skipped = bytearray(), None
        return lines

    def _cut(self) -> bytearray:
        states, again, begun = self._unended.rpartition(b"\r")
        if again and len(begun) <= MAX_PRINTED_BYTES:
            self._unended = begun
            return states
        self._unended, self._skipped = bytearray(), 0
        return begun

    def _skip(self, data: bytes, lines: list[bytes | bytearray]) -> bytes:
        """Return what follows a line that is too long; append the skipped size to `lines`."""
        ends = [found for found in (data.find(b"\n"), data.find(b"\r")) if found >= 0]
        assert self._skipped is not None  # noqa: S101  checked by the caller
        if not ends:
            self._skipped += len(data)
            return b""
        end = min(ends)
        lines.append(_skipped_note(self._skipped + end))
        self._skipped = None
        return data[end + 1 :].removeprefix(b"\n" if data[end : end + 1] == b"\r" else b"")


def _skipped_note(size_bytes: int) -> bytes:
    return b"[cut: the line went on for %d bytes]" % size_bytes


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def rfc3339(moment: datetime) -> str:
    """Return a UTC time in the format of RFC 3339, to the millisecond.

    Args:
        moment: An aware time.
    """
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
