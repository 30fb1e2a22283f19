"""What a worker tells comes whole and in order, waits for no timer, and outlives a crash."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.report import at_work_on
from kedro_flask_server.model.stop import RunInterrupted
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.protocol import Message
from kedro_flask_server.workers.report import PipeReport, ReportReader, open_report_pipe

TOLD = 200
LONG_S = 30


class Pipe:
    """Both ends of a pipe, and what is read whenever a writer asks for it, and at no other time."""

    def __init__(self, on_wake: Callable[[], None] | None = None) -> None:
        self.reader: ReportReader
        self.reader, self.descriptor = open_report_pipe()
        # As the channel to the server, it reaches it from forked processes, too.
        self.waiting, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        self.on_wake = on_wake
        self.report = PipeReport(self.descriptor, self.wake)
        self.report.begin(max_log_bytes=10_000_000)

    def wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._waking, b".")
        if self.on_wake is not None:
            self.on_wake()

    def read_when_woken(self, messages: int) -> list[Message]:
        found: list[Message] = []
        while len(found) < messages:
            assert select.select([self.waiting], [], [], LONG_S)[0], "nobody has woken the server"
            os.read(self.waiting, 1 << 16)
            found += self.reader.read()
        return found

    def close(self) -> None:
        self.reader.close()
        for descriptor in (self.descriptor, self.waiting, self._waking):
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    both = Pipe()
    yield both
    both.close()


def test_threads_and_forked_processes_tell_whole_messages_and_wait_for_no_timer(
    pipe: Pipe,
) -> None:
    def tell(name: str) -> None:
        for number in range(TOLD):
            for size in (10, 20_000):  # of which the second is told in parts
                data = {"node": name, "text": "x" * size, "n": number}
                pipe.report.emit(EventType.NODE_STARTED, data)
        pipe.wake()

    children = []
    for name in ("first", "second"):
        pid = os.fork()
        if pid == 0:
            tell(name)
            os._exit(0)
        children.append(pid)
    threads = [threading.Thread(target=tell, args=(name,)) for name in ("third", "fourth")]
    for thread in threads:
        thread.start()
    found = pipe.read_when_woken(4 * 2 * TOLD)
    for thread in threads:
        thread.join()
    for pid in children:
        os.waitpid(pid, 0)
    for name in ("first", "second", "third", "fourth"):
        own = [body["data"] for _, body in found if body["data"]["node"] == name]
        assert [data["n"] for data in own] == [n for n in range(TOLD) for _ in range(2)]
        assert {len(data["text"]) for data in own} == {10, 20_000}


def test_what_was_told_is_there_after_a_crash(pipe: Pipe) -> None:
    pid = os.fork()
    if pid == 0:
        for number in range(TOLD):
            pipe.report.log("INFO", "probe", str(number))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [body["messages"][0] for _, body in pipe.reader.read()] == [*map(str, range(TOLD))]


def test_what_is_no_message_is_left_out(pipe: Pipe) -> None:
    for garbage in (
        b"\xff\xfe\n",
        b"+\n",
        b"+1.1 1 [\n",
        b"+1.2 0 {}\n",
        b"+1.3 0\n",
        b'["a"]\n',
        b'["cut o',
    ):
        os.write(pipe.descriptor, garbage)
    pipe.report.send("outcome", {"text": "x" * 10_000})
    assert pipe.reader.read() == [("outcome", {"text": "x" * 10_000})]
    os.write(pipe.descriptor, b"x" * 50_000)
    assert pipe.reader.read() == []
    pipe.report.expect(3)
    assert pipe.reader.read() == [("expect", {"nodes": 3})]


def test_report_does_not_mind_that_the_server_is_gone(pipe: Pipe) -> None:
    pipe.reader.close()
    for size in (1, 10_000):
        pipe.report.log("INFO", "probe", "x" * size)


def test_server_that_goes_away_keeps_nobody_waiting_for_room(pipe: Pipe) -> None:
    fill(pipe)
    pipe.on_wake = pipe.reader.close
    pipe.report.log("INFO", "probe", "nobody reads")


def test_sigterm_waits_until_a_message_is_whole() -> None:
    before = signal.getsignal(signal.SIGTERM)
    pipe = Pipe()
    fill(pipe)
    filled = len(pipe.reader._received)
    found: list[Message] = []

    def on_wake() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pipe.on_wake = None
        found.extend(pipe.reader.read())

    try:
        interruption = pipe.report.stop = Interruption()
        pipe.on_wake = on_wake
        with interruption.enforced(), pytest.raises(RunInterrupted):
            pipe.report.emit(EventType.NODE_FINISHED, {"node": "a", "text": "x" * 10_000})
    finally:
        signal.signal(signal.SIGTERM, before)
    found += pipe.reader.read()
    pipe.close()
    assert filled == 0
    assert [body["type"] for kind, body in found if kind == "event"] == ["node.finished"]


def fill(pipe: Pipe) -> None:
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.descriptor, b"\n" * 1_000)


def test_log_beyond_its_bound_is_counted_and_not_told(pipe: Pipe) -> None:
    pipe.report.begin(max_log_bytes=200)
    for _ in range(100_000):
        pipe.report.log("INFO", "probe", "x" * 50)
    pipe.report.emit(EventType.NODE_FINISHED, {"node": "a"})
    pipe.report.report_dropped()
    found = pipe.reader.read()
    kinds = [kind for kind, _ in found]
    assert kinds[:3] == ["log", "log", "left_out"]
    assert kinds[-2:] == ["event", "left_out"]
    assert len(kinds) < 30  # now and then: a run may crash
    assert found[-1][1] == {"by": os.getpid(), "lines": 99_998, "bytes": 4_999_900}
    pipe.report.begin(max_log_bytes=200)
    pipe.report.report_dropped()
    assert pipe.reader.read() == []


def test_empty_lines_are_counted_too_and_not_each_told(pipe: Pipe) -> None:
    pipe.report.begin(max_log_bytes=0)
    for _ in range(1_000):
        pipe.report.log("INFO", "probe", "")
    pipe.report.report_dropped()
    first, last = pipe.reader.read()
    assert (first[1]["lines"], last[1]["lines"]) == (1, 1_000)


def test_forked_process_counts_for_itself_what_it_leaves_out(pipe: Pipe) -> None:
    pipe.report.begin(max_log_bytes=0)
    pipe.report.drop(5, 50)
    pid = os.fork()
    if pid == 0:
        pipe.report.drop(1, 10)
        os._exit(0)
    os.waitpid(pid, 0)
    assert [body for _, body in pipe.reader.read()] == [
        {"by": os.getpid(), "lines": 5, "bytes": 50},
        {"by": pid, "lines": 1, "bytes": 10},
    ]


def test_record_names_the_node_that_the_thread_is_at_work_on(pipe: Pipe) -> None:
    pipe.report.log("INFO", "probe", "before")
    with at_work_on("a"):
        pipe.report.log("INFO", "probe", "of a")
        pipe.report.log_output(["printed", "together"])
    assert [body["node"] for _, body in pipe.reader.read()] == [None, "a", "a"]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_what_is_held_back_comes_where_it_is_wanted(is_wanted: bool) -> None:
    pipe = Pipe()
    pipe.report.begin(max_log_bytes=1_000, is_held=True)
    pipe.report.expect(1)
    pipe.report.emit(EventType.NODE_STARTED, {"node": "a"})
    pipe.report.log("INFO", "probe", "hello")
    pipe.report.send("secrets", {"values": ["x"]})  # which cannot wait
    assert [kind for kind, _ in pipe.reader.read()] == ["secrets"]
    pipe.report.release(is_wanted=is_wanted)
    found = [kind for kind, _ in pipe.reader.read()]
    assert found == (["expect", "event", "log"] if is_wanted else [])
    pipe.report.emit(EventType.NODE_FINISHED, {"node": "a"})
    assert [kind for kind, _ in pipe.reader.read()] == ["event"]
