"""A thread that works as long as the server does."""

from __future__ import annotations

import threading

from kedro_flask_server.background_thread import BackgroundThread

LONG_S = 10.0


def test_thread_works_from_its_start_until_its_work_returns() -> None:
    began, may_end = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert may_end.wait(LONG_S)

    thread = BackgroundThread(work, name="kedro-probe")
    assert not thread.is_alive()
    thread.start()
    assert began.wait(LONG_S)
    assert thread.is_alive()
    may_end.set()
    thread.join()
    assert not thread.is_alive()


def test_thread_has_its_name_and_does_not_keep_the_process_alive() -> None:
    found: list[threading.Thread] = []
    thread = BackgroundThread(lambda: found.append(threading.current_thread()), name="kedro-probe")
    thread.start()
    thread.join()
    assert [(each.name, each.daemon) for each in found] == [("kedro-probe", True)]


def test_thread_that_was_not_started_is_joined_at_once() -> None:
    thread = BackgroundThread(lambda: None, name="kedro-probe")
    thread.join()
    assert not thread.is_alive()
