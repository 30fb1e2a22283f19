"""The thread that writes what the runs log: in order, and all of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from kedro_flask_server.logs import LogWriter
from tests.servers import eventually


class Kept(logging.Handler):
    """Keeps what it is to write, once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.threads: set[str] = set()
        self.is_writing = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.is_writing.set()
        assert self.may_write.wait(10)
        self.texts.append(record.getMessage())
        self.threads.add(threading.current_thread().name)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    yield handler
    handler.may_write.set()


@pytest.fixture
def logger(kept: Kept) -> Iterator[logging.Logger]:
    logger = logging.getLogger("somebody.writes")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(kept)
    yield logger
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture
def writer(logger: logging.Logger, kept: Kept) -> Iterator[LogWriter]:
    writer = LogWriter()
    writer.start()
    yield writer
    kept.may_write.set()
    writer.close()


@pytest.fixture
def held(writer: LogWriter, logger: logging.Logger, kept: Kept) -> LogWriter:
    """Return the writer while it is at its first record, and cannot go on."""
    kept.may_write.clear()
    logger.info("first")
    assert kept.is_writing.wait(10)
    return writer


def test_records_are_written_by_another_thread_in_order(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    for number in range(500):
        logger.info("%d", number)
    eventually(lambda: len(kept.texts) == 500)
    assert kept.texts == [str(number) for number in range(500)]
    assert kept.threads == {"kedro-log-writer"}


def test_who_logs_does_not_wait_for_a_handler(
    held: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    logger.info("second")
    assert kept.texts == []
    kept.may_write.set()
    eventually(lambda: kept.texts == ["first", "second"])


def test_records_of_many_threads_are_all_written_each_thread_s_in_order(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    def log(name: int) -> None:
        for number in range(300):
            logger.log(logging.ERROR if number % 50 == 0 else logging.INFO, f"{name}:{number}")

    threads = [threading.Thread(target=log, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(kept.texts) == 8 * 300
    for name in range(8):
        own = [text for text in kept.texts if text.startswith(f"{name}:")]
        assert own == [f"{name}:{number}" for number in range(300)]


def test_error_is_written_before_the_call_returns_and_all_that_came_before(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    for number in range(100):
        logger.info("%d", number)
    logger.error("bad")
    assert kept.texts == [*map(str, range(100)), "bad"]


def test_level_of_a_handler_and_propagation_count_as_ever(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    kept.setLevel(logging.WARNING)
    below = logging.getLogger("somebody.writes.below")
    below.debug("too low for the logger")
    below.info("too low for the handler")
    below.warning("shown")
    writer.flush()
    assert kept.texts == ["shown"]


def test_handler_has_the_context_of_who_logs(writer: LogWriter, logger: logging.Logger) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(variable.get())  # type: ignore[method-assign]
    logger.addHandler(handler)
    variable.set("mine")
    logger.info("x")
    writer.flush()
    assert seen == ["mine"]


def test_queue_is_bounded(held: LogWriter, logger: logging.Logger, kept: Kept) -> None:
    written = threading.Event()

    def flood() -> None:
        for number in range(10_001):  # more than may wait
            logger.info("%d", number)
        written.set()

    thread = threading.Thread(target=flood)
    thread.start()
    assert not written.wait(2)  # long enough to log them all
    kept.may_write.set()
    assert written.wait(10)
    thread.join()
    held.flush()
    assert len(kept.texts) == 10_002


@pytest.mark.parametrize("end", [LogWriter.close, lambda writer: logging.shutdown()])
def test_end_writes_what_waits(
    logger: logging.Logger, kept: Kept, end: Callable[[LogWriter], None]
) -> None:
    writer = LogWriter()
    writer.start()
    for number in range(200):
        logger.info("%d", number)
    end(writer)
    assert len(kept.texts) == 200
    logger.info("after the end")
    assert kept.texts[-1] == "after the end"
    writer.close()


def test_nothing_that_is_logged_while_it_closes_is_lost(logger: logging.Logger, kept: Kept) -> None:
    for _ in range(20):
        kept.texts.clear()
        writer = LogWriter()
        writer.start()
        half = threading.Event()

        def log(half: threading.Event) -> None:
            for number in range(400):
                logger.info("%d", number)
                if number == 200:
                    half.set()

        thread = threading.Thread(target=log, args=(half,))
        thread.start()
        assert half.wait(10)
        writer.close()
        thread.join()
        assert sorted(map(int, kept.texts)) == [*range(400)]


def test_handler_that_logs_itself_is_heard(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    other = logging.getLogger("somebody.else.writes")
    handler = logging.Handler()
    handler.emit = lambda record: logger.error("from a handler")  # type: ignore[method-assign]
    other.addHandler(handler)
    try:
        other.warning("x")
        eventually(lambda: kept.texts == ["from a handler"])
        other.error("y")
        assert kept.texts == ["from a handler"] * 2
    finally:
        other.removeHandler(handler)


def test_writer_that_is_started_while_another_is_takes_over_and_nothing_is_lost(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    logger.info("to the first")
    second = LogWriter()
    second.start()
    logger.info("to the second")
    second.close()
    writer.close()
    assert sorted(kept.texts) == ["to the first", "to the second"]
    logger.info("to nobody")
    assert kept.texts[-1] == "to nobody"


def test_writer_that_is_started_twice_has_one_thread(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    writer.start()
    names = [thread.name for thread in threading.enumerate()]
    writer.close()
    assert names.count("kedro-log-writer") == 1


def in_child(work: Callable[[], None]) -> int | None:
    """Return the exit code of a fork that works; None where it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code: list[int] = []
    waiting = threading.Thread(target=lambda: code.append(os.waitpid(pid, 0)[1]))
    waiting.start()
    waiting.join(30)
    if waiting.is_alive():
        os.kill(pid, 9)
        waiting.join()
        return None
    return os.waitstatus_to_exitcode(code[0])


def test_fork_writes_its_own_records_itself(
    held: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    def work() -> None:
        kept.may_write.set()
        logger.info("in the child")
        assert kept.texts == ["in the child"]

    assert in_child(work) == 0


def test_fork_ends_while_the_parent_writes(
    held: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    def work() -> None:
        kept.may_write = threading.Event()
        kept.may_write.set()
        logging.shutdown()

    assert in_child(work) == 0


def test_fork_does_not_write_the_parent_s_records_again(
    writer: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    def work() -> None:
        logging.shutdown()
        assert "of the parent" not in kept.texts

    with writer._writing:  # so that it waits
        logger.info("of the parent")
        assert in_child(work) == 0


def test_fork_ends_whichever_lock_the_thread_held(writer: LogWriter) -> None:
    # The locks of events are held for microseconds, too short to be met by chance.
    with writer._has_come._cond, writer._is_closing._cond:
        assert in_child(logging.shutdown) == 0


class Failing(logging.Handler):
    """Raises, as a handler should not."""

    def emit(self, record: logging.LogRecord) -> None:
        if "fail" in record.getMessage():
            raise RuntimeError("the handler failed")


def test_handler_that_raises_does_not_end_the_writing(
    logger: logging.Logger, kept: Kept, writer: LogWriter
) -> None:
    logger.addHandler(Failing())
    logger.info("fail")
    logger.info("after")
    eventually(lambda: "after" in kept.texts)


def test_handler_that_raises_fails_nobody_who_logs_something_else(
    logger: logging.Logger, kept: Kept, writer: LogWriter
) -> None:
    logger.addHandler(Failing())
    with writer._writing:
        logger.info("fail")
        logger.error("of another run")
    assert "of another run" in kept.texts


def test_record_says_what_was_true_when_it_was_logged(
    held: LogWriter, logger: logging.Logger, kept: Kept
) -> None:
    rows = [1, 2]
    logger.info("rows %s", rows)
    rows.clear()
    kept.may_write.set()
    held.flush()
    assert kept.texts[-1] == "rows [1, 2]"


@pytest.mark.usefixtures("writer")
def test_handler_that_is_removed_later_has_what_was_logged_before(logger: logging.Logger) -> None:
    own = Kept()
    logger.addHandler(own)
    logger.info("in its time")
    logger.removeHandler(own)
    assert own.texts == ["in its time"]


def logged_by(code: str) -> list[str]:
    """Return the lines that a process of its own logs."""
    begin = (
        "import logging, logging.config\n"
        "from kedro_flask_server.logs import LogWriter\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "LogWriter().start()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr.split()


def test_process_that_ends_has_written_all() -> None:
    code = "for number in range(1000): logging.info('%d', number)"
    assert logged_by(code) == [str(number) for number in range(1000)]


def test_logging_that_is_configured_anew_loses_nothing() -> None:
    code = """
handlers = {"h": {"class": "logging.StreamHandler"}}
logging.info("before")
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "handlers": handlers, "root": {"level": "INFO", "handlers": ["h"]},
})
logging.info("after")
"""
    assert logged_by(code) == ["before", "after"]
