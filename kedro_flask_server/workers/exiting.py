"""How a worker process ends: as a program of Python's does, while it is known whose end it is."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import multiprocessing.util
import sys
import threading
import weakref
from contextlib import suppress
from typing import Any


def forget_inherited_exits() -> None:
    """Leave what the template is to do at its exit to the template.

    A folder that a module of the project has made for as long as the process lives is the
    template's, and every worker's. ``multiprocessing`` does the same in its children.
    """
    atexit._clear()
    multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
    for finalizer in [*weakref.finalize._registry]:  # type: ignore[attr-defined]
        finalizer.atexit = False
    for function in (
        logging.shutdown,
        weakref.finalize._exitfunc,  # type: ignore[attr-defined]
        multiprocessing.util._exit_function,  # type: ignore[attr-defined]
    ):
        atexit.register(function)


def end_as_python_does() -> None:
    """Wait for the threads that are no daemons, call what is to be called at the exit, and flush.

    Nothing public does it (https://docs.python.org/3/library/atexit.html).
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    base = io.IOBase.__mro__[1]  # of C: the look at each object is quick
    files: list[Any] = [each for each in gc.get_objects() if isinstance(each, base)]
    for file in [sys.stdout, sys.stderr, *files]:
        with suppress(Exception):  # closed, read only, detached, full, ...
            file.flush()
