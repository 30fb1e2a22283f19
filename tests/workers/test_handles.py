"""A worker and its template as the server sees them, and how long it bears with them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kedro_flask_server.workers.handles import (
    SuspensionAwareTimeout,
    TemplateHandle,
    WorkerHandle,
    how_it_ended,
)
from kedro_flask_server.workers.protocol import Channel
from tests.clocks import Clock

# Above every process id that there can be.
NO_PID = 2**22 + 1


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ({"code": 0}, "exit code 0."),
        ({"code": 70}, "exit code 70."),
        ({"code": -15}, "signal 15 (SIGTERM)."),
        ({"code": -9}, "signal 9 (SIGKILL), as the kernel does where memory runs out."),
        ({"code": -999}, "signal 999 (unknown)."),
        ({"reason": "it would not start."}, "it would not start."),
        ({"code": "0", "reason": None}, "how is not known."),
        ({}, "how is not known."),
    ],
)
def test_end_of_a_process_is_told_in_words(body: dict[str, Any], how: str) -> None:
    assert how_it_ended(body) == how


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_timeout_is_over_when_something_was_late_all_the_time(clock: Clock) -> None:
    timeout, found = SuspensionAwareTimeout(3, clock=clock), []
    for _ in range(8):
        clock.advance(0.5)
        found.append(timeout.is_over(True))
    assert found == [False] * 6 + [True, False]  # and then it begins anew


def test_timeout_begins_anew_when_something_was_in_time(clock: Clock) -> None:
    timeout = SuspensionAwareTimeout(3, clock=clock)
    for is_late in [True, True, True, False] * 5:
        clock.advance(0.9)
        assert timeout.is_over(is_late) is False


def test_time_in_which_this_process_was_paused_does_not_count(clock: Clock) -> None:
    timeout = SuspensionAwareTimeout(3, clock=clock)
    clock.advance(3_600)
    assert timeout.is_over(True) is False
    for _ in range(2):
        clock.advance(1)
        assert timeout.is_over(True) is False
    clock.advance(1)
    assert timeout.is_over(True) is True


class FakeProcess:
    """A process that is not there."""

    pid = NO_PID

    def wait(self, timeout: float | None = None) -> int:
        return 3


@pytest.fixture
def pair() -> Iterator[tuple[TemplateHandle, Channel]]:
    """Return a template and its end of the conversation."""
    ours, theirs = socket.socketpair()
    template = TemplateHandle(Channel(ours), FakeProcess(), "origin")  # type: ignore[arg-type]
    other = Channel(theirs)
    yield template, other
    template.control.close()
    other.close()


@pytest.fixture
def worker(pair: tuple[TemplateHandle, Channel]) -> Iterator[WorkerHandle]:
    made = pair[0].start_worker(7)
    yield made
    made.close()


def ends_of(channel: Channel) -> tuple[Channel, int]:
    """Return what the template has been given of a worker: its channel, and its output."""
    [(kind, body)] = channel.receive()
    assert (kind, body) == ("start", {"number": 7})
    ours, _, output = channel.descriptors
    return Channel.of(ours), output


def test_template_is_told_what_to_do(pair, worker: WorkerHandle) -> None:
    template, other = pair
    template.stop(worker, 2.5)
    template.renew_lease(None)
    template.read(["a"])
    template.retire()
    messages: list[Any] = []
    while len(messages) < 5:
        messages += other.receive()
    assert messages == [
        ("start", {"number": 7}),
        ("stop", {"number": 7, "grace_s": 2.5}),
        ("lease", {"seconds": None}),
        ("read", {"params": ["a"]}),
        ("retire", {}),
    ]


def test_template_that_is_gone_is_told_nothing_and_only_a_stop_says_so(
    pair, worker: WorkerHandle
) -> None:
    template, other = pair
    other.close()
    template.renew_lease(1)
    template.read([])
    template.retire()
    with pytest.raises(OSError, match=r"."):
        template.stop(worker, 1)


def test_end_of_a_template_is_its_exit_code(pair) -> None:
    assert pair[0].end() == 3


def test_template_that_is_not_there_is_not_stopped(pair) -> None:
    assert pair[0].is_stopped is False


def test_worker_is_heard_by_its_channel_and_its_output(pair, worker: WorkerHandle) -> None:
    channel, output = ends_of(pair[1])
    assert worker.wait(0) is False
    assert (worker.messages(), worker.read_output()) == ([], b"")
    os.write(output, b"hello")
    assert worker.wait(0) is True
    assert (worker.has_printed, worker.read_output()) == (True, b"hello")
    channel.send("ready", {"pid": 1})
    assert worker.wait(0) is True
    assert (worker.has_printed, worker.messages()) == (False, [("ready", {"pid": 1})])
    channel.close()


def test_worker_whose_output_has_ended_is_not_woken_for_it_again(
    pair, worker: WorkerHandle
) -> None:
    channel, _ = ends_of(pair[1])
    for descriptor in pair[1].descriptors[1:]:
        os.close(descriptor)
    pair[1].descriptors = []
    worker.has_arrived()
    assert worker.wait(0) is True
    assert worker.read_output() == b""
    assert worker.is_silent
    assert worker.wait(0) is False
    channel.close()


def test_worker_whose_channel_has_ended_says_so(pair, worker: WorkerHandle) -> None:
    channel, _ = ends_of(pair[1])
    worker.has_arrived()
    channel.close()
    with pytest.raises(EOFError):
        worker.messages()


def test_worker_has_ended_when_its_process_is_no_more(worker: WorkerHandle) -> None:
    assert worker.has_ended is False  # it has not said yet which one it is
    worker.pid = os.getpid()
    assert worker.has_ended is False
    worker.pid = NO_PID
    assert worker.has_ended is True


def test_close_of_a_worker_leaves_no_descriptor_open(pair, worker: WorkerHandle) -> None:
    descriptors = [*worker.in_flight, worker.output, worker.channel.fileno()]
    worker.close()
    worker.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
