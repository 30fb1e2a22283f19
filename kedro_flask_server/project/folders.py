"""What a folder holds, found out anew at each look."""

from __future__ import annotations

import os

# A folder with more in it is no configuration's.
_MAX_ENTRIES = 2_000

_MAX_BYTES = 1_000_000


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
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = os.read(descriptor, _MAX_BYTES)
            is_whole = len(data) < _MAX_BYTES and not os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return data if is_whole else None
