"""Answers to ``/snapshot``: written once, and sent again for as long as they are true."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, jsonify, request

from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.web.schemas.responses import ErrorDetailSchema

_MAX_ANSWERS = 16


@dataclass(frozen=True, slots=True)
class _Answer:
    snapshot: Snapshot
    secrets_version: int
    body: bytes
    etag: str


class SnapshotAnswers:
    """Makes the answers, and keeps them for those who see the same of a snapshot."""

    def __init__(self) -> None:
        """Begin with none."""
        self._answers: BoundedCache[Any, _Answer] = BoundedCache(_MAX_ANSWERS)

    def of(self, runs: AuthorizedRuns, params: str | None) -> Response:
        """Answer a caller's request for a snapshot: all fields that ``kedro.inspection`` has.

        Args:
            runs: What the caller may see.
            params: Runtime parameters.

        Returns:
            The answer; with 304 and no body where the request says that its sender has it
            (RFC 9110, section 13.1.2).
        """
        snapshot = runs.snapshot(params)
        if isinstance(snapshot, ErrorDetail):
            return jsonify({"status": "failure", "error": ErrorDetailSchema().dump(snapshot)})
        answer = self._find(runs, params, snapshot)
        response = Response(answer.body, mimetype="application/json")
        response.set_etag(answer.etag)
        # Who may see it is looked up each time.
        response.headers["Cache-Control"] = "private, no-cache"
        return response.make_conditional(request)  # type: ignore[return-value]

    def _find(self, runs: AuthorizedRuns, params: str | None, snapshot: Snapshot) -> _Answer:
        key = (params, runs.caller.pipelines)
        answer = self._answers.get(key)
        # Before it is written: what becomes known meanwhile counts for the next.
        version = SECRETS.version
        if answer and answer.snapshot is snapshot and answer.secrets_version == version:
            return answer
        content = {"status": "success", **runs.describe(snapshot)}
        body = f"{current_app.json.dumps(content)}\n".encode()
        etag = hashlib.blake2b(body, digest_size=16).hexdigest()
        answer = _Answer(snapshot, version, body, etag)
        if snapshot.fingerprint is not None:
            self._answers.put(key, answer)
        return answer
