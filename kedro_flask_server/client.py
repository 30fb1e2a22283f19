"""A Python client: submits runs to a server, waits for them and follows them.

It needs the extra ``client``: ``pip install 'kedro-flask-server[client]'``.

    from kedro_flask_server.client import Client, RunRequest

    with Client("http://127.0.0.1:8000") as client:
        run = client.run(RunRequest(pipeline_names=["training"], params={"learning_rate": 0.1}))
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote

try:
    import httpx
    from httpx_sse import EventSource, SSEError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"The client needs {error.name}: pip install 'kedro-flask-server[client]'", name=error.name
    ) from None

from kedro_flask_server.model.event import Event
from kedro_flask_server.model.run import ErrorDetail, Progress, Run, RunRequest, RunStatus
from kedro_flask_server.text import bounded, rfc3339, visible

__all__ = [
    "Client",
    "ClientError",
    "ErrorDetail",
    "Event",
    "Progress",
    "RequestRefusedError",
    "Run",
    "RunFailedError",
    "RunRequest",
    "RunStatus",
    "ServerUnreachableError",
]

DEFAULT_URL = "http://127.0.0.1:8000"

# Transient errors: too many requests, a proxy without its server, a busy or stopping server.
_PASSING = (429, 502, 503, 504)

# How long each request asks the server to wait for a run's end.
_WAIT_S = 20

# A stream without data for three of the server's heartbeats is dead.
_SILENCE_S = 45.0

_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_RUNS_PAGE = 100
_EVENTS_PAGE = 1_000


class ClientError(Exception):
    """Base class of the client's errors."""


class ServerUnreachableError(ClientError):
    """Raised when no server responds, or it stays busy or stopping."""


class RequestRefusedError(ClientError):
    """Raised when the server refuses a request.

    Attributes:
        status: The HTTP status code.
        detail: The server's reason: a text, or a list of errors in the request.
    """

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(f"The server refuses the request ({status}): {_shown(detail)}")
        self.status = status
        self.detail = detail


class RunFailedError(ClientError):
    """Raised when a run that should succeed has ended otherwise.

    Attributes:
        run: The run, with its error.
    """

    def __init__(self, run: Run) -> None:
        why = f": {run.error.type}: {run.error.message}" if run.error else ""
        super().__init__(f"Run {run.run_id} ended as {run.status}{visible(why)}")
        self.run = run


class Client:
    """A connection to a server; close it, or use it in a ``with`` statement.

    Requests are retried while the server is away or busy, except those that it refuses. A run is
    submitted with an idempotency key of its own, so that it never runs twice. Every method may
    raise `ServerUnreachableError` and `RequestRefusedError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry_s: float = 60.0,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: The server's address; by default ``KEDRO_SERVER_URL``, then
                ``http://127.0.0.1:8000``.
            api_key: Sent as ``Authorization: Bearer``; by default ``KEDRO_SERVER_API_KEY``.
            timeout_s: How many seconds a response may take.
            retry_s: For how many seconds a request is retried; if no server listens, the first
                request is sent only once.

        Raises:
            ValueError: If the address is not valid, or the key cannot be one.
        """
        self.url = url or os.environ.get("KEDRO_SERVER_URL") or DEFAULT_URL
        key = api_key or os.environ.get("KEDRO_SERVER_API_KEY") or ""
        if not (key.isascii() and key.isprintable()):
            raise ValueError(
                "The API key has characters that no key has (argument api_key, "
                "KEDRO_SERVER_API_KEY)."
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=_checked_url(self.url), headers=headers, timeout=timeout_s
        )
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._has_answered = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(
        self,
        request: RunRequest | Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Run:
        """Submit a run and wait until it has succeeded.

        Args:
            request: What to run, as for `submit`.
            timeout_s: How many seconds to wait at most; None for no limit.

        Returns:
            The run.

        Raises:
            RunFailedError: If it has ended otherwise.
            TimeoutError: If it has not ended by then; it continues.
            TypeError: As for `submit`.
        """
        run = self.wait(self.submit(request).run_id, timeout_s=timeout_s)
        if run.status is not RunStatus.SUCCESS:
            raise RunFailedError(run)
        return run

    def submit(
        self,
        request: RunRequest | Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submit a run without waiting for it.

        Args:
            request: What to run, as a `RunRequest` or a mapping of its fields; by default the
                default pipeline.
            idempotency_key: The same key and request again return the same run; by default a new
                key.

        Returns:
            The run, which the server has stored.

        Raises:
            TypeError: If the request is neither, or has an unknown field.
        """
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key or uuid.uuid4().hex,
            "Prefer": "respond-async",
        }
        content = json.dumps(_request_of(request).given()).encode()
        answer = self._ask("POST", "/run", headers=headers, content=content)
        # A run with an earlier key may have ended: then the response is Kedro's.
        return _load_run(answer) if "created_at" in answer else self.get(str(answer.get("run_id")))

    def wait(self, run_id: str, *, timeout_s: float | None = None) -> Run:
        """Wait for a run's end, whatever its outcome.

        Args:
            run_id: The run.
            timeout_s: How many seconds to wait at most; None for no limit.

        Returns:
            The run, which has ended.

        Raises:
            TimeoutError: If it has not ended by then; it continues.
        """
        ends_at = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            asked_at = time.monotonic()
            wait_s = int(max(0.0, min(_WAIT_S, ends_at - asked_at)))
            run = self.get(run_id, wait_s=wait_s)
            if run.status.is_final:
                return run
            remaining_s = ends_at - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError(f"Run {run_id} has not ended within {timeout_s:g} s")
            if time.monotonic() - asked_at < wait_s / 2 or wait_s == 0:
                # The server had no free waiting slot.
                time.sleep(min(1.0, remaining_s))

    def get(self, run_id: str, *, wait_s: int = 0) -> Run:
        """Return a run.

        Args:
            run_id: The run.
            wait_s: How many seconds to wait for its end, if the server has a free waiting slot.
        """
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        answer = self._ask("GET", _path(run_id), headers=headers, timeout=self._timeout_s + wait_s)
        return _load_run(answer)

    def list(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] = (),
        pipeline: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        include: Iterable[str] = (),
    ) -> Iterator[Run]:
        """Return the server's runs, the newest first, fetching pages on demand.

        A list contains summaries: a run's request has the pipelines alone, only the first if there
        are many, and its error no traceback. `get` returns the whole run.

        Args:
            status: Runs in this state, or in any of these.
            pipeline: Runs of this pipeline.
            since: Runs admitted at this time or later.
            until: Runs admitted at this time or earlier.
            include: What to add to the summaries: ``request``, ``traceback``, or both.
        """
        statuses = [status] if isinstance(status, str) else status
        wanted: dict[str, Any] = {"status": [str(each) for each in statuses], "limit": _RUNS_PAGE}
        wanted |= {"pipeline": pipeline} if pipeline is not None else {}
        wanted |= {"since": rfc3339(since)} if since is not None else {}
        wanted |= {"until": rfc3339(until)} if until is not None else {}
        parts = [include] if isinstance(include, str) else include
        wanted |= {"include": ",".join(parts)} if parts else {}
        while True:
            page = self._ask("GET", "/runs", params=wanted)
            yield from map(_load_run, page.get("runs", ()))
            if page.get("next") in (None, wanted.get("cursor")):
                return
            wanted["cursor"] = page["next"]

    def cancel(self, run_id: str) -> Run:
        """Request the cancellation of a run.

        Returns:
            The run, which has ended or will.

        Raises:
            RequestRefusedError: With status 409, if it has ended otherwise.
        """
        return _load_run(self._ask("POST", _path(run_id, "cancel")))

    def events(self, run_id: str, *, after: int = 0) -> Iterator[Event]:
        """Return the events of a run so far.

        Args:
            run_id: The run.
            after: The id of the last known event.
        """
        while True:
            wanted = {"after": after, "limit": _EVENTS_PAGE}
            page = self._ask("GET", _path(run_id, "events"), params=wanted)
            yield from map(_load_event, page.get("events", ()))
            if page.get("next") in (None, after):
                return
            after = page["next"]

    def follow(self, run_id: str, *, after: int = 0, only_logs: bool = False) -> Iterator[Event]:
        """Return the events of a run, as they happen, until it has ended.

        A broken connection or a restarted server causes neither gaps nor repetitions.

        Args:
            run_id: The run.
            after: The id of the last known event.
            only_logs: Whether to return log records alone.
        """
        path = _path(run_id, "logs" if only_logs else "events")
        patience = _Patience(self._retry_s)
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            timeout = httpx.Timeout(self._timeout_s, read=_SILENCE_S)
            seen = after
            try:
                with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                    if self._passes(response):
                        raise _TryAgain(response)
                    if response.status_code == httpx.codes.NO_CONTENT:
                        return
                    patience = _Patience(self._retry_s)
                    for told in EventSource(response).iter_sse():
                        if not told.data:  # how long to wait before the next connection
                            continue
                        event = _load_event(json.loads(told.data))
                        after = event.id
                        yield event
            except (SSEError, httpx.DecodingError, ValueError) as error:
                raise _no_server(self.url) from error
            except (httpx.TransportError, _TryAgain) as error:
                patience.wait(error, has_answered=self._has_answered)
            else:
                if after == seen:  # so that a server which ends streams at once is not flooded
                    time.sleep(1.0)

    def log(self, run_id: str) -> str:
        """Return a run's log so far, a line for each record."""
        return self._send("GET", _path(run_id, "logs"), headers={"Accept": "text/plain"}).text

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._send(method, path, **options)
        try:
            answer = response.json()
        except ValueError as error:
            raise _no_server(self.url) from error
        if not isinstance(answer, dict):
            raise _no_server(self.url)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        patience = _Patience(self._retry_s)
        while True:
            try:
                response = self._http.request(method, path, **options)
                if self._passes(response):
                    raise _TryAgain(response)
                return response
            except httpx.DecodingError as error:
                raise _no_server(self.url) from error
            except (httpx.TransportError, _TryAgain) as error:
                patience.wait(error, has_answered=self._has_answered)

    def _passes(self, response: httpx.Response) -> bool:
        """Return whether the server asks to try again later.

        Raises:
            RequestRefusedError: If it refuses.
        """
        status = response.status_code
        if status in _PASSING or (status == httpx.codes.CONFLICT and _retry_after(response)):
            response.read()
            return True
        self._has_answered = True
        if response.is_success:
            return False
        response.read()
        detail: Any = bounded(response.text, 1_000)
        with suppress(ValueError, TypeError, KeyError):
            detail = response.json()["detail"]
        raise RequestRefusedError(status, detail)


class _TryAgain(Exception):  # noqa: N818  not an error
    """Raised when the server asks to try again."""

    def __init__(self, response: httpx.Response) -> None:
        text = bounded(response.text, 500)
        with suppress(ValueError, TypeError, KeyError):
            text = _shown(response.json()["detail"])
        super().__init__(f"it answers {response.status_code}: {text}")
        self.after_s = _retry_after(response)


class _Patience:
    """The retries of a request: their pauses and their limit."""

    def __init__(self, retry_s: float) -> None:
        self._ends_at = time.monotonic() + retry_s
        self._pause_s = _PAUSE_S

    def wait(self, fault: Exception, *, has_answered: bool) -> None:
        """Wait until the next retry.

        Raises:
            ServerUnreachableError: If the time for retries is over.
        """
        pause_s = self._pause_s
        if isinstance(fault, _TryAgain):
            pause_s = max(pause_s, min(fault.after_s, _LONGEST_PAUSE_S))
        is_over = time.monotonic() + pause_s > self._ends_at
        is_nobody_there = isinstance(fault, (httpx.ConnectError, httpx.ConnectTimeout))
        if is_over or (is_nobody_there and not has_answered):
            message = str(fault) or type(fault).__name__
            raise ServerUnreachableError(f"The server cannot be reached: {message}") from fault
        time.sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


def _request_of(given: RunRequest | Mapping[str, Any] | None) -> RunRequest:
    if isinstance(given, RunRequest):
        return given
    fault = f"A run is asked for by a RunRequest or a mapping of its fields, not by {given!r:.200}"
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(fault)
    try:
        return RunRequest(**(given or {}))
    except TypeError as error:
        known = ", ".join(each.name for each in fields(RunRequest))
        raise TypeError(f"{fault}: the fields are {known}") from error


def _path(run_id: str, *more: str) -> str:
    return "/".join(["/runs", quote(run_id, safe=""), *more])


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _checked_url(url: str) -> httpx.URL:
    fault = (
        f"The address of a server cannot be {url!r}: it takes a URL such as {DEFAULT_URL} "
        "(argument url, KEDRO_SERVER_URL)."
    )
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(fault) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(fault)
    return parsed


def _no_server(url: str) -> ClientError:
    return ClientError(f"What answers at {url} is no kedro-flask-server.")


def _shown(detail: Any) -> str:
    if not isinstance(detail, list):
        return visible(str(detail))
    problems = []
    for each in detail:
        if not isinstance(each, Mapping):
            return visible(str(detail))
        location = ".".join(str(step) for step in each.get("loc", ()))
        problems.append(f"{location}: {each.get('msg')}")
    return visible("; ".join(problems))


def _load_run(data: Mapping[str, Any]) -> Run:
    try:
        return Run(
            run_id=data["run_id"],
            project=data["project"],
            env=data["env"],
            status=RunStatus(data["status"]),
            request=_load_request(data),
            created_at=_load_time(data["created_at"]),
            started_at=data["started_at"] and _load_time(data["started_at"]),
            finished_at=data["finished_at"] and _load_time(data["finished_at"]),
            duration_ms=data["duration_ms"],
            cancel_requested_at=data["cancel_requested_at"]
            and _load_time(data["cancel_requested_at"]),
            progress=data["progress"] and Progress(**_known(Progress, data["progress"])),
            error=data["error"] and ErrorDetail(**_known(ErrorDetail, data["error"])),
            submitted_by=data["submitted_by"],
            position=data.get("position"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(f"The server's answer is no run that this client knows: {error!r}") from (
            error
        )


def _load_request(data: Mapping[str, Any]) -> RunRequest:
    if "request" not in data:  # a summary
        return RunRequest(pipeline_names=data["pipelines"])
    return RunRequest(**_known(RunRequest, data["request"]))


def _load_event(data: Mapping[str, Any]) -> Event:
    try:
        return Event(
            id=data["id"], time=_load_time(data["time"]), type=data["type"], data=data["data"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(f"The server's answer is no event: {error!r}") from error


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a class has: a newer server may send more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def _load_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
