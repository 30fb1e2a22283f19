"""What a run was made of, as it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kedro_flask_server.model.command_lines import curl_command, kedro_command
from kedro_flask_server.model.provenance import NOT_STARTED, RunRecord
from kedro_flask_server.model.run import Run
from kedro_flask_server.redaction import SECRETS, redact_urls
from kedro_flask_server.web.schemas.fields import plain_json


def shown_provenance(
    run: Run, record: RunRecord, *, url: str, conf_source: str | None
) -> dict[str, Any] | None:
    """Return what a run was made of, for `ProvenanceSchema`.

    Args:
        run: The run, as its caller may see it.
        record: What is stored beside it.
        url: The address of ``/run``.
        conf_source: The server's configuration source.

    Returns:
        The provenance; None where it is not known.
    """
    made_of = record.provenance
    if made_of is None:
        return None
    if conf_source is not None:
        conf_source = redact_urls(SECRETS.redact(conf_source))
    return {
        "versions": made_of.versions,
        "revision": made_of.revision,
        "machine": made_of.machine,
        "parameters": plain_json({**made_of.parameters}),
        "datasets": {
            name: {
                "type": use.type,
                "place": use.place,
                **_what_became_of(record, name, use.is_versioned, use.version, run.run_id),
            }
            for name, use in made_of.datasets.items()
        },
        "nodes": [*_nodes(record, made_of.nodes)],
        "links": [{"title": title, "url": each} for title, each in made_of.links.items()],
        "submitted_from": record.submitted_from,
        "kedro_command": kedro_command(run.request, env=run.env, conf_source=conf_source),
        "curl_command": curl_command(run.request, url),
        "is_whole": not made_of.lacks and record.summary.is_whole,
    }


def _nodes(record: RunRecord, expected: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    known = record.summary.nodes
    for name in dict.fromkeys([*known, *expected]):
        node = known.get(name)
        yield {
            "name": name,
            "state": NOT_STARTED if node is None else node.state,
            "started_at": None if node is None else node.started_at,
            "duration_ms": None if node is None else node.duration_ms,
        }


def _what_became_of(
    record: RunRecord, name: str, is_versioned: bool, version: str | None, run_id: str
) -> dict[str, Any]:
    found = record.summary.datasets.get(name, {})
    versions = {"loaded": version, "saved": run_id} if is_versioned else {}
    return {
        action: {**({"version": versions[action]} if versions else {}), **found[action]}
        if action in found
        else None
        for action in ("loaded", "saved")
    }
