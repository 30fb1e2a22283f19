"""What a program need not end itself: Python and C do, when it ends."""

import atexit
import contextlib
import ctypes
import functools
import gzip
import json
import logging.handlers
import lzma
import shelve
import sqlite3
import tarfile
import tempfile
import threading
import weakref
import zipfile
from pathlib import Path

OUT = Path("out")
KEPT = []
BY_NAME = {"inner": ([], {})}
LATER = None
LOCAL = threading.local()


def note(name, text="ended"):
    with (OUT / name).open("a") as file:
        file.write(f"{text}\n")


@atexit.register
def at_exit():
    """Is registered by the import."""
    if KEPT:
        note("exit_of_import")


class Destructor:
    """Needs what its module has, once."""

    kept = []

    def __init__(self, name):
        self.name = name

    def __del__(self):
        note(self.name, json.dumps({"name": self.name}))


class Failing:
    def __del__(self):
        raise SystemExit("in a destructor")


class Keeper:
    """A hook that keeps something."""

    file = None


@functools.lru_cache
def cached(name):
    file = bz2_file(name)
    file.write(b"cached")
    return file


def bz2_file(name):
    import bz2

    return bz2.open(OUT / name, "wb")


def suspended():
    with gzip.open(OUT / "generator.gz", "wt") as file:
        file.write("generator")
        yield file
        note("never")


def counted(function):
    file = lzma.open(OUT / "closure.xz", "wt")
    return lambda: file.write(function())


def leave():
    global LATER
    from unended import late, settings

    packed = gzip.open(OUT / "list.gz", "wt")
    packed.write("list")
    archive = zipfile.ZipFile(OUT / "archive.zip", "w")
    archive.writestr(zipfile.ZipInfo("text"), "text")
    shelf = shelve.open(str(OUT / "shelf"), writeback=True)
    shelf["list"] = [1]
    shelf["list"].append(2)
    tar = tarfile.open(OUT / "archive.tar.gz", "w:gz")  # which nothing ends
    KEPT.extend([packed, archive, shelf, tar])

    # Wrapped by each other, the inner one made first or last.
    raw = (OUT / "nested.zip").open("wb")
    outer = zipfile.ZipFile(raw, "w")
    member = outer.open(zipfile.ZipInfo("inner.gz"), "w")
    innermost = gzip.GzipFile("", "wb", fileobj=member, mtime=0)
    innermost.write(b"deep")
    BY_NAME["inner"][1]["deep"] = [raw, outer, member, innermost]

    LATER = (OUT / "global.txt").open("w")
    LATER.write("global")
    late.KEPT.append(lzma.open(OUT / "late.xz", "wt"))
    late.KEPT[0].write("late")
    settings.KEEPER.file = gzip.open(OUT / "hook.gz", "wt")
    settings.KEEPER.file.write("hook")
    Keeper.file = gzip.open(OUT / "class.gz", "wt")
    Keeper.file.write("class")
    cached("cached.bz2")
    LOCAL.file = gzip.open(OUT / "thread.gz", "wt")
    LOCAL.file.write("thread")
    leave.kept = counted(lambda: "closure")
    leave.kept()
    generator = suspended()
    next(generator)
    KEPT.append(generator)
    KEPT.append(contextlib.ExitStack())
    KEPT[-1].callback(note, "never_called")

    Destructor.kept.append(Destructor("destructor"))
    KEPT.extend([Failing(), Destructor("after_a_failing_one")])

    KEPT.append(tempfile.NamedTemporaryFile(dir=OUT, suffix=".temporary"))
    KEPT.append(tempfile.TemporaryDirectory(dir=OUT))
    weakref.finalize(KEPT[-1], note, "finalize")
    atexit.register(note, "exit")
    threading.Timer(0.2, note, ["thread"]).start()
    handler = logging.handlers.MemoryHandler(
        99, target=logging.FileHandler(OUT / "memory.log"), flushLevel=99
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("unended.memory")
    logger.addHandler(handler)
    logger.warning("kept until the end")

    database = sqlite3.connect(OUT / "data.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE numbers (number)")
    KEPT.append(database)

    c = ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    c.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    c.fputs(b"of C\n", c.fopen(str(OUT / "c.txt").encode(), b"w"))
    return "left"
