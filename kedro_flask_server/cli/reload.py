"""``kedro server reload``: what a served pipeline has loaded."""

from __future__ import annotations

import json
from typing import Any

import click

from kedro_flask_server.cli.runs import as_json_option, open_client, url_option


def _split_versions(context: object, option: object, given: tuple[str, ...]) -> dict[str, str]:
    """Return versions by their datasets, from texts ``DATASET=VERSION``.

    Raises:
        click.BadParameter: If a text is none.
    """
    versions = {}
    for each in given:
        dataset, _, version = each.partition("=")
        if not dataset or not version:
            raise click.BadParameter(f"{each!r} is not DATASET=VERSION.")
        versions[dataset] = version
    return versions


@click.command(name="reload")
@click.argument("pipeline")
@click.option(
    "--version",
    "-v",
    "versions",
    multiple=True,
    callback=_split_versions,
    metavar="DATASET=VERSION",
    help="Load this version; by default the newest.",
)
@as_json_option
@url_option
def reload(url: str | None, pipeline: str, versions: dict[str, str], as_json: bool) -> None:
    """Have a served pipeline load the newest data, or versions, on all servers."""
    with open_client(url) as client:
        served: dict[str, Any] = client.reload(pipeline, versions)
    if as_json:
        click.echo(json.dumps(served))
        return
    from kedro_flask_server.cli.display import show_served

    show_served(pipeline, served)
