"""``kedro server start``."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from kedro_flask_server.model.executors import EXECUTORS, PROCESSES

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

    from kedro_flask_server.logs.console import Consoles

# How long to wait at the end for pending output.
_SETTLE_S = 1.0


@click.command(name="start", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", "-H", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", "-p", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]"
)
@click.option(
    "--reload",
    is_flag=True,
    help="Restart when the project's source or configuration changes. For development only.",
)
@click.option("--env", "-e", help="Kedro configuration environment of all runs.")
@click.option("--conf-source", help="Folder or archive with the project's configuration.")
@click.option(
    "--workers",
    type=int,
    help="How many runs execute at a time.  [default: 4, or the processors if fewer]",
)
@click.option(
    "--executor",
    type=click.Choice([each.name for each in EXECUTORS]),
    help="Where runs execute: each in a process of its own, or in threads of the server.  "
    "[default: processes; on Windows threads]",
)
@click.option(
    "--allow-anonymous",
    is_flag=True,
    default=None,
    help="Let all callers in, without a key.",
)
@click.option("--no-ui", "ui", flag_value=False, default=None, help="Have no pages at /ui.")
@click.pass_obj
def start(metadata: ProjectMetadata, /, reload: bool, **settings: Any) -> None:
    """Serve this project over HTTP.

    Runs pipelines on request; /docs describes the requests. Every option can be set in the
    environment, too (KEDRO_SERVER_PORT, ...), and in SERVER of the project's settings.py; all but
    --env and --conf-source in conf/<env>/server.yml.
    """
    from kedro_flask_server.errors import ServerSettingsError
    from kedro_flask_server.signals import reset_signals

    reset_signals()
    try:
        if reload:
            _serve_with_reload(metadata, settings)
        else:
            sys.exit(_serve_within_limits(metadata, settings))
    except ServerSettingsError as error:
        raise click.ClickException(str(error)) from error


def _serve_within_limits(metadata: ProjectMetadata, settings: dict[str, Any]) -> int:
    """Serve; if the system refuses another thread or process, end with a message."""
    try:
        return _serve(metadata, settings)
    except (BlockingIOError, RuntimeError) as error:
        # Python has no class of its own for that error.
        if not isinstance(error, BlockingIOError) and "start new thread" not in str(error):
            raise
        from kedro_flask_server.serving import CUT_OFF, end_process

        click.echo(
            f"Error: The system gives no more threads or processes ({error}). Allow this user more "
            "(ulimit -u; in a container its limit of pids), or have fewer workers, max_waiting "
            "and max_streams.",
            err=True,
        )
        end_process(CUT_OFF)  # whatever threads still run


def _serve(metadata: ProjectMetadata, settings: dict[str, Any]) -> int:
    gc.disable()  # until it serves: objects made meanwhile stay
    from kedro_flask_server import __version__
    from kedro_flask_server.bootstrap import open_project, start_template

    consoles = _take_over_output()
    opened = open_project(metadata.project_path, settings)
    # It imports the project while this process imports the server's modules.
    template = start_template(opened)

    from kedro_flask_server.app import build_app
    from kedro_flask_server.memory_limit import MemoryLimit
    from kedro_flask_server.serving import CUT_OFF, Server, end_process

    app = build_app(opened, template=template, owns_process=True)
    server = Server(app)
    parts = app.extensions["kedro_flask_server"]
    log_format = parts.config.log_format
    pages = f"Pages:         {server.url}/ui\n" if parts.config.ui else ""
    _say(
        log_format,
        f"kedro-flask-server {__version__}, Kedro {parts.project.kedro_version}\n"
        f"Project:       {parts.project.name} ({parts.project.path})\n"
        f"Environment:   {parts.config.env or 'the default of the project'}\n"
        f"Address:       {server.url}\n"
        f"{pages}API reference: {server.url}/docs\n"
        "Stop with Ctrl-C.",
    )
    if parts.config.executor == PROCESSES.name:
        warning = MemoryLimit.of_this_process().warning(
            workers=parts.config.workers,
            worker_memory_limit_mb=parts.config.worker_memory_limit_mb,
        )
        if warning:
            click.echo(f"Warning: {warning}.", err=True)
    sys.stdout.flush()
    code = server.serve_until_signalled()
    if code == CUT_OFF:
        _say(log_format, "Stopped; runs that had not ended were cut off.", is_fault=True)
    else:
        _say(log_format, "Stopped; all runs had ended.")
    if consoles is not None:
        consoles.settle(_SETTLE_S)
    if code == CUT_OFF:
        end_process(code)
    return code


def _take_over_output() -> Consoles | None:
    """Make output independent of its reader, where possible."""
    if os.name != "posix":
        return None
    from kedro_flask_server.logs import notice_of_dropped
    from kedro_flask_server.logs.console import Consoles

    consoles = Consoles(notice_of_dropped)
    consoles.take_over()
    return consoles


def _say(log_format: str, text: str, *, is_fault: bool = False) -> None:
    """Print a message for the user who has started the server; as JSON if the log is JSON."""
    if log_format == "json":
        import logging

        from kedro_flask_server.logs import json_line

        level = logging.WARNING if is_fault else logging.INFO
        record = logging.LogRecord(__name__, level, __file__, 0, text, None, None)
        text = json_line(record, text)
    click.echo(text, err=is_fault)


def _serve_with_reload(metadata: ProjectMetadata, settings: dict[str, Any]) -> None:
    from kedro_flask_server.project import watched_paths
    from kedro_flask_server.serving.reload import serve_with_reload

    click.echo("Restarting on changes (--reload): for development only.", err=True)
    options = [
        part
        for name, value in settings.items()
        if value is not None
        for part in _option(name, value)
    ]
    conf_source = settings["conf_source"] or os.environ.get("KEDRO_SERVER_CONF_SOURCE")
    source_dir, configuration = watched_paths(metadata, conf_source)
    serve_with_reload(
        ["server", "start", *options], source_dir=source_dir, configuration=configuration
    )


def _option(name: str, value: Any) -> list[str]:
    """Return a setting as an option of the command."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]
