"""The ``kedro server`` commands.

Kedro imports this package for every command, ``kedro --help`` included: slow imports are deferred
to where they are needed.
"""

from __future__ import annotations

import click

from kedro_flask_server.cli.keys import audit, keys
from kedro_flask_server.cli.queue import pause, queue, resume
from kedro_flask_server.cli.reload import reload
from kedro_flask_server.cli.retry import compare, retry
from kedro_flask_server.cli.runs import cancel, logs, run, runs, show
from kedro_flask_server.cli.start import start

CLIENT_COMMANDS = (run, runs, show, logs, cancel, retry, compare, queue, pause, resume, reload)


@click.group(name="kedro")
def commands() -> None:
    """Group the commands for Kedro, which merges them into its own group of that name."""


# Kedro shows the help of groups from plugins; this one adds nothing.
commands.help = None


@commands.group(name="server")
def server() -> None:
    """Commands for running Kedro as a server, and for using one."""


for command in (start, keys, audit, *CLIENT_COMMANDS):
    server.add_command(command)
