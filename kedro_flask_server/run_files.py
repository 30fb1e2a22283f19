"""The files with data of runs: in a folder of this machine, or elsewhere by fsspec.

Each run, and each request that gives data, has a folder of its own below one for all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

_LOCAL = ("file", "local")


class RunFiles:
    """The files below one folder. Thread-safe; nothing is created before the first is written."""

    def __init__(self, url: str) -> None:
        """Use a folder.

        Args:
            url: Its path, or its URL as fsspec takes it, such as ``s3://bucket/folder``.
        """
        self._fs, self._root = fsspec.core.url_to_fs(url)
        protocol = self._fs.protocol
        names = (protocol,) if isinstance(protocol, str) else protocol
        self.is_local = any(each in _LOCAL for each in names)

    @property
    def is_of_process(self) -> bool:
        """Whether other processes do not see them."""
        return bool(self._fs.protocol == "memory")

    @property
    def local_root(self) -> Path | None:
        """The folder, where it is on this machine."""
        return Path(self._root) if self.is_local else None

    @staticmethod
    def new_folder() -> str:
        """Return a name for a folder, which no other has."""
        return uuid.uuid4().hex

    @contextmanager
    def writing(self, folder: str, name: str) -> Iterator[BinaryIO]:
        """Write a file, which only this user may read."""
        if self.is_local:
            self._make_local(folder)
            with open(self._path(folder, name), "wb", opener=_open_privately) as file:
                yield file
        else:
            with self._fs.open(self._path(folder, name), "wb") as file:
                yield file

    @contextmanager
    def local_copy(self, folder: str, name: str, suffix: str) -> Iterator[Path]:
        """Return a path of a file on this machine with some ending.

        Raises:
            OSError: If there is no such file.
        """
        if self.is_local:
            linked = Path(self._path(folder, f"{name}{suffix}"))
            try:
                linked.symlink_to(name)
            except FileExistsError:
                pass
            except FileNotFoundError:
                raise FileNotFoundError(
                    "the data of the request is not on this machine (setting data_url)"
                ) from None
            yield linked
            return
        with tempfile.TemporaryDirectory() as temporary:
            local = str(Path(temporary) / f"{name}{suffix}")
            self._fs.get_file(self._path(folder, name), local)
            yield Path(local)

    def put(self, local: Path, folder: str) -> None:
        """Copy a file of this machine, which keeps its name."""
        self._fs.put_file(str(local), self._path(folder, local.name))

    def open(self, folder: str, name: str) -> BinaryIO:
        """Open a file to read it, with ``seek``.

        Raises:
            OSError: If there is no such file.
        """
        file: BinaryIO = self._fs.open(self._path(folder, name), "rb")
        return file

    def delete(self, folder: str) -> None:
        """Delete a folder with its files, if it is there."""
        path = self._path(folder)
        if self.is_local:
            shutil.rmtree(path, ignore_errors=True)
            return
        with suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)

    def folders(self) -> Iterator[tuple[str, float]]:
        """Return the folders that there are, with their age in seconds."""
        try:
            entries: list[dict[str, Any]] = self._fs.ls(self._root, detail=True, refresh=True)
        except FileNotFoundError:
            return
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            modified = self._modified(entry)
            yield name, time.time() - modified

    def _modified(self, entry: dict[str, Any]) -> float:
        """Return when a folder was last written to, in seconds since 1970; 0 if not known."""
        found = entry.get("mtime") or entry.get("LastModified") or entry.get("created")
        if found is None and entry.get("type") == "directory":
            with suppress(OSError, NotImplementedError):
                inner = self._fs.ls(entry["name"], detail=True, refresh=True)
                return max(map(self._modified, inner), default=0.0)
        return float(found.timestamp() if isinstance(found, datetime) else found or 0.0)

    def _make_local(self, folder: str) -> Path:
        path = Path(self._path(folder))
        Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _path(self, *parts: str) -> str:
        return "/".join((self._root.rstrip("/"), *parts))


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
