"""What a run was made of, and its nodes and datasets in brief."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from kedro_flask_server.model import provenance
from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.provenance import (
    DatasetUse,
    Provenance,
    Revision,
    RunSummary,
    checked_link,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def event(number: int, kind: EventType, **data: Any) -> Event:
    return Event(id=number, time=NOON, type=kind.value, data=data)


def test_provenance_is_loaded_as_it_was_dumped() -> None:
    whole = Provenance(
        versions={"kedro": "1.7"},
        revision=Revision(id="abc", branch="main", is_clean=False),
        machine="m",
        nodes=("a", "b"),
        parameters={"x": {"y": 1}},
        datasets={"d": DatasetUse(type="T", place="p", version="v", is_versioned=True)},
        links={"t": "https://x.example"},
        lacks=("parameters",),
    )
    assert Provenance.load(whole.dump()) == whole
    later = whole.dump() | {"more": 1}
    later["revision"]["more"] = later["datasets"]["d"]["more"] = 1
    assert Provenance.load(later) == whole


@pytest.mark.parametrize(
    "change",
    [{"nodes": None}, {"versions": []}, {"datasets": {"d": {}}}, {"links": 1}],
)
def test_what_is_no_provenance_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a provenance"):
        Provenance.load(Provenance().dump() | change)


def test_summary_has_the_last_state_of_each_node_and_dataset() -> None:
    events = [
        event(1, EventType.RUN_STARTED),
        event(2, EventType.NODE_STARTED, node="a"),
        event(3, EventType.DATASET_LOADED, dataset="x", node="a", size_bytes=3, etag="e", more=1),
        event(4, EventType.NODE_FINISHED, node="a", duration_ms=2.0),
        event(5, EventType.NODE_STARTED, node="b"),
        event(6, EventType.NODE_FAILED, node="b", duration_ms=1.0),
        event(7, EventType.NODE_STARTED, node="c"),
        event(8, EventType.LOG, message="node"),
    ]
    found = RunSummary.of(events)
    assert {name: node.state for name, node in found.nodes.items()} == {
        "a": "finished",
        "b": "failed",
        "c": "interrupted",
    }
    assert found.nodes["a"].started_at == "2026-01-01T12:00:00.000Z"
    assert found.datasets == {"x": {"loaded": {"size_bytes": 3, "etag": "e"}}}
    assert RunSummary.load(found.dump()) == found


def test_summary_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_MAX_NODES", 1)
    monkeypatch.setattr(provenance, "_MAX_DATASETS", 1)
    events = [event(at, EventType.NODE_STARTED, node=f"n{at}") for at in (1, 2)]
    events += [event(at, EventType.DATASET_SAVED, dataset=f"d{at}") for at in (3, 4)]
    summary = RunSummary()
    for each in events:
        summary.add(each)
    assert (len(summary.nodes), len(summary.datasets), summary.is_whole) == (1, 1, False)
    assert len(RunSummary.of(events).nodes) == 2


def test_link_is_one_of_http_without_a_password() -> None:
    title, url = checked_link("t" * 300 + "\n", "https://me:secret@x.example/a?b=c")
    assert len(title) < 250
    assert "secret" not in url
    assert url.endswith("@x.example/a?b=c")
    for wrong in ("javascript:alert(1)", "x", "https://", "https://a b", "https://" + "x" * 2000):
        with pytest.raises(ValueError, match="a link has"):
            checked_link("t", wrong)


def test_revision_may_be_unknown() -> None:
    assert Provenance.load(replace(Provenance(), machine=None).dump()).revision is None
