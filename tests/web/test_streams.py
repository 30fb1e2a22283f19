"""Streams of events: their form, their limits and their ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest
from flask import Flask, request

from kedro_flask_server.errors import ServerBusyError, StoreUnavailableError, UnknownRunError
from kedro_flask_server.model.event import Event, EventPage
from kedro_flask_server.web.streams import EventStreams

MOMENT = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class ScriptedRuns:
    """Gives out pages, or raises, as the test says; then the same empty page for ever."""

    def __init__(self, *answers: EventPage | Exception) -> None:
        self._answers: Iterator[EventPage | Exception] = iter(answers)
        self.asked: list[int] = []

    def events(self, run_id: str, *, after: int, **_: object) -> EventPage:
        self.asked.append(after)
        answer = next(self._answers, EventPage(events=[], next=after))
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(*numbers: int, ends: bool = False) -> EventPage:
    events = [
        Event(id=number, time=MOMENT, type="log", data={"message": "a\n\ud800\u2028b"})
        for number in numbers
    ]
    return EventPage(events=events, next=None if ends else numbers[-1])


@pytest.fixture
def follow() -> Callable[..., tuple[int, str]]:
    app = Flask(__name__)

    def follow(
        runs: ScriptedRuns, streams: EventStreams | None = None, after: int = 0, **environ: object
    ) -> tuple[int, str]:
        with app.test_request_context("/", environ_overrides=environ):
            opened = (streams or EventStreams(limit=1)).open
            response = opened(request, runs, "a-run", after=after)
            with response:
                return response.status_code, response.get_data(as_text=True)

    return follow


def test_stream_sends_each_event_once_and_ends_with_the_run(follow) -> None:
    runs = ScriptedRuns(page(1, 2), page(3), page(4, ends=True))
    status, text = follow(runs)
    assert status == 200
    hello, *blocks = text.removesuffix("\n\n").split("\n\n")
    assert hello == "retry: 1000"
    for number, block in enumerate(blocks, 1):
        identity, kind, data = block.split("\n")
        assert (identity, kind) == (f"id: {number}", "event: log")
        assert data.isascii()
        assert json.loads(data.removeprefix("data: ")) == {
            "id": number,
            "time": "2026-01-01T12:00:00.000Z",
            "type": "log",
            "data": {"message": "a\n\ud800\u2028b"},
        }
    assert len(blocks) == 4
    assert runs.asked == [0, 2, 3]


def test_client_that_has_all_is_told_not_to_ask_again(follow) -> None:
    runs = ScriptedRuns(EventPage(events=[], next=None))
    assert follow(runs, after=9) == (204, "")
    assert runs.asked == [9]


def test_stream_ends_in_time_and_is_never_silent_for_long(follow) -> None:
    streams = EventStreams(limit=1, longest_s=0.2, heartbeat_s=0.02)
    status, text = follow(ScriptedRuns(page(1)), streams)
    assert (status, text.count("id: ")) == (200, 1)
    assert text.endswith(":\n\n")
    assert 2 <= text.count("\n:\n") <= 10


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), UnknownRunError("a-run")])
def test_stream_ends_where_the_store_fails_and_what_was_sent_stands(follow, error) -> None:
    runs = ScriptedRuns(page(1), error)
    status, text = follow(runs)
    assert (status, text.count("id: ")) == (200, 1)


def test_stream_ends_when_its_client_is_gone(follow) -> None:
    runs = ScriptedRuns(page(1))
    gone = {"waitress.client_disconnected": lambda: True}
    follow(runs, **gone)
    assert runs.asked == [0]


def test_places_are_limited_and_free_again_after_each_end() -> None:
    app = Flask(__name__)
    streams = EventStreams(limit=2)
    runs = ScriptedRuns(page(1), page(1), UnknownRunError("a-run"), page(1, ends=True))
    with app.test_request_context("/"):
        first = streams.open(request, runs, "a-run", after=0)
        second = streams.open(request, runs, "a-run", after=0)
        with pytest.raises(ServerBusyError, match="max_streams"):
            streams.open(request, runs, "a-run", after=0)
        first.close()  # never begun
        with pytest.raises(UnknownRunError):
            streams.open(request, runs, "a-run", after=0)
        third = streams.open(request, runs, "a-run", after=0)
        with pytest.raises(ServerBusyError):
            streams.open(request, runs, "a-run", after=0)
        second.close()
        third.close()


def test_place_of_an_answer_that_is_thrown_away_is_free_again() -> None:
    app = Flask(__name__)
    streams = EventStreams(limit=1)
    runs = ScriptedRuns(*[page(1)] * 9)
    with app.test_request_context("/"):
        for _ in range(3):
            streams.open(request, runs, "a-run", after=0)
        twice = streams.open(request, runs, "a-run", after=0)
        twice.close()
        twice.close()
        third = streams.open(request, runs, "a-run", after=0)
        with pytest.raises(ServerBusyError):
            streams.open(request, runs, "a-run", after=0)
        third.close()


def test_head_says_what_get_would_without_a_stream() -> None:
    app = Flask(__name__)
    runs = ScriptedRuns(page(1))
    with app.test_request_context("/", method="HEAD"):
        response = EventStreams(limit=1).open(request, runs, "a-run", after=0)
        assert (response.status_code, response.mimetype) == (200, "text/event-stream")
        assert response.get_data() == b""
