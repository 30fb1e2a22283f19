"""What is logged is bounded and can be written, whoever logs it."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.logging import RichHandler

from kedro_flask_server.logs import draw_for_terminals_only, logs_of, make_records_safe
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.project.failures import safe


@pytest.fixture
def drawn() -> Iterator[io.TextIOWrapper]:
    """Return a logger's file, drawn by rich as Kedro's is, encoded as UTF-8."""
    factory = logging.getLogRecordFactory()
    make_records_safe(safe)
    draw_for_terminals_only("rich")
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    handler = RichHandler(console=Console(file=file, width=200), markup=True, rich_tracebacks=True)
    logger = logging.getLogger("somebody.else")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield file
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)


def text_of(file: io.TextIOWrapper) -> str:
    return file.buffer.getvalue().decode()  # type: ignore[attr-defined,no-any-return]


def test_huge_line_is_cut_and_costs_little(drawn: io.TextIOWrapper) -> None:
    started_at = time.monotonic()
    logging.getLogger("somebody.else").error("failed: %s", "7" * 2_000_000)
    assert time.monotonic() - started_at < 2  # uncut, rich takes minutes
    assert len(text_of(drawn)) < 20_000


def test_lone_surrogate_is_written_and_so_is_what_follows(drawn: io.TextIOWrapper) -> None:
    logger = logging.getLogger("somebody.else")
    logger.info("lone %s", "\ud800")
    logger.info("after")
    assert "lone \\ud800" in text_of(drawn)
    assert "after" in text_of(drawn)


def test_exception_with_a_huge_message_is_logged_with_its_traceback(
    drawn: io.TextIOWrapper,
) -> None:
    try:
        raise ValueError("7" * 2_000_000)
    except ValueError:
        logging.getLogger("somebody.else").exception("failed", extra={"markup": True})
    assert "Traceback" in text_of(drawn)
    assert "test_records.py" in text_of(drawn)
    assert len(text_of(drawn)) < 20_000


def test_plain_line_is_left_as_it_is(drawn: io.TextIOWrapper) -> None:
    record = logging.getLogRecordFactory()("n", logging.INFO, "p", 1, "%s is %d", ("one", 1), None)
    assert (record.msg, record.args) == ("%s is %d", ("one", 1))
    assert type(record) is logging.LogRecord


def test_wrong_arguments_are_left_to_logging(drawn: io.TextIOWrapper) -> None:
    record = logging.getLogRecordFactory()("n", logging.INFO, "p", 1, "%d", ("one",), None)
    assert record.args == ("one",)


def test_credentials_in_a_url_are_not_logged(drawn: io.TextIOWrapper) -> None:
    logging.getLogger("somebody.else").info("read %s", "https://user:canary@host/x?token=canary")
    assert "canary" not in text_of(drawn)


@pytest.mark.usefixtures("drawn")
def test_records_go_to_the_report_of_their_thread_whatever_their_logger_does() -> None:
    loud = logging.getLogger("probe.loud")
    loud.propagate = False
    loud.addHandler(logging.NullHandler())
    report, other = (RunReport(after=0, max_log_bytes=10_000) for _ in range(2))
    loud.warning("before")
    with logs_of("a run", report):
        loud.warning("one %s", "\x1b[31m")
        with logs_of("a run", other):
            loud.warning("two")
        try:
            raise ValueError("three")
        except ValueError:
            loud.exception("failed")
        logging.makeLogRecord({"msg": "made by hand", "name": "probe"})
        loud.warning("odd", exc_info=("a",))
        loud.warning("wrong %d", "arguments")
    loud.warning("after")
    texts = [event.data["message"] for event in report.drain()]
    assert (texts[0], texts[2]) == ("one \\x1b[31m", "odd")
    assert texts[1].startswith("failed\nTraceback (most recent call last):\n")
    assert texts[1].endswith("ValueError: three")
    assert len(texts) == 3
    assert [event.data["message"] for event in other.drain()] == ["two"]


@pytest.mark.usefixtures("drawn")
def test_record_with_an_endless_traceback_is_bounded() -> None:
    functions = "\n".join(f"def f{i}(): f{i + 1}()" for i in range(300))
    report = RunReport(after=0, max_log_bytes=10_000_000)
    with logs_of("a run", report):
        try:
            exec(f"{functions}\ndef f300(): 1/0\nf0()", {})
        except ZeroDivisionError:
            logging.getLogger("somebody.else").exception("x" * 100_000)
    [event] = report.drain()
    assert len(event.data["message"]) < 30_000
    assert event.data["message"].endswith("ZeroDivisionError: division by zero")
