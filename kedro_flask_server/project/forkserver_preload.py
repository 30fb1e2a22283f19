"""Opens the project on import, for the process that starts ``ParallelRunner``'s.

That process (``multiprocessing``'s forkserver) has one thread of Python and runs nothing, so
its children may be forked; with the project imported once, each of them starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

import kedro.framework.cli  # noqa: F401  each child imports the program that started the server
from kedro.framework import project
from kedro.framework.startup import bootstrap_project

from kedro_flask_server.logs import draw_for_terminals_only, make_records_safe
from kedro_flask_server.project import kedro_patches
from kedro_flask_server.project.failures import safe
from kedro_flask_server.project.runner import LOG_FORMAT, PRELOADED_PROJECT

make_records_safe(safe)
draw_for_terminals_only(os.environ.get(LOG_FORMAT, "auto"))

_PR_SET_PDEATHSIG = 1
_THIS_PROCESS = os.getpid()


def _end_with_parent() -> None:
    """Have the kernel end this child when its parent does.

    The signal comes when the thread ends that forked (prctl(2)): here, the parent's only one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _THIS_PROCESS:  # it has ended already
        os._exit(1)


def _end_with_server() -> None:
    """Have a child end this process, and with it all that it forks, when the server ends.

    A run whose server was killed is recorded as lost, and nothing of it may go on writing. By
    itself this process ends only after all that it has forked, and the thread of the server that
    started it may end before the server does.
    """
    server = os.pidfd_open(os.getppid())
    if os.fork():
        os.close(server)
        return
    select.select([server], [], [])
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_end_with_parent)
    with contextlib.suppress(OSError):  # a kernel before 5.3
        _end_with_server()

# What fails here fails again, and is reported, in the run that needs it.
with contextlib.suppress(Exception):
    bootstrap_project(os.environ[PRELOADED_PROJECT])
    list(project.pipelines)

# Without the package's name, its children take the settings as they are.
kedro_patches.apply(kedro_patches.Stage.FORKSERVER)
