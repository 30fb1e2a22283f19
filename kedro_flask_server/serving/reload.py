"""Restarts a server in development when its project changes."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from watchfiles import Change, DefaultFilter, run_process
from watchfiles.main import FileChange

_CONFIGURATION_SUFFIXES = {".yml", ".yaml", ".json", ".toml"}


# A server ends after its runs; this is for one that does not.
_STOP_TIMEOUT_S = 120


def serve_with_reload(arguments: Sequence[str], *, source_dir: Path, configuration: Path) -> None:
    """Serve in a child process, restarted whenever the project changes.

    A server that cannot start, for example because of a syntax error, is started again at the next
    change.

    Args:
        arguments: The arguments of ``kedro`` that start the server.
        source_dir: The folder with the project's Python source.
        configuration: The configuration's folder or archive; not watched unless it exists locally.
    """
    # SIGINT stops the server, which would inherit that it is ignored if a shell started this
    # process in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_process(
        *(path for path in (source_dir, configuration) if path.exists()),
        target=shlex.join([sys.executable, "-m", "kedro", *arguments]),
        target_type="command",
        watch_filter=_ProjectFilter(configuration),
        callback=_report_changes,
        sigint_timeout=_STOP_TIMEOUT_S,
    )


def _report_changes(changes: set[FileChange]) -> None:
    paths = sorted(path for _, path in changes)
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    click.echo(f"Restarting: {paths[0]}{more} changed.", err=True)


class _ProjectFilter(DefaultFilter):
    """Passes Python source and configuration, and not the data that runs write."""

    def __init__(self, configuration: Path) -> None:
        self._configuration = configuration.resolve()
        super().__init__()

    def __call__(self, change: Change, path: str) -> bool:
        changed = Path(path)
        if changed == self._configuration:
            return True
        suffixes = {".py"}
        if changed.is_relative_to(self._configuration):
            suffixes = _CONFIGURATION_SUFFIXES | {".py"}
        return changed.suffix in suffixes and super().__call__(change, path)
