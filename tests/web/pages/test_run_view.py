"""What the page of a run shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from kedro_flask_server.model.event import Event
from kedro_flask_server.model.provenance import NodeSummary, Provenance, RunRecord, RunSummary
from kedro_flask_server.model.run import Run, RunRequest, RunStatus
from kedro_flask_server.model.usual import UsualDurations
from kedro_flask_server.text import rfc3339
from kedro_flask_server.web.pages.run_view import RunView, own_frame

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)

RUN = Run(
    run_id="2026-01-01T00.00.00.000Z",
    project="p",
    env="local",
    status=RunStatus.RUNNING,
    request=RunRequest(pipeline_names=["training"]),
    created_at=BEGAN,
    started_at=BEGAN + timedelta(seconds=1),
)


def view(*nodes: str, **begun: NodeSummary) -> RunView:
    record = RunRecord(provenance=Provenance(nodes=nodes), summary=RunSummary(nodes=dict(begun)))
    return RunView(RUN, record, UsualDurations(runs=3, run_ms=100, nodes={"a": 10}))


def event(kind: str, node: str, **data: Any) -> Event:
    return Event(id=1, time=BEGAN, type=kind, data={"node": node, **data})


def test_nodes_that_have_not_begun_are_there() -> None:
    shown = view("a", "b", a=NodeSummary("interrupted"))
    assert [(each.name, each.state) for each in shown.nodes] == [("a", "running"), ("b", "waiting")]
    assert shown.current == ["a"]


def test_events_change_their_nodes_alone() -> None:
    shown = view("a", "b")
    assert [each.name for each in shown.add([event("node.started", "a")])] == ["a"]
    [row] = shown.add([event("node.finished", "a", duration_ms=21.0)])
    assert (row.state, row.duration_ms, row.usual_ms, row.is_slow) == ("success", 21.0, 10, True)
    assert shown.add([event("log", "a", message="x")]) == []
    [new] = shown.add([event("node.failed", "c", duration_ms=1.0)])
    assert (new.name, new.state, new.is_slow) == ("c", "failure", False)
    assert [each.name for each in shown.nodes] == ["a", "b", "c"]


def test_timeline_shows_what_the_run_waited_for_and_when_nodes_ran() -> None:
    at = rfc3339(BEGAN + timedelta(seconds=2))
    shown = view("a", "b", a=NodeSummary("finished", started_at=at, duration_ms=1_000.0))
    shown.run = replace(RUN, status=RunStatus.SUCCESS, finished_at=BEGAN + timedelta(seconds=4))
    line = shown.timeline()
    assert line is not None
    assert (line["waited_ms"], line["waited"], line["total_ms"]) == (1_000, 25, 4_000)
    [bar] = line["bars"]
    assert (bar.name, bar.x, bar.width) == ("a", 50, 25)
    assert [share for share, _ in line["ticks"]] == [25, 50, 75, 100]


def test_timeline_of_many_nodes_has_the_longest() -> None:
    nodes = {
        f"n{number}": NodeSummary("finished", rfc3339(RUN.created_at), float(number))
        for number in range(400)
    }
    line = view(**nodes).timeline()
    assert line is not None
    assert line["left_out"] == 100
    assert {bar.name for bar in line["bars"]} == {f"n{number}" for number in range(100, 400)}


def test_run_that_has_not_begun_has_no_timeline() -> None:
    shown = view("a")
    shown.run = replace(RUN, status=RunStatus.QUEUED, started_at=None)
    assert shown.timeline() is None


TRACEBACK = """Traceback (most recent call last):
  File "/srv/lib/python3.11/site-packages/kedro/pipeline/node.py", line 1, in run
    outputs = self._run()
  File "/home/me/project/src/mine/nodes.py", line 7, in split
    helper(rows)
    ~~~~~~^^^^^^
  File "/home/me/project/.venv/lib/python3.11/site-packages/pandas/core.py", line 9, in helper
    raise ValueError("x")
ValueError: x
"""


def test_own_frame_is_the_last_of_the_project() -> None:
    frame = own_frame(TRACEBACK, "/home/me/project/")
    assert frame is not None
    assert frame.splitlines() == [
        '  File "src/mine/nodes.py", line 7, in split',
        "    helper(rows)",
        "    ~~~~~~^^^^^^",
    ]
    # On another machine, the project lies elsewhere.
    elsewhere = own_frame(TRACEBACK, "/srv/app/")
    assert elsewhere is not None
    assert "/home/me/project/src/mine/nodes.py" in elsewhere
    assert own_frame(None, "/srv/app/") is None
