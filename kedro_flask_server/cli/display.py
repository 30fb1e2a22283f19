"""Displays runs: in a terminal, as lines without one, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from kedro_flask_server.client import Event, Run, RunStatus, WaitingFor
from kedro_flask_server.model.event import EventType, log_line
from kedro_flask_server.text import bounded, rfc3339, visible

# Limit of names from others, in characters.
_MAX_WIDTH = 200

_COLOURS = {
    RunStatus.SUCCESS: "green",
    RunStatus.FAILURE: "red",
    RunStatus.LOST: "red",
    RunStatus.CANCELLED: "yellow",
}


class Display(Protocol):
    """Shows a run while it executes; used in a ``with`` statement."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show_event(self, event: Event) -> None:
        """Show an event."""

    def end(self, run: Run) -> None:
        """Show how the run has ended."""

    def pause(self) -> None:
        """Hide, to leave the terminal to a question."""

    def resume(self) -> None:
        """Show again after the question: the run is being cancelled."""


class LineDisplay:
    """Shows a line for each event, for logs of other programs."""

    def __init__(self, *, has_logs: bool) -> None:
        """Begin.

        Args:
            has_logs: Whether to show the run's log, too.
        """
        self._has_logs = has_logs

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show_event(self, event: Event) -> None:
        """Show an event."""
        text = log_line(event) if self._has_logs and event.type == EventType.LOG else _line(event)
        if text:
            click.echo(text)

    def end(self, run: Run) -> None:
        """Show how the run has ended."""
        click.echo(_outcome(run), err=run.status is not RunStatus.SUCCESS)

    def pause(self) -> None:
        """Do nothing: lines do not interfere."""

    def resume(self) -> None:
        """Do nothing."""


class JsonDisplay(LineDisplay):
    """Prints events as JSON, one a line, if requested; else the run once it has ended."""

    def __init__(
        self, dump_run: Callable[[Run], str], dump_event: Callable[[Event], str] | None
    ) -> None:
        """Begin.

        Args:
            dump_run: Returns a run as JSON.
            dump_event: Returns an event as JSON; None to print only the run.
        """
        super().__init__(has_logs=dump_event is not None)
        self._dump_run = dump_run
        self._dump_event = dump_event

    def show_event(self, event: Event) -> None:
        """Show an event."""
        if self._dump_event is not None:
            click.echo(self._dump_event(event))

    def end(self, run: Run) -> None:
        """Show how the run has ended."""
        if self._dump_event is None:
            click.echo(self._dump_run(run))


class TerminalDisplay:
    """Shows a progress bar with the nodes that execute."""

    def __init__(self, run: Run, *, has_logs: bool) -> None:
        """Begin.

        Args:
            run: The run.
            has_logs: Whether to show the run's log above the bar.
        """
        self._console = Console(highlight=False)
        self._progress = Progress(
            SpinnerColumn("dots" if self._console.encoding.startswith("utf") else "line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._has_logs = has_logs
        self._bar = self._progress.add_task(f"Run {run.run_id}: {run.status}", total=None)
        self._run_id = run.run_id
        self._note = ""
        self._nodes: dict[str, None] = {}

    def __enter__(self) -> TerminalDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show_event(self, event: Event) -> None:
        """Show an event."""
        if event.type == EventType.LOG:
            if self._has_logs:
                self._console.print(Text(log_line(event)))
            return
        node = _one_line(event.data.get("node", ""))
        if event.type == EventType.NODE_STARTED:
            self._nodes[node] = None
        elif event.type in (EventType.NODE_FINISHED, EventType.NODE_FAILED):
            self._nodes.pop(node, None)
        shown = ", ".join(self._nodes) or _STATES.get(event.type, "")
        if shown:
            text = f"Run {self._run_id}: {shown}{self._note}"
            self._progress.update(self._bar, description=text)
        if "total" in event.data:
            done, total = event.data["done"], event.data["total"]
            self._progress.update(self._bar, completed=done, total=total)

    def end(self, run: Run) -> None:
        """Show how the run has ended."""
        self._progress.stop()
        self._console.print(Text(_outcome(run), style=_COLOURS.get(run.status, "")))

    def pause(self) -> None:
        """Hide the bar while a question is asked."""
        self._progress.stop()

    def resume(self) -> None:
        """Show the bar again: the run is being cancelled."""
        self._note = " (being cancelled)"
        self._progress.start()


_STATES: dict[str, str] = {
    EventType.RUN_QUEUED: "queued",
    EventType.RUN_STARTED: "running",
}
_WORDS: dict[str, str] = {
    EventType.RUN_QUEUED: "queued",
    EventType.RUN_STARTED: "started",
    EventType.NODE_STARTED: "started",
    EventType.NODE_FINISHED: "finished",
    EventType.NODE_FAILED: "failed",
}


def show_table(found: Sequence[Run]) -> None:
    """Print runs, one a line.

    Args:
        found: The runs.
    """
    table = Table(box=None, pad_edge=False)
    for name in ("RUN", "STATUS", "PIPELINES", "NODES", "TOOK"):
        table.add_column(name, no_wrap=True)
    table.add_column("ERROR")  # shrinks first in a narrow terminal
    for run in found:
        table.add_row(
            run.run_id,
            Text(str(run.status), style=_COLOURS.get(run.status, "")),
            Text(_one_line(", ".join(run.request.pipelines))),
            _nodes(run),
            _took(run),
            Text(_error(run), no_wrap=True, overflow="ellipsis"),
        )
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console.width = 10_000  # a pipe has no width
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def show_run(run: Run, provenance: Mapping[str, Any] | None = None) -> None:
    """Print all details of a run.

    Args:
        run: The run.
        provenance: What it was made of, as the server tells it.
    """
    asked = json.dumps(run.request.given(), ensure_ascii=False)
    times = {
        "created": run.created_at,
        "started": run.started_at,
        "finished": run.finished_at,
        "cancel requested": run.cancel_requested_at,
    }
    shown_fields = {
        "run": run.run_id,
        "status": str(run.status),
        "position": str(run.position or ""),
        "priority": str(run.priority or ""),
        "waiting for": _waiting_for(run.waiting_for),
        "request": asked,
        "project": f"{run.project}, env {run.env}",
        **{name: rfc3339(moment) for name, moment in times.items() if moment},
        "took": _took(run),
        "nodes": _nodes(run),
        "submitted by": run.submitted_by or "",
        "labels": _labels(run),
        "retry of": run.retry_of or "",
        "retried by": run.retried_by or "",
    }
    if run.warnings:
        shown_fields["warnings"] = "\n".join(run.warnings)
    if run.error:
        shown_fields["node"] = run.error.node or ""
        shown_fields["error"] = f"{run.error.type}: {run.error.message}"
    _show_fields({**shown_fields, **_provenance_fields(provenance or {})})
    if run.error and run.error.traceback:
        click.echo(f"\n{visible(run.error.traceback)}")


def _show_fields(shown: Mapping[str, str]) -> None:
    for name, value in shown.items():
        if value:
            click.echo(f"{name + ':':<18}{visible(value)}".replace("\n", "\n    "))


def _provenance_fields(provenance: Mapping[str, Any]) -> dict[str, str]:
    if not provenance:
        return {}
    revision = provenance["revision"] or {}
    words = {True: "clean", False: "with changes", None: ""}
    code = [revision.get("id"), revision.get("branch"), words[revision.get("is_clean")]]
    versions = provenance["versions"].items()
    return {
        "versions": ", ".join(f"{name} {version}" for name, version in versions),
        "revision": " ".join(filter(None, code)),
        "machine": provenance["machine"] or "",
        "sent from": provenance["submitted_from"] or "",
        "parameters": json.dumps(provenance["parameters"], ensure_ascii=False),
        "datasets": "\n".join(
            _dataset_line(name, each) for name, each in provenance["datasets"].items()
        ),
        "nodes in order": "\n".join(map(_node_line, provenance["nodes"])),
        "links": "\n".join(f"{each['title']}: {each['url']}" for each in provenance["links"]),
        "kedro": provenance["kedro_command"] or "",
        "curl": provenance["curl_command"],
    }


def _dataset_line(name: str, dataset: Mapping[str, Any]) -> str:
    actions = [
        f"{action}{' version ' + version if (version := done.get('version')) else ''}"
        for action in ("loaded", "saved")
        if (done := dataset[action]) is not None
    ]
    place = f" {dataset['place']}" if dataset["place"] else ""
    return f"{name} ({dataset['type']}{place}): {', '.join(actions) or 'not used'}"


def _node_line(node: Mapping[str, Any]) -> str:
    took = "" if node["duration_ms"] is None else f" after {node['duration_ms']:,.0f} ms"
    return f"{node['name']}: {node['state'].replace('_', ' ')}{took}"


def show_differences(found: Mapping[str, Any]) -> None:
    """Print what differs between two runs.

    Args:
        found: What differs, as ``GET /runs/<a>/compare/<b>`` returns it.
    """
    a, b = found["a"], found["b"]
    click.echo(f"{a}  {b}")
    for section, differences in found.items():
        if isinstance(differences, dict) and differences:
            click.echo(f"{section}:")
            for name, each in differences.items():
                sides = (json.dumps(each.get(side), ensure_ascii=False) for side in ("a", "b"))
                click.echo("    " + _one_line(f"{name}: {' -> '.join(sides)}"))


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what a retry would run.

    Args:
        plan: The plan, as ``GET /runs/<id>/retry`` returns it.
    """
    for node in plan["nodes"]:
        how = "runs" if node["runs"] else "stays"
        click.echo(_one_line(f"{node['name']}: {how}: {node['reason']}"))
    for name, version in plan["load_versions"].items():
        click.echo(_one_line(f"{name} is loaded in the version {version}"))
    for name, change in plan["changed"].items():
        click.echo(_one_line(f"changed: {name}: {json.dumps(change, ensure_ascii=False)}"))
    for refusal in plan["refusals"]:
        click.echo(_one_line(f"{refusal['type']}: {refusal['msg']}"))


def show_served(pipeline: str, served: Mapping[str, Any]) -> None:
    """Print what is served of a pipeline.

    Args:
        pipeline: The pipeline.
        served: What is served, as ``POST /pipelines/<name>/reload`` returns it.
    """
    click.echo(visible(f"{pipeline}: generation {served['generation']}"))
    for name, version in served["versions"].items():
        click.echo(visible(f"  {name}: {version or 'as it is'}"))


def show_queue(state: Mapping[str, Any]) -> None:
    """Print the queue.

    Args:
        state: The queue, as ``GET /queue`` returns it.
    """
    paused = ["all pipelines"] if state["paused"] else []
    lines = {
        "paused": ", ".join([*paused, *state["paused_pipelines"]]),
        "running": str(state["running"]),
        "queued": str(state["queued"]),
        "waiting for": _counts(state["waiting"]),
        "concurrency": _counts(state["concurrency"]),
        "pools": ", ".join(
            f"{name} {pool['used']}/{pool['slots']}" for name, pool in state["pools"].items()
        ),
    }
    for name, value in lines.items():
        if value:
            click.echo(f"{name + ':':<18}{visible(value)}")
    for run in state["runs"]:
        waiting = run.get("waiting_for") or {}
        what = ", ".join(f"{name} {value}" for name, value in waiting.items())
        click.echo(_one_line(f"{run['run_id']} {', '.join(run['pipelines'])}: {what}"))


def _labels(run: Run) -> str:
    shown = (name if value == "true" else f"{name}={value}" for name, value in run.labels.items())
    return ", ".join(shown)


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _waiting_for(waiting: WaitingFor | None) -> str:
    if waiting is None:
        return ""
    names = {"pipeline": waiting.pipeline, "pool": waiting.pool, "dataset": waiting.dataset}
    names |= {"run": waiting.run_id, "until": waiting.until}
    details = [f"{name} {value}" for name, value in names.items() if value is not None]
    return ": ".join(filter(None, (str(waiting.reason), ", ".join(details))))


def _line(event: Event) -> str:
    """Return the line for an event; empty if it does not deserve one."""
    what = _WORDS.get(event.type)
    if what is None:
        return ""
    if "node" not in event.data:
        return f"{rfc3339(event.time)} run {what}"
    position = f"[{event.data['done']}/{event.data['total']}]"
    took = f" after {event.data['duration_ms']:,.0f} ms" if "duration_ms" in event.data else ""
    return f"{rfc3339(event.time)} {position} {_one_line(event.data['node'])} {what}{took}"


def _outcome(run: Run) -> str:
    took = f" after {_took(run)}" if run.duration_ms else ""
    if run.status is RunStatus.SUCCESS:
        return f"Run {run.run_id} succeeded{took}."
    if run.status is RunStatus.CANCELLED:
        return f"Run {run.run_id} is cancelled{took}."
    how = "failed" if run.status is RunStatus.FAILURE else f"is {run.status}"
    why = f": {run.error.type}: {run.error.message}" if run.error else ""
    where = f" (node {run.error.node})" if run.error and run.error.node else ""
    return visible(f"Run {run.run_id} {how}{took}{why}{where}").replace("\n", "\n    ")


def _error(run: Run) -> str:
    return _one_line(f"{run.error.type}: {run.error.message}") if run.error else ""


def _one_line(text: str) -> str:
    return " ".join(bounded(visible(text), _MAX_WIDTH).split())


def _took(run: Run) -> str:
    return "" if run.duration_ms is None else f"{run.duration_ms / 1000:,.2f} s"


def _nodes(run: Run) -> str:
    return "" if run.progress is None else f"{run.progress.done}/{run.progress.total}"
