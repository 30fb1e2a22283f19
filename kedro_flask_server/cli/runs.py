"""The client commands: ``kedro server run`` and those for its runs."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedro_flask_server.cli.data import call_pipeline, split_files
from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY

if TYPE_CHECKING:
    from kedro_flask_server.cli.display import Display
    from kedro_flask_server.client import Client, Event, Run

# Exit codes; 2 is click's own, for wrong usage.
_EXIT_CODES = {"success": 0, "failure": 1, "cancelled": 3, "lost": 4}
_NOT_SERVED = 5
_BROKEN = 70  # EX_SOFTWARE of sysexits.h
_LEFT = 130  # like a shell after SIGINT
_NOT_READ = 141  # and after SIGPIPE

HELP = {"help_option_names": ["-h", "--help"]}

url_option = click.option(
    "--url",
    envvar="KEDRO_SERVER_URL",
    show_envvar=True,
    help="The server's address.  [default: http://127.0.0.1:8000]",
)
as_json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, for programs; with `python -m kedro_flask_server`, nothing else is printed.",
)


def label_option(meaning: str) -> Callable[[Any], Any]:
    """Return the option of labels, as a mapping in which None stands for a name alone."""

    def split(context: object, option: object, given: tuple[str, ...]) -> dict[str, str | None]:
        pairs = (each.partition("=") for each in given)
        return {name: value if has_value else None for name, has_value, value in pairs}

    return click.option("--label", "labels", multiple=True, callback=split, help=meaning)


class _NotServedError(click.ClickException):
    """Raised when the server does not answer, or refuses."""

    exit_code = _NOT_SERVED


@contextmanager
def open_client(url: str | None) -> Iterator[Client]:
    """Yield a client; errors do not exit with the code of a run's outcome."""
    try:
        from kedro_flask_server.client import Client, ClientError
    except ImportError as error:
        raise _NotServedError(
            f"This command needs {error.name}: pip install 'kedro-flask-server[client]'."
        ) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        client = Client(url)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        with client:
            yield client
    except ClientError as error:
        raise _NotServedError(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(_LEFT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_NOT_READ)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception:  # an unexpected error is not a failed run
        traceback.print_exc()
        sys.exit(_BROKEN)


@contextmanager
def importing_kedro() -> Iterator[None]:
    """Import Kedro without the lines that it logs to standard output then."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _RunCommand(click.Command):
    """A command with its own options and those of the installed Kedro's ``kedro run``."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        with importing_kedro():
            from kedro.framework.cli.project import run as kedro_run

        own = super().get_params(ctx)
        taken = {option for each in own for option in each.opts}
        return [each for each in kedro_run.params if not taken & set(each.opts)] + own

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except (click.UsageError, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # an error of Kedro is not a failed run
            message = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            raise click.UsageError(message, ctx) from error


# Settings of a server, the same for all its runs.
_FIXED = {"env": "--env", "conf_source": "--conf-source"}


def _request_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request from the options of ``kedro run``."""
    for name, option in _FIXED.items():
        if options.pop(name, None):
            raise click.UsageError(
                f"{option} is the server's, the same for all runs: kedro server start {option} …"
            )
    options.pop("config", None)  # the others are set by it
    pipeline, pipelines = options.pop("pipeline", None), options.pop("pipelines", None)
    if pipeline and pipelines:
        raise click.UsageError("--pipeline and --pipelines cannot be used together.")
    runner_params = dict(options.pop("runner_params", None) or {})
    is_async = bool(options.pop("is_async", False)) or bool(runner_params.pop("is_async", False))
    if runner_params:
        raise click.UsageError(
            f"--runner-params: a server takes is_async alone, and not {', '.join(runner_params)}."
        )
    request = {**options, "pipeline_names": [pipeline] if pipeline else pipelines}
    return {
        "is_async": is_async,
        **{name: value for name, value in request.items() if value not in (None, "", (), [], {})},
    }


@click.command(name="run", cls=_RunCommand, context_settings=HELP)
@click.option("--follow", is_flag=True, help="Show the run's log, too, while it executes.")
@click.option(
    "--priority",
    type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY),
    help="The highest is next; by default that of the pipelines.",
)
@label_option("A label of the run, name=value, or a name alone; given again, several.")
@click.option("--detach", is_flag=True, help="Print the run's id, and do not wait for its end.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    callback=split_files,
    help="Data for a dataset, DATASET=FILE; given again, for several.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    callback=split_files,
    help="Where to write a dataset that the run returns, DATASET=FILE.",
)
@click.option(
    "--no-save",
    is_flag=True,
    help="With --input or --output: write nothing to the project's files.",
)
@as_json_option
@url_option
def run(
    *,
    url: str | None,
    follow: bool,
    priority: int | None,
    labels: dict[str, str],
    detach: bool,
    inputs: dict[str, Path],
    outputs: dict[str, Path],
    no_save: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run pipelines on a server, and wait for the end.

    Takes the options of `kedro run`. Ends with 0 if the run succeeds, 1 if it fails, 3 if it is
    cancelled, 4 if it is lost, and 5 if the server does not answer or refuses.
    """
    if follow and detach:
        raise click.UsageError("--follow and --detach cannot be used together.")
    request = _request_of(options)
    has_data = bool(inputs or outputs)
    if no_save and not has_data:
        raise click.UsageError("--no-save is for runs with --input or --output.")
    if has_data and (follow or detach):
        raise click.UsageError("--input and --output cannot be used with --follow or --detach.")
    with open_client(url) as client:
        from kedro_flask_server.client import RunFailedError, RunRequest

        if has_data:
            try:
                called = call_pipeline(
                    client,
                    request,
                    inputs,
                    outputs,
                    save=False if no_save else None,
                    priority=priority,
                    labels=labels,
                )
            except RunFailedError as error:
                click.echo(str(error), err=True)
                sys.exit(_EXIT_CODES[error.run.status])
            click.echo(json.dumps(called) if as_json else called["run_id"])
            return
        try:
            asked = RunRequest(**request)
        except TypeError as error:
            raise click.UsageError(f"The server knows no such option: {error}") from error
        submitted = client.submit(asked, priority=priority, labels=labels)
        if detach:
            click.echo(dump(submitted) if as_json else submitted.run_id)
            return
        sys.exit(watch(client, submitted, has_logs=follow, as_json=as_json))


@click.command(name="runs", context_settings=HELP)
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(["queued", "running", *_EXIT_CODES]),
    help="Runs in this state; given again, in any of them.",
)
@click.option("--pipeline", "-p", help="Runs of this pipeline.")
@label_option("Runs with this label, name=value, or a name for any value; given again, with all.")
@click.option("--retried", is_flag=True, help="Runs that were retried, too.")
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many."
)
@as_json_option
@url_option
def runs(
    *,
    url: str | None,
    status: tuple[str, ...],
    pipeline: str | None,
    labels: dict[str, str | None],
    retried: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List a server's runs, the newest first."""
    with open_client(url) as client:
        from kedro_flask_server.cli.display import show_table
        from kedro_flask_server.client import RunStatus

        wanted = [RunStatus(each) for each in status]
        include = ("request", "traceback") if as_json else ()
        listed = client.list(
            status=wanted, pipeline=pipeline, labels=labels, retried=retried, include=include
        )
        found = list(islice(listed, limit))
        if as_json:
            click.echo(json.dumps([json.loads(dump(each)) for each in found]))
        else:
            show_table(found)


@click.command(name="show", context_settings=HELP)
@click.argument("run_id", metavar="RUN")
@as_json_option
@url_option
def show(url: str | None, run_id: str, as_json: bool) -> None:
    """Show a run: its status, its request, its error, and what it was made of."""
    with open_client(url) as client:
        from kedro_flask_server.cli.display import show_run

        found, provenance = client.get(run_id), client.provenance(run_id)
        if as_json:
            click.echo(json.dumps({**json.loads(dump(found)), "provenance": provenance}))
        else:
            show_run(found, provenance)


@click.command(name="logs", context_settings=HELP)
@click.argument("run_id", metavar="RUN")
@click.option("--follow", "-f", is_flag=True, help="Go on while the run executes, to its end.")
@as_json_option
@url_option
def logs(url: str | None, run_id: str, follow: bool, as_json: bool) -> None:
    """Print a run's log.

    With --follow, ends as `kedro server run` does.
    """
    with open_client(url) as client:
        from kedro_flask_server.model.event import log_line

        if not (follow or as_json):
            click.echo(client.log(run_id), nl=False)
            return
        show_event: Callable[[Event], str] = _dump_event if as_json else log_line
        found = client.follow(run_id, only_logs=True) if follow else client.events(run_id)
        for event in found:
            if event.type == "log":
                click.echo(show_event(event))
        if follow:
            sys.exit(_EXIT_CODES[client.get(run_id).status])


@click.command(name="cancel", context_settings=HELP)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--pipeline", "-p", help="All queued and running runs of this pipeline.")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(["queued", "running"]),
    help="All runs in this state.",
)
@as_json_option
@url_option
def cancel(
    url: str | None,
    run_id: str | None,
    pipeline: str | None,
    status: tuple[str, ...],
    as_json: bool,
) -> None:
    """Cancel a run, or all that match a filter.

    One that executes in a thread stops between two nodes. A filter means the caller's own runs, and
    with the scope admin all.
    """
    is_filter = pipeline is not None or bool(status)
    if (run_id is not None) == is_filter:
        raise click.UsageError("Give either RUN or a filter: --pipeline, --status.")
    with open_client(url) as client:
        if run_id is None:
            _cancel_all(client, pipeline, status, as_json=as_json)
            return
        cancelled = client.cancel(run_id)
        if as_json:
            click.echo(dump(cancelled))
        elif cancelled.status.is_final:
            click.echo(f"Run {run_id} is cancelled.")
        else:
            click.echo(f"Run {run_id} is being cancelled.")


def _cancel_all(
    client: Client, pipeline: str | None, status: tuple[str, ...], *, as_json: bool
) -> None:
    from kedro_flask_server.client import RunStatus

    run_ids = client.cancel_all(status=[RunStatus(each) for each in status], pipeline=pipeline)
    if as_json:
        click.echo(json.dumps({"run_ids": run_ids}))
        return
    for each in run_ids:
        click.echo(f"Run {each} is being cancelled.")
    click.echo(f"{len(run_ids)} runs match.")


def watch(client: Client, submitted: Run, *, has_logs: bool, as_json: bool) -> int:
    """Show a run until it has ended, and return the exit code."""
    from kedro_flask_server.cli.display import JsonDisplay, LineDisplay, TerminalDisplay

    run_id, after = submitted.run_id, 0
    display: Display
    if as_json:
        display = JsonDisplay(dump, _dump_event if has_logs else None)
    elif sys.stdout.isatty():
        display = TerminalDisplay(submitted, has_logs=has_logs)
    else:
        display = LineDisplay(has_logs=has_logs)
    with display:
        while True:
            try:
                for event in client.follow(run_id, after=after):
                    display.show_event(event)
                    after = event.id
                ended = client.wait(run_id)
                display.end(ended)
                if ended.status in ("failure", "lost") and not as_json:
                    click.echo(f"More of it: {_program()} show {run_id}", err=True)
                return _EXIT_CODES[ended.status]
            except KeyboardInterrupt:
                display.pause()
                if not _is_to_cancel():
                    click.echo(f"Run {run_id} goes on: {_program()} logs {run_id} -f", err=True)
                    return _LEFT
                _cancel_quietly(client, run_id)
                display.resume()


def _program() -> str:
    """Return how these commands are called here: ``kedro server``, or without a project."""
    parent = click.get_current_context().parent
    return "kedro server" if parent is None else parent.command_path


def _is_to_cancel() -> bool:
    """Ask the user who has pressed Ctrl-C, if there is a terminal."""
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("\nCancel the run?", default=False, err=True)
    except click.Abort:
        return False


def _cancel_quietly(client: Client, run_id: str) -> None:
    from kedro_flask_server.client import RequestRefusedError

    try:
        client.cancel(run_id)
    except RequestRefusedError as error:
        if error.status != 409:  # it has ended in the meantime
            raise


def dump(found: Run) -> str:
    """Return a run as JSON."""
    from kedro_flask_server.web.schemas.responses import RunSchema

    shown: str = RunSchema().dumps(found)
    return shown


def _dump_event(event: Event) -> str:
    from kedro_flask_server.web.schemas.responses import EventSchema

    shown: str = EventSchema().dumps(event)
    return shown
