"""Server-Sent Events: what happens in a run, as it happens.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator

from flask import Request, Response

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.errors import ServerBusyError, TryAgainError, UnknownRunError
from kedro_flask_server.model.event import Event, EventPage, EventType
from kedro_flask_server.web.clients import has_finished, is_gone
from kedro_flask_server.web.schemas.responses import EventSchema

EVENT_STREAM = "text/event-stream"

_RECONNECT_AFTER_MS = 1_000

# How often it looks whether the client is there, where the server can tell.
_LOOK_EVERY_S = 0.4


class EventStreams:
    """The streams of a server: bounded in number and in time.

    Each holds a thread of the WSGI server, which has as many more than other requests need.
    """

    def __init__(
        self,
        *,
        limit: int,
        setting: str = "max_streams",
        longest_s: float = 600,
        heartbeat_s: float = 15,
    ) -> None:
        """Prepare.

        Args:
            limit: How many streams there may be at a time.
            setting: The name of the setting that says so.
            longest_s: After how many seconds a stream ends; its client opens the next.
            heartbeat_s: After how many seconds of silence a comment is sent.
        """
        self._limit = limit
        self._setting = setting
        self._slots = threading.Semaphore(limit)
        self._longest_s = longest_s
        self._heartbeat_s = heartbeat_s
        self._schema = EventSchema()

    def open(
        self,
        request: Request,
        runs: AuthorizedRuns,
        run_id: str,
        *,
        after: int,
        kind: EventType | None = None,
        dump: Callable[[list[Event]], str] | None = None,
        pause_s: float = 0,
    ) -> Response:
        """Return the answer that is a run's events, from one on until the run ends.

        Args:
            request: The request.
            runs: Has the run.
            run_id: The run.
            after: The id of the last event that the client has.
            kind: Events of this type; None for all.
            dump: Returns what is sent of some events; None sends each as a message of its own.
            pause_s: How many seconds to gather events before they are sent.

        Returns:
            The stream; 204 where the run has ended and the client has all, which tells it not
            to ask again.

        Raises:
            ServerBusyError: If there are as many streams as there may be.
            UnknownRunError: If there is no such run.
            StoreUnavailableError: If the store cannot be reached.
        """
        if not self._slots.acquire(blocking=False):
            raise ServerBusyError("events", limit=self._limit, setting=self._setting)
        try:
            first = runs.events(run_id, after=after, kind=kind)
        except BaseException:
            self._slots.release()
            raise
        client = (is_gone(request), has_finished(request))
        followed = self._follow(
            runs,
            run_id,
            first,
            kind=kind,
            client=client,
            dump=dump or self._dump_all,
            pause_s=pause_s,
        )
        response = Response(followed, mimetype=EVENT_STREAM)
        # A stream may never begin, and an answer may be thrown away without being closed.
        response.call_on_close(weakref.finalize(response, self._slots.release))
        if first.next is None and not first.events:
            response.status_code = 204
        if response.status_code == 204 or request.method == "HEAD":
            response.response = []
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it back
        return response

    def _follow(
        self,
        runs: AuthorizedRuns,
        run_id: str,
        page: EventPage,
        *,
        kind: EventType | None,
        client: tuple[Callable[[], bool], Callable[[], bool]],
        dump: Callable[[list[Event]], str],
        pause_s: float,
    ) -> Iterator[str]:
        is_gone, has_finished = client
        began = spoke = time.monotonic()
        yield f"retry: {_RECONNECT_AFTER_MS}\n\n"
        while True:
            if page.events:
                yield dump(page.events)
                spoke = time.monotonic()
            if page.next is None:
                return
            now = time.monotonic()
            if now - began >= self._longest_s or is_gone():
                return
            # Whether a client that sends no more is gone shows when something is sent to it.
            if now - spoke >= self._heartbeat_s or has_finished():
                yield ":\n\n"
                spoke = now
            if page.events and pause_s:
                time.sleep(pause_s)
            try:
                wait_s = min(_LOOK_EVERY_S, self._heartbeat_s)
                page = runs.events(run_id, after=page.next, kind=kind, wait_s=wait_s)
            except (TryAgainError, UnknownRunError):  # the client asks again, and is told
                return

    def _dump_all(self, events: list[Event]) -> str:
        return "".join(map(self._dump, events))

    def _dump(self, event: Event) -> str:
        # JSON in ASCII has no line ends, and nothing that a reader could take for one.
        return f"id: {event.id}\nevent: {event.type}\ndata: {self._schema.dumps(event)}\n\n"
