"""The programs of the template and of workers that are not forked."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.signals import reset_signals
from kedro_flask_server.workers.exit_functions import ExitFunctions
from kedro_flask_server.workers.killing import be_signalled_with_parent
from kedro_flask_server.workers.protocol import Channel, WorkerSettings


def _enter(project: str) -> None:
    """Make the project's folder the working directory, as for ``kedro run``.

    Relative paths in the environment keep the meaning that they have for the server.
    """
    if os.path.samefile(project, "."):  # noqa: PTH121  nothing to do or import
        return
    for name, separator in (("KEDRO_LOGGING_CONFIG", "\0"), ("PYTHONPATH", os.pathsep)):
        if value := os.environ.get(name):
            os.environ[name] = separator.join(map(os.path.abspath, value.split(separator)))
    os.chdir(project)
    os.environ["PWD"] = project


def _run_template(settings: WorkerSettings, control: int) -> None:
    # Service managers may send it to all processes of a service; the server decides.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    os.nice(settings.niceness)
    ExitFunctions.record()
    gc.disable()
    with _nothing_logged():
        from kedro_flask_server.workers.boot import boot_template

    try:
        template = boot_template(Channel.of(control), settings)
    except KeyboardInterrupt:  # OpenBLAS raises SIGINT where the system gives it no threads
        sys.exit(128 + signal.SIGINT)
    template.serve()


def _run_starter(settings: WorkerSettings, control: int) -> None:
    """Continue as a template from which no worker is forked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from kedro_flask_server.workers.template_process import TemplateProcess, become_subreaper

    become_subreaper()
    TemplateProcess(Channel.of(control), settings).serve()


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Suppress records that Kedro logs on import, which the server has logged already."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _run_worker(settings: WorkerSettings, channel: int, reports: int, output: int) -> None:
    with _nothing_logged():
        from kedro_flask_server.workers.boot import boot_worker

    boot_worker(Channel.of(channel), settings, reports=reports, output=output).work()


if __name__ == "__main__":
    program, parent, *descriptors = sys.argv[1:]
    sys.argv[1:] = []
    # A stopped template continues when its server ends, and ends all workers; a worker whose
    # template has ended is killed by the kernel.
    number = signal.SIGKILL if program == "worker" else signal.SIGCONT
    be_signalled_with_parent(int(parent), number)
    reset_signals()
    settings = WorkerSettings(**json.load(sys.stdin))
    sys.path[:] = settings.python_path
    _enter(settings.project_path)
    if program == "template":
        _run_template(settings, *map(int, descriptors))
    elif program == "starter":
        _run_starter(settings, *map(int, descriptors))
    else:
        _run_worker(settings, *map(int, descriptors))
