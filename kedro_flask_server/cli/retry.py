"""The commands that compare and retry runs."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kedro_flask_server.cli.runs import (
    HELP,
    as_json_option,
    dump,
    importing_kedro,
    open_client,
    url_option,
    watch,
)
from kedro_flask_server.model.retry import FAILURE, FORCEABLE, STARTING_POINTS


@click.command(name="compare", context_settings=HELP)
@click.argument("run_id", metavar="A")
@click.argument("other_id", metavar="B")
@as_json_option
@url_option
def compare(url: str | None, run_id: str, other_id: str, as_json: bool) -> None:
    """Show what differs between two runs."""
    with open_client(url) as client:
        from kedro_flask_server.cli.display import show_differences

        found = client.compare(run_id, other_id)
        if as_json:
            click.echo(json.dumps(found))
        else:
            show_differences(found)


@click.command(name="retry", context_settings=HELP)
@click.argument("run_id", metavar="RUN")
@click.option(
    "--from",
    "start",
    type=click.Choice(STARTING_POINTS),
    default=FAILURE,
    show_default=True,
    help="What had not finished, or all of it.",
)
@click.option("--params", default="", help="Runtime parameters, as for kedro run --params.")
@click.option(
    "--force",
    multiple=True,
    type=click.Choice([*FORCEABLE]),
    help="A reason that does not count; given again, several.",
)
@click.option("--plan", "is_plan", is_flag=True, help="Show what would run, and start nothing.")
@click.option("--follow", is_flag=True, help="Show the run's log, too, while it executes.")
@click.option("--detach", is_flag=True, help="Print the run's id, and do not wait for its end.")
@as_json_option
@url_option
def retry(
    *,
    url: str | None,
    run_id: str,
    start: str,
    params: str,
    force: tuple[str, ...],
    is_plan: bool,
    follow: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Retry a run from where it failed.

    Ends as `kedro server run` does.
    """
    given = _params_of(params)
    with open_client(url) as client:
        from kedro_flask_server.cli.display import show_plan

        if is_plan:
            plan = client.retry_plan(run_id, start=start)
            if as_json:
                click.echo(json.dumps(plan))
            else:
                show_plan(plan)
            return
        submitted = client.retry(run_id, start=start, params=given, force=force)
        if detach:
            click.echo(dump(submitted) if as_json else submitted.run_id)
            return
        sys.exit(watch(client, submitted, has_logs=follow, as_json=as_json))


def _params_of(text: str) -> dict[str, Any]:
    """Return runtime parameters from the form of ``kedro run --params``."""
    with importing_kedro():
        from kedro.framework.cli.utils import _split_params
    found: dict[str, Any] = _split_params(click.get_current_context(), None, text)
    return found
