"""The file of an SQLite database, the files beside it, and their folder."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError

# SQLite's write-ahead log needs shared memory between all processes that open the file, which these
# file systems lack (https://www.sqlite.org/wal.html#overview, the third disadvantage).
_NETWORK_FILE_SYSTEMS = {
    *("afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs", "webdav"),
    *("fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs"),
    *("fuse.grpcfuse", "fuse.juicefs", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    *("fuse.vmhgfs-fuse", "prl_fs", "vboxsf", "vmhgfs"),
}

_BESIDE = ("-wal", "-shm", "-journal")
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600

# A file that replaces another may be a copy in progress: it is opened when it has not changed for a
# while, or when servers that write to it have had enough time.
_SETTLED_AFTER_S = 1.5
_OPENED_AFTER_S = 5.0

_Identity = tuple[int, int]


class DatabaseFile:
    """A file that SQLite has open, compared with what its path names now.

    Nothing here opens the file: closing it again would release all of SQLite's locks on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is created yet.

        Args:
            path: The file's path.
            clock: Returns monotonic seconds.
        """
        self._path = path
        self._log = Path(f"{path}-wal")
        self._clock = clock
        self._opened: tuple[_Identity | None, _Identity | None] | None = None
        self._found: tuple[int, ...] | None = None
        self._unchanged_since = 0.0
        self._replaced_since = 0.0

    def prepare(self) -> None:
        """Create the folder and the file, readable by this user only, if they do not exist.

        Raises:
            ServerSettingsError: If the folder is on a network file system, or cannot be used.
            StoreUnavailableError: If they cannot be created now.
        """
        folder = self._path.parent
        _refuse_network(folder)
        try:
            is_empty = _make_folder(folder)
            if is_empty:
                _make_file(folder / ".gitignore", b"# What the server keeps is not for git.\n*\n")
            if not self._path.exists():
                _make_database(self._path)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise _unusable(folder, error) from error
        except OSError as error:
            if error.errno == errno.EROFS:
                raise _unusable(folder, error) from error
            raise StoreUnavailableError(f"{folder}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{folder}: {error}") from error
        for each in (self._path, *(Path(f"{self._path}{suffix}") for suffix in _BESIDE)):
            _close_to_others(each)

    def drop_state(self) -> None:
        """Record that no file is open."""
        self._opened = None

    def is_replaced(self) -> bool:
        """Return whether the path no longer names the open files."""
        return self._opened not in (None, (_identity(self._path), _identity(self._log)))

    def record_state(self) -> None:
        """Record which files are open, if that is not known."""
        if self._opened is None:
            self._opened = (_identity(self._path), _identity(self._log))
            self._found = None

    def check(self) -> None:
        """Refuse a file that would not be read again.

        Raises:
            StoreUnavailableError: If the path names another file than the open one.
        """
        if self._opened is not None and self._opened[0] != _identity(self._path):
            raise self._replaced()

    def expect_settled(self) -> None:
        """Refuse a replacement of the file that may still be written.

        Raises:
            StoreUnavailableError: If it may.
        """
        now = self._clock()
        found = _state(self._path)
        if self._found is None or found[:2] != self._found[:2]:
            self._replaced_since = now
        if found != self._found:
            self._found, self._unchanged_since = found, now
        is_settled = now - self._unchanged_since >= _SETTLED_AFTER_S
        if not is_settled and now - self._replaced_since < _OPENED_AFTER_S:
            raise self._replaced()

    def _replaced(self) -> StoreUnavailableError:
        what = "replaced" if self._path.exists() else "deleted"
        return StoreUnavailableError(f"the file {self._path} was {what}, and is opened again soon")


def file_system_of(path: Path) -> str:
    """Return the type of a path's file system, or ``""`` where that is unknown.

    Args:
        path: Any path, its links resolved.
    """
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    for folder in (path, *path.parents):
        if folder in mounts:
            return mounts[folder]
    return ""


def _refuse_network(folder: Path) -> None:
    kind = file_system_of(folder.resolve())
    if kind.lower() in _NETWORK_FILE_SYSTEMS:
        raise ServerSettingsError(
            f"The folder {folder} is on a network file system ({kind}), on which SQLite loses "
            "data: name a local folder (setting state_dir), or a PostgreSQL database (setting "
            "database_url)."
        )


def _make_folder(folder: Path) -> bool:
    """Create a folder, and return whether it is empty."""
    try:
        folder.mkdir(parents=True, mode=_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return not any(folder.iterdir())
    folder.chmod(_FOLDER_MODE)  # whatever the umask
    return True


def _make_file(path: Path, content: bytes = b"") -> None:
    """Create a file; an existing one is not opened."""
    if path.exists():
        return
    with suppress(FileExistsError):  # another server has created it
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        path.chmod(_FILE_MODE)


def _make_database(path: Path) -> None:
    """Create an empty database atomically, with all its properties.

    It uses a write-ahead log, which concurrent openers could not agree upon, and a map of its
    pages, by which columns after a large request are found without reading that.
    """
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    _make_file(draft)
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(draft, path)
        except FileExistsError:  # another server has created it
            return
        except OSError:  # a file system without links: SQLite does the rest
            _make_file(path)
    finally:
        draft.unlink(missing_ok=True)


def _close_to_others(path: Path) -> None:
    with suppress(OSError):  # missing, or another user's
        if path.stat().st_mode & 0o077:
            path.chmod(_FILE_MODE)


def _identity(path: Path) -> _Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116  called at each write
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _unusable(folder: Path, error: OSError) -> ServerSettingsError:
    return ServerSettingsError(
        f"The folder {folder}, in which the server keeps its runs, cannot be used: "
        f"{error.strerror}. Name another one (setting state_dir)."
    )
