"""Rich's handlers draw for terminals, and write lines elsewhere."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from rich.logging import RichHandler

from kedro_flask_server.logs import draw_for_terminals_only, logs_of, make_records_safe
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.project.failures import safe

Log = Callable[..., io.StringIO]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Return a logger of its own, in a process whose records are as the server's."""
    factory = logging.getLogRecordFactory()
    make_records_safe(safe)
    logger = logging.getLogger("somebody.else")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.propagate = True
    logging.setLogRecordFactory(factory)
    draw_for_terminals_only("rich")


@pytest.fixture
def handled(logger: logging.Logger) -> Log:
    """Return what adds a handler of rich's, after the format was chosen, and returns its file."""

    added: list[logging.Handler] = []

    def add(log_format: str, *, terminal: bool = False, kind: type[RichHandler] = RichHandler):
        draw_for_terminals_only(log_format)
        file = io.StringIO()
        console = Console(file=file, width=60, force_terminal=terminal)
        handler = kind(console=console, rich_tracebacks=True)
        logger.addHandler(handler)
        added.append(handler)
        return file

    add.handlers = added  # type: ignore[attr-defined]
    return add


def report() -> RunReport:
    return RunReport(after=0, max_log_bytes=10_000)


def is_drawn(text: str) -> bool:
    return text.startswith(("[", "\x1b"))


@pytest.mark.parametrize(
    ("log_format", "terminal", "drawn"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("rich", False, True),
        ("rich", True, True),
        ("plain", True, False),
        ("plain", False, False),
        ("json", True, False),
        ("json", False, False),
    ],
)
def test_format_says_where_rich_draws(
    logger: logging.Logger, handled: Log, log_format: str, terminal: bool, drawn: bool
) -> None:
    file = handled(log_format, terminal=terminal)
    logger.info("hello")
    assert is_drawn(file.getvalue()) is drawn
    assert "hello" in file.getvalue()


def test_plain_line_is_one_line_with_time_level_run_logger_and_message(
    logger: logging.Logger, handled: Log
) -> None:
    file = handled("auto")
    with logs_of("run-1", report()):
        logger.warning("a long line %s", "x" * 200)
    logger.info("of no run")
    [of_run, other] = file.getvalue().splitlines()
    time, level, run_id, name, message = of_run.split(maxsplit=4)
    assert (level, run_id, name) == ("WARNING", "run-1", "somebody.else:")
    assert message == f"a long line {'x' * 200}"
    assert time.endswith("Z")
    assert other.split(maxsplit=1)[1] == "INFO     somebody.else: of no run"


def test_json_line_has_the_run_and_whatever_the_message_holds(
    logger: logging.Logger, handled: Log
) -> None:
    file = handled("json")
    try:
        raise ValueError("in\ntwo lines")
    except ValueError:
        with logs_of("run-1", report()):
            logger.exception('with "quotes"')
    logger.info("of no run")
    [of_run, other] = map(json.loads, file.getvalue().splitlines())
    assert list(of_run) == ["time", "level", "logger", "run_id", "message"]
    assert (of_run["level"], of_run["run_id"]) == ("ERROR", "run-1")
    assert of_run["message"].startswith('with "quotes"\nTraceback (most recent call last):\n')
    assert of_run["message"].endswith("ValueError: in\ntwo lines")
    assert "run_id" not in other


def test_formatter_of_its_own_is_honoured(logger: logging.Logger, handled: Log) -> None:
    file = handled("auto")
    handled.handlers[-1].setFormatter(logging.Formatter("%(levelname)s|%(run_id)s|%(message)s"))
    with logs_of("run-1", report()):
        logger.info("hello")
    assert file.getvalue() == "INFO|run-1|hello\n"


class _Shouting(logging.Formatter):
    """Has a format in code, and the default one beside it, as many have."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{record.getMessage().upper()}>"


class _ShoutingToo(_Shouting):
    def __init__(self) -> None:  # without that of the class above, so that there is no `_fmt`
        pass


@pytest.mark.parametrize("formatter", [_Shouting, _ShoutingToo])
def test_formatter_that_formats_in_code_is_honoured(
    logger: logging.Logger, handled: Log, formatter: type[logging.Formatter]
) -> None:
    file = handled("auto")
    handled.handlers[-1].setFormatter(formatter())
    logger.info("hello")
    assert file.getvalue() == "<HELLO>\n"


def test_level_and_filter_of_a_handler_are_left_alone(logger: logging.Logger, handled: Log) -> None:
    file = handled("auto")
    handled.handlers[-1].setLevel(logging.ERROR)
    handled.handlers[-1].addFilter(lambda record: "secret" not in record.getMessage())
    logger.warning("too low")
    logger.error("secret word")
    logger.error("shown")
    [line] = file.getvalue().splitlines()
    assert line.endswith("somebody.else: shown")


def test_handlers_that_are_not_rich_s_are_left_alone(logger: logging.Logger, handled: Log) -> None:
    handled("json")
    other = io.StringIO()
    logger.addHandler(logging.StreamHandler(other))
    logger.info("hello")
    assert other.getvalue() == "hello\n"


def test_kedro_s_handler_writes_lines_too(logger: logging.Logger, handled: Log) -> None:
    from kedro.logging import RichHandler as KedroHandler

    file = io.StringIO()
    draw_for_terminals_only("auto")
    logger.addHandler(KedroHandler(console=Console(file=file, width=60)))
    logger.info("hello")
    assert file.getvalue().endswith("INFO     somebody.else: hello\n")


class _Counting(RichHandler):
    """A project's own, which does more than to draw."""

    emitted = 0

    def emit(self, record: logging.LogRecord) -> None:
        type(self).emitted += 1
        super().emit(record)


def test_handler_derived_from_rich_s_still_does_what_it_does(
    logger: logging.Logger, handled: Log
) -> None:
    file = handled("auto", kind=_Counting)
    before = _Counting.emitted
    logger.info("hello")
    assert _Counting.emitted == before + 1
    assert file.getvalue().endswith("INFO     somebody.else: hello\n")


def test_every_record_has_a_run_id(logger: logging.Logger) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.info("of no run")
    with logs_of("run-1", report()):
        logger.info("of a run")
        wrong = logger.makeRecord("n", logging.INFO, "p", 1, "%d", ("one",), None)
        logging.getLogger("somebody.else.below").warning("of a run")
    assert [record.run_id for record in [*records, wrong]] == ["", "run-1", "run-1", "run-1"]


def test_file_that_cannot_be_written_fails_nobody(
    logger: logging.Logger, handled: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    file = handled("plain")
    file.close()
    logger.info("hello")
