"""Node functions: some work, some do what no node should."""

import ctypes
import logging
import os
import sys
import threading
import time
from pathlib import Path


def start(tag):
    return {"tag": tag}


def step(value):
    return value


def echo(tag, nested):
    return {"parameter": tag, "nested": nested["tag"]}


def tag_with(tag, other):
    return {"tag": tag, "other": other, "pid": os.getpid()}


def write_where(where):
    return {"where": where}


def sleep(seconds):
    marks = os.environ.get("PROBE_MARKS")
    if marks:
        Path(marks, f"started-{threading.get_ident()}-{time.time_ns()}").touch()
    time.sleep(seconds)


def sleep_on(value, seconds):
    time.sleep(seconds)
    return value


def mark(tag, seconds):
    """Write down when it begins and when it ends, and between the two every 10 ms."""
    with Path(os.environ["PROBE_MARKS"], tag).open("a", buffering=1) as file:
        file.write("begin\n")
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            time.sleep(0.01)
            file.write(f"{time.time()}\n")
        file.write("end\n")


def hold_python(tag, seconds):
    """Keep every other thread of the process from running."""
    path = Path(os.environ["PROBE_MARKS"], tag)
    path.write_text("begin\n")
    ctypes.PyDLL(None).sleep(int(seconds))
    path.write_text("begin\nend\n")


def count(loops):
    total = 0
    for i in range(int(loops)):
        total += i
    return total


class UnprintableError(Exception):
    """Fails when it is asked what it has to say."""

    def __str__(self):
        raise RuntimeError("no words")


def log_strangely(what):
    logger = logging.getLogger(__name__)
    logger.warning("reading %s", "https://user:canary@example.invalid/x?token=canary")
    logger.warning("digits %s", "7" * 2_000_000)
    logger.warning("lone %s", "\ud800")
    return what


def talk(tag):
    logging.getLogger(__name__).warning("talk of <%s>", tag)
    return tag


def chat(lines):
    logger = logging.getLogger(__name__)
    for number in range(int(lines)):
        logger.info("line %d %s", number, "x" * 100)


def forge(what):
    logger = logging.getLogger(__name__)
    logger.warning(
        "real\n2020-01-01T00:00:00.000Z INFO     forged: %s\r\x1b[2Jgone\u2028more", what
    )


def fail(what):
    if what == "exit":
        sys.exit(3)
    if what == "interrupt":
        raise KeyboardInterrupt("from a node")
    if what == "generator_exit":
        raise GeneratorExit("from a node")
    if what == "unprintable":
        raise UnprintableError
    if what == "surrogate":
        raise ValueError("lone \ud800 surrogate")
    if what == "long":
        raise ValueError("7" * 2_000_000)
    if what == "markup":
        raise ValueError("[/] [bold]not markup[/nothing]")
    if what == "url":
        raise ValueError("cannot read https://user:canary@example.invalid/x?token=canary#canary")
    if what == "recursion":
        return fail(what)
    raise ValueError(f"failed: {what}")
