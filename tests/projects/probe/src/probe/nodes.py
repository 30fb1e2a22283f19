"""Node functions: some work, some do what no node should."""

import atexit
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy


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


def crash(how):
    logging.getLogger(__name__).warning("about to end by %s", how)
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


def cling(tag, ways):
    """Stay, with processes that stay, whoever asks them to go."""
    if "ignore" in ways:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    script = "trap '' TERM; echo $$; while true; do sleep 1; done"
    processes = [
        subprocess.Popen(["/bin/sh", "-c", script], start_new_session=way == "session")
        for way in ("child", "session")
    ]
    subprocess.run(["/bin/sh", "-c", "(trap '' TERM; sleep 1000) & echo orphan"], check=True)
    Path(os.environ["PROBE_MARKS"], tag).write_text(f"{os.getpid()} {os.getpgid(0)}")
    try:
        if "hold" in ways:
            sum(range(10**11))  # Python looks at nothing else in the meantime
        if "leave" not in ways:
            time.sleep(1000)
    finally:
        Path(os.environ["PROBE_MARKS"], f"{tag}.finally").touch()
    return [process.pid for process in processes]


def leave(tag):
    """Return what the run finds, and leave everything else than it was."""
    random_state = sys.modules["random"]
    found = {
        "environ": os.environ.get("PROBE_LEFT"),
        "folder": str(Path.cwd()),
        "module": getattr(time, "left_by_probe", None),
        "hooks": sorted(vars(sys.modules["probe.settings"].HOOKS[0])),
        "random": random_state.random(),
        "numpy": float(numpy.random.random()),
        "secrets": sorted(name for name in os.environ if "SECRET" in name or "DATABASE" in name),
    }
    os.environ["PROBE_LEFT"] = tag
    os.chdir("/")
    time.left_by_probe = tag
    sys.modules["probe.settings"].HOOKS[0].left_by_probe = tag
    random_state.seed(1)
    numpy.random.seed(1)
    return {"tag": tag, **found, "pid": os.getpid()}


def speak(tag):
    """Say things in every way, in this order."""
    print("printed", tag)
    logging.getLogger(__name__).info("logged %s", tag)
    sys.stderr.write("half a ")
    sys.stderr.write("line\nhttps://user:canary@example.invalid/ \x1b[2J\n")
    print("10%\r50%\r100%")
    thread = threading.Thread(target=lambda: print("from a thread"))
    thread.start()
    thread.join()
    print("with no end", end="")


def shout(tag):
    """Write past Python."""
    subprocess.run(["/bin/sh", "-c", f"echo from a program {tag}; echo gone wrong >&2"], check=True)
    os.write(1, b"written to descriptor 1")


def take_memory(megabytes):
    return len(bytearray(int(megabytes) * 1_000_000))


def execute(code):
    """Do anything; what is defined stays."""
    exec(code, globals())


def linger(tag, seconds):
    """Leave a thread behind that `kedro run` waits for, and a function for the exit."""

    def finish():
        time.sleep(seconds)
        Path(os.environ["PROBE_MARKS"], f"{tag}.thread").touch()

    threading.Thread(target=finish).start()
    atexit.register(Path(os.environ["PROBE_MARKS"], f"{tag}.exit").touch)
