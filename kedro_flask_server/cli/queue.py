"""``kedro server queue``, ``pause`` and ``resume``: what waits and why, and what is paused."""

from __future__ import annotations

import json
from typing import Any

import click

from kedro_flask_server.cli.runs import as_json_option, open_client, url_option

_pipeline_option = click.option(
    "--pipeline", "-p", help="The runs of this pipeline; by default all."
)


@click.command(name="queue")
@as_json_option
@url_option
def queue(url: str | None, as_json: bool) -> None:
    """Show what is queued on a server and what it waits for, and what is paused."""
    with open_client(url) as client:
        _show(client.queue(), as_json=as_json)


@click.command(name="pause")
@_pipeline_option
@as_json_option
@url_option
def pause(url: str | None, pipeline: str | None, as_json: bool) -> None:
    """Pause a server's queue: runs are taken in, and do not start."""
    with open_client(url) as client:
        _show(client.pause(pipeline), as_json=as_json)


@click.command(name="resume")
@_pipeline_option
@as_json_option
@url_option
def resume(url: str | None, pipeline: str | None, as_json: bool) -> None:
    """Resume what `kedro server pause` with the same option has paused."""
    with open_client(url) as client:
        _show(client.resume(pipeline), as_json=as_json)


def _show(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(state))
        return
    from kedro_flask_server.cli.display import show_queue

    show_queue(state)
