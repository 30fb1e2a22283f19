"""A Python client: submits runs to a server, waits for them and follows them.

It needs the extra ``client``: ``pip install 'kedro-flask-server[client]'``.

    from kedro_flask_server.client import Client, RunRequest

    with Client("http://127.0.0.1:8000") as client:
        run = client.run(RunRequest(pipeline_names=["training"], params={"learning_rate": 0.1}))
"""

from __future__ import annotations

import builtins
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timezone
from functools import cache, partial
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

from kedro_flask_server.client_data import Called, body_of, exact_form, frame_of, load
from kedro_flask_server.model.event import Event
from kedro_flask_server.model.media_types import JSON
from kedro_flask_server.model.queue import WaitingFor, WaitReason
from kedro_flask_server.model.run import ErrorDetail, Progress, Run, RunRequest, RunStatus
from kedro_flask_server.text import bounded, rfc3339, visible

__all__ = [
    "Called",
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
    "WaitReason",
    "WaitingFor",
]

DEFAULT_URL = "http://127.0.0.1:8000"

# Transient errors: too many requests, a proxy without its server, a busy or stopping server.
_PASSING = (429, 502, 503, 504)

# How long each request asks the server to wait for a run's end.
_WAIT_S = 20

# For how long the description of a pipeline counts as known to calls.
_KNOWN_FOR_S = 10.0

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
        # Parts are taken from this site's pages, or with a key.
        self._origin = str(self._http.base_url.copy_with(raw_path=b"/")).rstrip("/")
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._has_answered = False
        self._descriptions: dict[str, tuple[float, dict[str, Any]]] = {}

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
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Run:
        """Submit a run and wait until it has succeeded.

        Args:
            request: What to run, as for `submit`.
            priority: As for `submit`.
            labels: As for `submit`.
            timeout_s: How many seconds to wait at most; None for no limit.

        Returns:
            The run.

        Raises:
            RunFailedError: If it has ended otherwise.
            TimeoutError: If it has not ended by then; it continues.
            TypeError: As for `submit`.
        """
        submitted = self.submit(request, priority=priority, labels=labels)
        run = self.wait(submitted.run_id, timeout_s=timeout_s)
        if run.status is not RunStatus.SUCCESS:
            raise RunFailedError(run)
        return run

    def submit(
        self,
        request: RunRequest | Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submit a run without waiting for it.

        Args:
            request: What to run, as a `RunRequest` or a mapping of its fields; by default the
                default pipeline.
            priority: From -100 to 100, the highest is next; by default that of its pipelines.
            labels: Up to 16 labels, by their names.
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
        query = _submission_query(priority, labels)
        answer = self._ask("POST", "/run", headers=headers, content=content, params=query)
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
        labels: Mapping[str, str | None] | None = None,
        retried: bool = False,
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
            labels: Runs with all of these labels; None as a value stands for any.
            retried: Whether to list runs that were retried, too; otherwise the newest run of a
                chain of retries stands for it.
            since: Runs admitted at this time or later.
            until: Runs admitted at this time or earlier.
            include: What to add to the summaries: ``request``, ``traceback``, or both.
        """
        statuses = [status] if isinstance(status, str) else status
        wanted: dict[str, Any] = {"status": [str(each) for each in statuses], "limit": _RUNS_PAGE}
        wanted |= {"pipeline": pipeline} if pipeline is not None else {}
        wanted |= {"label": [*_label_texts(labels)], **({"retried": "true"} if retried else {})}
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

    def provenance(self, run_id: str) -> dict[str, Any] | None:
        """Return what a run was made of, as ``GET /runs/<id>?include=provenance`` does.

        Returns:
            Its provenance; None for a run that has not begun, or of an earlier version.
        """
        answer = self._ask("GET", _path(run_id), params={"include": "provenance"})
        found: dict[str, Any] | None = answer.get("provenance")
        return found

    def compare(self, one: str, other: str) -> dict[str, Any]:
        """Return what differs between two runs, as ``GET /runs/<a>/compare/<b>`` does."""
        return self._ask("GET", _path(one, "compare", quote(other, safe="")))

    def retry_plan(self, run_id: str, *, start: str = "failure") -> dict[str, Any]:
        """Return what a retry of a run would run and why, as ``GET /runs/<id>/retry`` does.

        Args:
            run_id: The run.
            start: ``failure``, what had not finished; or ``start``, all of it.
        """
        return self._ask("GET", _path(run_id, "retry"), params={"from": start})

    def retry(
        self,
        run_id: str,
        *,
        start: str = "failure",
        params: Mapping[str, Any] | None = None,
        force: Iterable[str] = (),
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Retry a run that has failed, without waiting for the new one.

        Args:
            run_id: The run.
            start: ``failure``, what had not finished; or ``start``, all of it.
            params: Runtime parameters beside those of the run, or instead of some.
            force: The types of refusals that do not count.
            priority: As for `submit`.
            labels: As for `submit`, beside those of the run.
            idempotency_key: As for `submit`.

        Returns:
            The new run, whose ``retry_of`` is the run.

        Raises:
            RequestRefusedError: With status 409 and a list of the reasons, if something stands in
                the way that is not forced.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        body = {"from": start, "params": dict(params or {}), "force": [*force]}
        query = _submission_query(priority, labels)
        path = _path(run_id, "retry")
        return _load_run(self._ask("POST", path, headers=headers, json=body, params=query))

    def pipeline(self, name: str) -> dict[str, Any]:
        """Return what data a pipeline takes and returns, as ``GET /pipelines/<name>`` does."""
        return self._ask("GET", f"/pipelines/{quote(name, safe='')}")

    def call(
        self,
        pipeline: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        outputs: Iterable[str] | None = None,
        save: bool | None = None,
        media_type: str | None = None,
        request: Mapping[str, Any] | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Called:
        """Run a pipeline on data, wait for the end, and return its outputs.

        Args:
            pipeline: The pipeline.
            inputs: The data, by dataset: a table of pandas, Polars or Arrow, the path of a file
                (`pathlib.Path`), bytes, or a value that JSON has.
            params: Runtime parameters.
            outputs: The datasets to return; by default those that no other node takes.
            save: Whether datasets are saved as the catalog says; otherwise what the run makes is
                passed on in memory. None: they are, unless the pipeline is served.
            media_type: The media type of the only output, which then is returned as bytes.
            request: Further fields of a `RunRequest`, such as ``tags``.
            priority: As for `submit`.
            labels: As for `submit`.
            idempotency_key: As for `submit`; with one, a served pipeline is run as any other.
            **more: Further inputs, by dataset.

        Returns:
            The outputs, and the id of the run.

        Raises:
            RunFailedError: If the run does not succeed.
            RequestRefusedError: With status 422 and a list, if the data is not what the pipeline
                takes; its run is in the history.
            TypeError: If data cannot be sent.
        """
        described = cache(partial(self._described, pipeline))
        given: dict[str, Any] = {**(request or {})}
        given |= {} if save is None else {"save": save}
        given |= {} if params is None else {"params": dict(params)}
        given |= {} if outputs is None else {"outputs": [*outputs]}
        body = body_of(given, {**(inputs or {}), **more}, described)
        wanted = given.get("outputs") or [*described()["outputs"]]
        accepted = media_type or exact_form(described(), wanted)
        headers = {
            "Prefer": "handling=lenient",
            "Origin": self._origin,
            "Accept": accepted,
            **body.pop("headers", {}),
        }
        if idempotency_key is not None or save or described().get("served") is None:
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
            headers["Prefer"] = f"respond-async, wait={_WAIT_S}, handling=lenient"
        response = self._send(
            "POST",
            f"/pipelines/{quote(pipeline, safe='')}/run",
            headers=headers,
            params=_submission_query(priority, labels),
            timeout=self._timeout_for(headers),
            **body,
        )
        if accepted != JSON and not _is_json(response):
            run_id, content = response.headers["Kedro-Run-Id"], response.content
            is_wanted_as_it_is = media_type is not None
            data = content if is_wanted_as_it_is else load(content, accepted, as_table=True)
            return Called(run_id=run_id, outputs={wanted[0]: data})
        answer = self._answer_in(response)
        if answer.get("status") == RunStatus.SUCCESS and "outputs" in answer:
            return self._called(answer)
        if "error" in answer and "Idempotency-Key" not in headers:  # it may not be recorded
            raise RunFailedError(_failed_call(pipeline, answer))
        run = self.wait(str(answer.get("run_id")))
        if run.error is not None and run.error.type == "InvalidInput" and run.error.problems:
            raise RequestRefusedError(422, run.error.problems)
        if run.status is not RunStatus.SUCCESS:
            raise RunFailedError(run)
        return Called(run_id=run.run_id, outputs=self.outputs(run.run_id))

    def _timeout_for(self, headers: Mapping[str, str]) -> httpx.Timeout:
        """Return how long to wait for a call: one without a key must not be sent twice."""
        if "Idempotency-Key" in headers:
            return httpx.Timeout(self._timeout_s + _WAIT_S)
        return httpx.Timeout(self._timeout_s, read=None)

    def _described(self, pipeline: str) -> dict[str, Any]:
        """Return the description of a pipeline, as it was a few seconds ago at the earliest."""
        at, found = self._descriptions.get(pipeline, (0.0, {}))
        if not found or time.monotonic() - at > _KNOWN_FOR_S:
            found = self.pipeline(pipeline)
            self._descriptions[pipeline] = (time.monotonic(), found)
        return found

    def _called(self, answer: dict[str, Any]) -> Called:
        found = {}
        for name, data in answer["outputs"].items():
            as_table = name in answer.get("tables", ())
            if isinstance(data, dict) and data.keys() == {"href", "media_type", "size"}:
                response = self._send("GET", data["href"])
                found[name] = load(response.content, data["media_type"], as_table=as_table)
            else:
                found[name] = frame_of(data) if as_table else data
        reasons = answer.get("not_returned", {})
        return Called(run_id=answer["run_id"], outputs=found, not_returned=reasons)

    def outputs(self, run_id: str) -> dict[str, Any]:
        """Return the data that a run has returned, by dataset, for as long as it is kept.

        Args:
            run_id: The run.

        Returns:
            Data frames of pandas, where it is installed, and values.
        """
        listed = self._ask("GET", _path(run_id, "outputs"))["outputs"]
        wanted = {name: each for name, each in listed.items() if each["is_returned"]}
        found = {}
        for name, each in wanted.items():
            if each["href"] is None:
                continue
            response = self._send("GET", each["href"])
            as_table = bool(each.get("is_table"))
            found[name] = load(response.content, each["media_type"], as_table=as_table)
        return found

    def reload(
        self, pipeline: str, load_versions: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Have a served pipeline load the newest data, or versions, on all servers.

        Args:
            pipeline: The pipeline.
            load_versions: The datasets, each with its version.

        Returns:
            What is served now.

        Raises:
            RequestRefusedError: With status 409, if that cannot be loaded; what was loaded before
                stays.
        """
        path = f"/pipelines/{quote(pipeline, safe='')}/reload"
        timeout = httpx.Timeout(self._timeout_s, read=None)  # until it is loaded
        wanted = {"load_versions": dict(load_versions or {})}
        return self._ask("POST", path, json=wanted, timeout=timeout)

    def delete_outputs(self, run_id: str) -> None:
        """Delete the data of a run: what its request gave, and what it has returned."""
        self._send("DELETE", _path(run_id, "outputs"))

    def cancel(self, run_id: str) -> Run:
        """Request the cancellation of a run.

        Returns:
            The run, which has ended or will.

        Raises:
            RequestRefusedError: With status 409, if it has ended otherwise.
        """
        return _load_run(self._ask("POST", _path(run_id, "cancel")))

    def cancel_all(
        self, *, status: RunStatus | Iterable[RunStatus] = (), pipeline: str | None = None
    ) -> builtins.list[str]:
        """Request the cancellation of runs: the caller's own, or with the scope ``admin`` all.

        Args:
            status: Runs in this state, or in any of these: queued, running; by default both, if a
                pipeline is given.
            pipeline: Runs of this pipeline.

        Returns:
            Their ids, the oldest first.

        Raises:
            RequestRefusedError: With status 422, if neither is given.
        """
        statuses = [status] if isinstance(status, str) else [*status]
        if pipeline is not None and not statuses:
            statuses = [RunStatus.QUEUED, RunStatus.RUNNING]
        wanted: dict[str, Any] = {"status": [str(each) for each in statuses]}
        wanted |= {"pipeline": pipeline} if pipeline is not None else {}
        found: builtins.list[str] = self._ask("POST", "/runs/cancel", params=wanted)["run_ids"]
        return found

    def queue(self) -> dict[str, Any]:
        """Return the queue, as ``GET /queue`` does."""
        return self._ask("GET", "/queue")

    def pause(self, pipeline: str | None = None) -> dict[str, Any]:
        """Pause the queue: runs are admitted, and do not start.

        Args:
            pipeline: Runs of this pipeline; None for all.

        Returns:
            The queue as it is now.
        """
        return self._ask("POST", "/queue/pause", json={"pipeline": pipeline})

    def resume(self, pipeline: str | None = None) -> dict[str, Any]:
        """Resume what `pause` has paused, with the same arguments."""
        return self._ask("POST", "/queue/resume", json={"pipeline": pipeline})

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
        return self._answer_in(self._send(method, path, **options))

    def _answer_in(self, response: httpx.Response) -> dict[str, Any]:
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


def _submission_query(priority: int | None, labels: Mapping[str, str] | None) -> dict[str, Any]:
    query: dict[str, Any] = {} if priority is None else {"priority": priority}
    return {**query, "label": [*_label_texts(labels)]}


def _label_texts(labels: Mapping[str, Any] | None) -> Iterator[str]:
    for name, value in (labels or {}).items():
        yield name if value is None else f"{name}={value}"


def _path(run_id: str, *more: str) -> str:
    return "/".join(["/runs", quote(run_id, safe=""), *more])


def _is_json(response: httpx.Response) -> bool:
    return bool(response.headers.get("Content-Type", "").partition(";")[0] == JSON)


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


def _failed_call(pipeline: str, answer: Mapping[str, Any]) -> Run:
    """Return a call of a served pipeline that failed as a run, which need not be recorded."""
    return Run(
        run_id=answer["run_id"],
        project="",
        env="",
        status=RunStatus.FAILURE,
        request=RunRequest(pipeline_names=[pipeline]),
        created_at=datetime.now(timezone.utc),
        duration_ms=answer["duration_ms"],
        error=ErrorDetail(**_known(ErrorDetail, answer["error"])),
    )


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
            priority=data.get("priority", 0),
            waiting_for=_load_waiting_for(data.get("waiting_for")),
            warnings=tuple(data.get("warnings", ())),
            labels=data.get("labels", {}),
            retry_of=data.get("retry_of"),
            retried_by=data.get("retried_by"),
            attempt=data.get("attempt", 1),
            # The server alone knows which.
            locks_digest="" if data.get("has_locks") else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(f"The server's answer is no run that this client knows: {error!r}") from (
            error
        )


def _load_waiting_for(data: Any) -> WaitingFor | None:
    if data is None or data.get("reason") not in {each.value for each in WaitReason}:
        return None  # of a later server
    return WaitingFor.load(data)


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
