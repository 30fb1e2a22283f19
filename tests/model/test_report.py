"""What runs tell: in order, bounded, and nothing after their end."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

import pytest

from kedro_flask_server.model.event import Event, EventType, log_line
from kedro_flask_server.model.report import RunReport, at_work_on
from kedro_flask_server.model.run import Progress


def lines(report: RunReport) -> list[str]:
    return [str(event.data["message"]) for event in report.drain()]


def test_events_are_numbered_and_carry_the_progress() -> None:
    report = RunReport(after=2, max_log_bytes=100)
    report.expect(2)
    report.emit(EventType.NODE_STARTED, {"node": "a"})
    report.log("INFO", "probe", "hello")
    first, second = report.drain()
    assert (first.id, first.type, first.data) == (
        3,
        "node.started",
        {"node": "a", "done": 0, "total": 2},
    )
    assert (second.id, second.type, second.data) == (
        4,
        "log",
        {"level": "INFO", "logger": "probe", "message": "hello", "node": "a"},
    )
    assert first.time <= second.time
    assert report.drain() == []


def test_progress_counts_the_nodes_that_have_finished() -> None:
    report = RunReport(after=0, max_log_bytes=100)
    report.expect(2)
    for kind in (EventType.NODE_STARTED, EventType.NODE_FINISHED, EventType.NODE_FAILED):
        report.emit(kind, {"node": "a"})
    report.emit(EventType.DATASET_SAVED, {"node": "a", "dataset": "b"})
    *of_nodes, of_a_dataset = report.drain()
    assert [event.data["done"] for event in of_nodes] == [0, 1, 1]
    assert of_a_dataset.data == {"node": "a", "dataset": "b"}
    assert report.progress == Progress(done=1, total=2)


def test_what_is_given_back_comes_first() -> None:
    report = RunReport(after=0, max_log_bytes=100)
    report.log("INFO", "probe", "one")
    taken = report.drain()
    report.log("INFO", "probe", "two")
    report.restore(taken)
    assert [event.id for event in report.drain()] == [1, 2]


def test_log_is_cut_where_it_gets_too_long_and_says_so() -> None:
    report = RunReport(after=0, max_log_bytes=110)
    for text in ("é" * 10, "1", "8", "9"):
        report.log("INFO", "probe", text)
    report.emit(EventType.NODE_FINISHED, {"node": "a"})
    *kept, last = report.drain()
    assert [event.data["message"] for event in kept[:2]] == ["é" * 10, "1"]
    assert "max_log_bytes" in kept[2].data["message"]
    assert "110 bytes" in kept[2].data["message"]
    assert (len(kept), last.type) == (3, "node.finished")


def test_end_says_how_much_of_the_log_is_not_kept() -> None:
    report = RunReport(after=0, max_log_bytes=60)
    for _ in range(3):
        report.log("INFO", "probe", "é" * 5)
    report.drop(2, 100)
    for lines in (10, 1_000):  # what a process counts, it counts from its beginning
        report.drop(lines, 1_000_000, by=7)
    report.drop(1, 1, by=8)
    report.end()
    report.end()
    first, cut, last = report.drain()
    assert first.data["message"] == "é" * 5
    assert "60 bytes (setting max_log_bytes)" in cut.data["message"]
    assert "1,005 lines (1,000,121 bytes)" in last.data["message"]


def test_full_log_is_not_looked_at() -> None:
    report = RunReport(after=0, max_log_bytes=10)
    assert not report.is_full
    report.log("INFO", "probe", "x" * 100)
    assert report.is_full


def test_log_that_no_store_takes_is_bounded_and_the_gap_is_marked() -> None:
    report = RunReport(after=0, max_log_bytes=200_000_000)
    for _ in range(40):
        report.log("INFO", "probe", "x" * 1_000_000)
    report.emit(EventType.NODE_FINISHED, {"node": "a"})
    taken = report.drain()
    assert 30 < len(taken) < 40
    assert taken[-1].type == "node.finished"
    report.restore(taken)
    report.log("INFO", "probe", "lost, too")
    assert report.drain() == taken
    report.log("INFO", "probe", "after")
    gap, after = report.drain()
    left_out = 41 - (len(taken) - 1)
    assert f"{left_out} lines (" in gap.data["message"]
    assert "the store was too slow" in gap.data["message"]
    assert after.data["message"] == "after"


def test_says_once_that_much_is_to_be_stored() -> None:
    called: list[bool] = []
    report = RunReport(after=0, max_log_bytes=10_000_000, on_many=lambda: called.append(True))
    for _ in range(5_000):
        report.log("INFO", "probe", "text")
    assert len(called) == 1
    report.drain()
    for _ in range(5_000):
        report.log("INFO", "probe", "text")
    assert len(called) == 2


def nodes_of(report: RunReport) -> list[object]:
    return [event.data.get("node") for event in report.drain() if event.type == "log"]


def test_record_names_the_node_of_its_thread_or_the_one_that_is_at_work_alone() -> None:
    report = RunReport(after=0, max_log_bytes=10_000)
    report.log("INFO", "probe", "before")
    report.emit(EventType.NODE_STARTED, {"node": "a"})
    report.log("INFO", "probe", "of a, from a thread that it has started")
    report.emit(EventType.NODE_STARTED, {"node": "b"})
    report.log("INFO", "probe", "of one of the two")
    with at_work_on("b"):
        report.log("INFO", "probe", "of b")
    report.log("INFO", "probe", "told of a", node="a")
    report.emit(EventType.NODE_FAILED, {"node": "a"})
    report.log("INFO", "probe", "of b")
    report.log_output(["from a program, at some time"], node=None)
    report.emit(EventType.NODE_FINISHED, {"node": "b"})
    report.log("INFO", "probe", "after")
    assert nodes_of(report) == [None, "a", None, "b", "a", "b", None, None]


def test_empty_records_fill_the_log_too() -> None:
    report = RunReport(after=0, max_log_bytes=10_000)
    for _ in range(10_000):
        report.log("INFO", "probe", "")
    taken = report.drain()
    assert len(taken) < 300
    assert sum(len(log_line(event)) + 1 for event in taken[:-1]) == pytest.approx(10_000, rel=0.2)


class LoggingReport(RunReport):
    """Logs while it takes an event down, as a finalizer does that runs at that moment."""

    is_logging = False

    def _add(self, kind: EventType, data: dict[str, Any], *rest: Any) -> None:
        if not self.is_logging:
            self.is_logging = True
            self.log("INFO", "probe", "finalized")
        super()._add(kind, data, *rest)


def test_finalizer_may_log_while_a_record_is_taken_down() -> None:
    report = LoggingReport(after=0, max_log_bytes=1000)
    logging_thread = threading.Thread(
        target=report.log, args=("INFO", "probe", "text"), daemon=True
    )
    logging_thread.start()
    logging_thread.join(5)
    assert not logging_thread.is_alive()
    assert lines(report) == ["finalized", "text"]


def test_nothing_is_taken_down_after_the_end() -> None:
    report = RunReport(after=0, max_log_bytes=10)
    report.close()
    report.log("INFO", "probe", "late")
    report.emit(EventType.NODE_FINISHED, {"node": "late"})
    assert report.drain() == []


@pytest.mark.parametrize("name", ["a\nb", "a\r\x1b[31mb", "x" * 10_000, "\ud800"])
def test_one_record_is_one_line_whatever_its_logger_is_called(name: str) -> None:
    report = RunReport(after=0, max_log_bytes=1000)
    report.log("INFO", name, "first\n2020-01-01T00:00:00.000Z INFO forged: second")
    [event] = report.drain()
    first, second = log_line(event).split("\n")
    assert first.endswith(": first")
    assert second == "    2020-01-01T00:00:00.000Z INFO forged: second"
    assert len(first) < 400
    assert first.encode().decode().isprintable()


def test_log_line_says_when_how_grave_and_who() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    data = {"level": "INFO", "logger": "kedro.runner", "message": "Completed node: train"}
    event = Event(id=1, time=moment, type="log", data=data)
    assert (
        log_line(event) == "2026-01-01T12:00:00.000Z INFO     kedro.runner: Completed node: train"
    )
