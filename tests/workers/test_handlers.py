"""Log handlers of a process that is forked, or waits: files and connections of their own."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.logging import RichHandler

from kedro_flask_server.workers.handlers import Handlers, redirect_handlers


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("of-a-project")
    logger.propagate = False
    yield logger
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
        handler.close()


def in_a_worker(work: Callable[[int], None], run: int = 0) -> None:
    """Do something in a process that is forked, and ends without a word."""
    pid = os.fork()
    if pid == 0:
        try:
            work(run)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def add(logger: logging.Logger, handler: logging.Handler) -> None:
    logger.addHandler(handler)
    logger.error("of the template")


def test_full_file_is_rotated_by_the_run_that_finds_it_full(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "info.log"
    add(logger, logging.handlers.RotatingFileHandler(path, maxBytes=1000, backupCount=20))
    handlers = Handlers()

    def work(run: int) -> None:
        handlers.renew()
        for line in range(10):
            logger.error("run %s line %s %s", run, line, "x" * 20)

    for run in range(20):
        in_a_worker(work, run)
    texts = [each.read_text() for each in tmp_path.iterdir()]
    lines = "".join(texts).splitlines()
    assert len(lines) == len(set(lines)) == 201
    assert max(map(len, texts)) <= 1000


def test_file_that_is_rotated_by_time_is_rotated_once(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "info.log"
    handler = logging.handlers.TimedRotatingFileHandler(path, when="D", backupCount=5)
    add(logger, handler)
    yesterday = time.time() - 86_400
    handler.rolloverAt = int(yesterday)  # the template is older than that
    os.utime(path, (yesterday, yesterday))
    handlers = Handlers()

    def work(run: int) -> None:
        handlers.renew()
        logger.error("run %s", run)

    for run in range(3):
        in_a_worker(work, run)
    assert path.read_text() == "run 0\nrun 1\nrun 2\n"
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize(
    ("mode", "delay", "expected"),
    [
        ("a", False, "of the template\nrun 0\nrun 1\n"),
        ("a", True, "of the template\nrun 0\nrun 1\n"),
        ("w", False, "run 1\n"),
        ("w", True, "run 1\n"),
    ],
)
def test_file_is_opened_as_by_a_new_process(
    tmp_path: Path, logger: logging.Logger, mode: str, delay: bool, expected: str
) -> None:
    path = tmp_path / "info.log"
    add(logger, logging.FileHandler(path, mode=mode, delay=delay))
    handlers = Handlers()

    def work(run: int) -> None:
        handlers.renew()
        logger.error("run %s", run)

    for run in range(2):
        in_a_worker(work, run)
    assert path.read_text() == expected


def test_file_that_somebody_has_moved_is_left_to_them(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path, moved = tmp_path / "info.log", tmp_path / "moved.log"
    add(logger, logging.FileHandler(path))
    handlers = Handlers()
    path.rename(moved)

    def work(run: int) -> None:
        handlers.renew()
        logger.error("run")

    in_a_worker(work)
    assert (moved.read_text(), path.read_text()) == ("of the template\n", "run\n")


class Ending(io.TextIOWrapper):
    """Ends its file when it is closed, as a compressed one."""

    def close(self) -> None:
        if not self.closed:
            self.write("end\n")
        super().close()


class EndingFileHandler(logging.FileHandler):
    def _open(self) -> Ending:
        return Ending(Path(self.baseFilename).open("ab"))


def test_what_the_template_has_logged_is_written_once(
    tmp_path: Path, logger: logging.Logger
) -> None:
    plain, ended = tmp_path / "plain.log", tmp_path / "ended.log"
    add(logger, EndingFileHandler(ended))
    target = logging.FileHandler(plain)
    memory = logging.handlers.MemoryHandler(100, logging.CRITICAL, target)
    add(logger, memory)
    handlers = Handlers()

    def work(run: int) -> None:
        handlers.renew()
        logger.error("run")
        for handler in logger.handlers:
            handler.close()

    for _ in range(2):
        in_a_worker(work)
    target.close()
    assert plain.read_text() == "of the template\n" + "run\n" * 2
    assert ended.read_text() == "of the template\n" * 2 + "run\nend\n" * 2


def test_connections_are_made_again(tmp_path: Path, logger: logging.Logger) -> None:
    path = str(tmp_path / "syslog")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        syslog.bind(path)
        to_syslog = logging.handlers.SysLogHandler(path)
        to_server = logging.handlers.SocketHandler(*server.getsockname())
        add(logger, to_syslog)
        logger.addHandler(to_server)
        logger.error("of the template")
        handlers = Handlers()
        own = {to_syslog.socket.fileno(), to_server.sock.fileno()}
        assert own <= handlers.descriptors()
        handlers.renew()
        logger.error("run")
        server.settimeout(10)
        for _ in range(2):
            server.accept()[0].close()
        assert [b"template" in syslog.recv(1000) for _ in range(3)] == [True, True, False]


def test_handlers_of_a_stream_that_is_replaced_write_to_what_replaces_it(
    logger: logging.Logger,
) -> None:
    old, new, other = io.StringIO(), io.StringIO(), io.StringIO()
    logger.addHandler(logging.StreamHandler(old))
    logger.addHandler(logging.StreamHandler(other))
    logger.addHandler(RichHandler(console=Console(file=old, width=200)))
    target = logging.StreamHandler(old)
    logger.addHandler(logging.handlers.MemoryHandler(1, target=target))
    redirect_handlers({old: new, sys.__stdin__: new})
    logger.error("line")
    assert old.getvalue() == ""
    assert new.getvalue().count("line") == 3
    assert other.getvalue() == "line\n"
