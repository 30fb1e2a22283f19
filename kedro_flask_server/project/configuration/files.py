"""Listings and contents of folders, read each time."""

from __future__ import annotations

import os
import time
from contextlib import suppress

# A folder with more in it is no configuration's.
_MAX_ENTRIES = 2_000

_MAX_BYTES = 1_000_000
_CHUNK_BYTES = 16_384

# As long as a run takes to read its configuration.
_FRESH_S = 0.25


def listing_of(folder: str) -> tuple[tuple[str, bool], ...] | None:
    """Return all that is in a folder and below it: each path, and whether it is a folder.

    Args:
        folder: The folder.

    Returns:
        The same for as long as nothing comes or goes; None where there is no such folder, or too
        much in it.
    """
    found: list[tuple[str, bool]] = []
    folders = [folder]
    try:
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    is_folder = entry.is_dir()
                    found.append((entry.path, is_folder))
                    if is_folder:
                        folders.append(entry.path)
            if len(found) > _MAX_ENTRIES:  # or a link to a folder above
                return None
    except OSError:
        return None
    return tuple(found)


def bytes_in(path: str) -> bytes | None:
    """Return what is in a regular file; None where it cannot be read, or is too large."""
    found = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            while len(found) < _MAX_BYTES and (data := os.read(descriptor, _CHUNK_BYTES)):
                found += data
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return found if len(found) < _MAX_BYTES else None


def stamps_in(folder: str) -> tuple[tuple[str, int, int, int], ...]:
    """Return when each file in a folder was changed, and which file it is.

    Returns:
        For each path that there is, two times in nanoseconds and the number of its inode.
    """
    found = []
    for path, _ in listing_of(folder) or ():
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116  for each of many files
            found.append((path, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(found)


class View:
    """Folders and files as they were when they were first read."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._seen_at = time.monotonic()
        self._listings: dict[str, tuple[tuple[str, bool], ...] | None] = {}
        self._bytes: dict[str, bytes | None] = {}

    @property
    def is_fresh(self) -> bool:
        """True for a quarter of a second after it was made."""
        return time.monotonic() - self._seen_at < _FRESH_S

    def listing_of(self, folder: str) -> tuple[tuple[str, bool], ...] | None:
        """Return all that is in a folder, as `listing_of` does."""
        if folder not in self._listings:
            self._listings[folder] = listing_of(folder)
        return self._listings[folder]

    def bytes_in(self, path: str) -> bytes | None:
        """Return what is in a file, as `bytes_in` does."""
        if path not in self._bytes:
            self._bytes[path] = bytes_in(path)
        return self._bytes[path]
