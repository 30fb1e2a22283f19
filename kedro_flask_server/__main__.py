"""``python -m kedro_flask_server``: the commands that use a server, without a project.

They are those of ``kedro server``, but for ``start``. Kedro's own command opens the project that
you stand in, and logs a line to standard output, each time.
"""

from __future__ import annotations

import click

from kedro_flask_server.cli import CLIENT_COMMANDS


@click.group(name="python -m kedro_flask_server")
def main() -> None:
    """Use a Kedro server: send it runs, and see how they are."""


for command in CLIENT_COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name=main.name)
