"""What differs between two runs, or between a run and the project of today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kedro_flask_server.model.provenance import Provenance, RunRecord
from kedro_flask_server.model.run import Run

Differences = dict[str, dict[str, Any]]
"""By dotted names, the value of one and of the other; None where there is none."""


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str]
) -> Differences:
    """Return what differs between two mappings.

    Args:
        one: Values; those that are mappings are compared value by value.
        other: Others.
        names: What to call both.
    """
    first, second = dict(_leaves(one, "")), dict(_leaves(other, ""))
    return {
        path: {names[0]: first.get(path), names[1]: second.get(path)}
        for path in sorted({*first, *second})
        if first.get(path) != second.get(path)
    }


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def compare(
    one: tuple[Run, RunRecord],
    other: tuple[Run, RunRecord],
    *,
    outputs: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what differs between two runs: in ``code``, ``versions``, ``parameters`` and so on.

    Args:
        one: A run, and what is stored beside it.
        other: Another.
        outputs: The small JSON objects that they have made, such as metrics; None where they are
            not to be seen.
    """
    sides = [_sides(*one), _sides(*other)]
    found = {name: differences(sides[0][name], sides[1][name], ("a", "b")) for name in sides[0]}
    if outputs is not None:
        found["outputs"] = differences(*outputs, ("a", "b"))
    return {"a": one[0].run_id, "b": other[0].run_id, **found}


def _sides(run: Run, record: RunRecord) -> dict[str, dict[str, Any]]:
    made_of = record.provenance or Provenance()
    revision, nodes = made_of.revision, record.summary.nodes
    error = run.error
    return {
        "code": {}
        if revision is None
        else {"revision": revision.id, "branch": revision.branch, "is_clean": revision.is_clean},
        "versions": {**made_of.versions},
        "request": run.request.given(),
        "parameters": {**made_of.parameters},
        "datasets": {
            name: {"type": use.type, "place": use.place, **_versions(run, record, name)}
            for name, use in made_of.datasets.items()
        },
        "nodes": {
            name: {"state": node.state, "duration_ms": node.duration_ms}
            for name, node in nodes.items()
        },
        "ends": {
            "status": run.status.value,
            "duration_ms": run.duration_ms,
            "error": None if error is None else f"{error.type}: {error.message}",
            "machine": made_of.machine,
        },
    }


def _versions(run: Run, record: RunRecord, name: str) -> dict[str, Any]:
    """Return the version of a dataset that a run has loaded; that which it saved is its own."""
    assert record.provenance is not None  # noqa: S101  it has the dataset
    use, found = record.provenance.datasets[name], record.summary.datasets.get(name, {})
    if not use.is_versioned or "saved" in found or use.version == run.run_id:
        return {}
    return {"version": use.version}
