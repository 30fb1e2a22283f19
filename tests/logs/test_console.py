"""The server's output, whoever reads it, or nobody."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedro_flask_server.logs.console import Console

LINE = b"x" * 99 + b"\n"


def read_all(descriptor: int) -> bytes:
    """Return what can be read now."""
    found = b""
    os.set_blocking(descriptor, False)
    try:
        while data := os.read(descriptor, 1 << 16):
            found += data
    except BlockingIOError:
        pass
    return found


@pytest.fixture(params=["pipe", "terminal", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Return the descriptor of a reader, and that of a writer."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    elif request.param == "terminal":
        reading, writing = os.openpty()
    else:
        reading, writing = (each.detach() for each in socket.socketpair())
    yield reading, writing
    os.close(reading)
    os.close(writing)


def console_on(descriptor: int) -> Console:
    return Console(descriptor, name="<test>", notice=lambda lines: f"{lines} dropped")


def test_lines_are_written_at_once_while_they_are_read(ends: tuple[int, int]) -> None:
    reading, writing = ends
    console = console_on(writing)
    for number in range(100):
        console.write(b"%d\n" % number)
        assert read_all(reading).split() == [b"%d" % number]


def test_writer_waits_for_no_reader_and_says_later_what_was_dropped(ends: tuple[int, int]) -> None:
    reading, writing = ends
    console = console_on(writing)
    began = time.monotonic()
    count = 40_000  # 4 MB
    for _ in range(count):
        assert console.write(LINE) == len(LINE)
    assert time.monotonic() - began < 20
    found = read_all(reading)
    while not console.write_kept():
        found += read_all(reading)
    found += read_all(reading)
    *lines, notice = found.replace(b"\r\n", b"\n").splitlines()
    assert {*lines} == {LINE.rstrip()}
    assert 10_000 < len(lines) < count
    assert notice == b"%d dropped" % (count - len(lines))
    console.write(b"more\n")
    assert read_all(reading).split() == [b"more"]


def test_who_shares_the_descriptor_finds_it_blocking(ends: tuple[int, int]) -> None:
    _, writing = ends
    console_on(writing).write(b"a line\n")
    assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK


def test_end_waits_for_a_slow_reader_but_for_none_for_ever(ends: tuple[int, int]) -> None:
    reading, writing = ends
    console = console_on(writing)
    for _ in range(5_000):
        console.write(LINE)
    began = time.monotonic()
    console.settle(0.1)
    assert time.monotonic() - began < 5
    assert read_all(reading)


def test_reader_that_is_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    console = console_on(writing)
    for _ in range(20_000):
        console.write(LINE)
    assert console.write_kept()
    os.close(writing)


def test_file_gets_all_of_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        console = console_on(file.fileno())
        for _ in range(20_000):
            console.write(LINE)
    assert (tmp_path / "log").read_bytes() == LINE * 20_000
