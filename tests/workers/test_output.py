"""What is printed in a worker: a line each, bounded, without a secret; cheap when none is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from kedro_flask_server.text import MAX_PRINTED_BYTES, bounded
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.report import PipeReport, ReportReader, open_report_pipe

SECRET = "s3cr3t-canary-of-some-length"


class Printed:
    """An output, and what it tells."""

    def __init__(self) -> None:
        self.reader: ReportReader
        self.reader, self._pipe = open_report_pipe()
        self.made_safe = 0
        self.output = Output("stdout", 1, self._safe)
        self.output.report = PipeReport(self._pipe, lambda: None)
        self.output.report.begin(max_log_bytes=1_000_000)

    def _safe(self, text: str) -> str:
        self.made_safe += 1
        return bounded(text.replace(SECRET, "<redacted>"))

    def write(self, text: str) -> None:
        self.output.write(text.encode())

    def messages(self) -> list[list[str]]:
        return [body["messages"] for kind, body in self.reader.read() if kind == "log"]

    def lines(self) -> list[str]:
        return [line for lines in self.messages() for line in lines]

    def close(self) -> None:
        self.reader.close()
        os.close(self._pipe)


@pytest.fixture
def printed() -> Iterator[Printed]:
    both = Printed()
    yield both
    both.close()


def test_lines_are_told_when_they_end_and_those_of_one_write_together(printed: Printed) -> None:
    printed.write("half a ")
    assert printed.messages() == []
    printed.write("line\nsecond\n\nthird")
    assert printed.messages() == [["half a line", "second", ""]]
    printed.output.end_line()
    assert printed.messages() == [["third"]]


def test_threads_do_not_end_each_others_lines(printed: Printed) -> None:
    printed.write("of the first ")
    thread = threading.Thread(target=printed.write, args=("of the second\n",))
    thread.start()
    thread.join()
    printed.write("thread\n")
    assert printed.lines() == ["of the second", "of the first thread"]


@pytest.mark.parametrize(
    "before", [*range(MAX_PRINTED_BYTES - 30, MAX_PRINTED_BYTES + 3, 4), 8_180]
)
@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_no_part_of_a_secret_in_a_long_line_is_told(
    printed: Printed, before: int, size: int
) -> None:
    text = "." * before + SECRET + "." * 100_000 + "\nnext\n"
    for start in range(0, len(text), size):
        printed.write(text[start : start + size])
    *told, last = printed.lines()
    assert last == "next"
    assert not any(SECRET[begin : begin + 5] in "".join(told) for begin in range(len(SECRET) - 5))
    assert sum(map(len, told)) < 10_000
    assert "cut" in told[-1]


def test_bar_that_is_drawn_for_hours_is_told_now_and_then(printed: Printed) -> None:
    for number in range(100_000):
        printed.write(f"\r{number:5d} of 100,000 {SECRET}")
    printed.write("\ndone\n")
    lines = printed.lines()
    assert len(lines) > 10
    assert all(line.endswith(" of 100,000 <redacted>") for line in lines[:-1])
    assert lines[-2:] == ["99999 of 100,000 <redacted>", "done"]


def test_what_is_not_kept_is_counted_and_not_looked_at(printed: Printed) -> None:
    assert printed.output.report is not None
    printed.output.report.begin(max_log_bytes=100)
    printed.write("x" * 200 + "\n")
    looked_at = printed.made_safe
    for _ in range(1_000):
        printed.write("line")
        printed.write("\n")
    printed.output.end_line()
    assert printed.made_safe == looked_at
    printed.output.report.report_dropped()
    [*_, (kind, body)] = printed.reader.read()
    assert (kind, body["lines"], body["bytes"]) == ("left_out", 1_001, 200 + 5_000)
