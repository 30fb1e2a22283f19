"""How a worker process ends: as a program of Python's does, while it is known whose end it is.

An interpreter that is finalized visits all its objects. In a process that was forked, that copies
the memory of the template, which takes longer than most runs. So what can be seen of it is done
here to what the run has made, and to nothing else.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import io
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_FOLDER = str(Path(__file__).parents[1])

# So many objects are looked at, at most: to look at one may copy the page that it is on.
_MAX_LOOKS = 10_000

# How long destructors of libraries may take. The server expects the end within 3 s.
_LIBRARIES_TIMEOUT_S = 2.0

_CODE = (ModuleType, FunctionType, type)
_COLLECTIONS = (list, tuple, set, deque)


class ProgramEnd:
    """The end of a process that has executed a run."""

    def __init__(self, *, is_forked: bool, folder: Path) -> None:
        """Take down what there is before a run. To be called where the project was imported.

        Args:
            is_forked: Whether that is a template, and not the process of the run itself.
            folder: Where the project's modules are.
        """
        self._is_forked = is_forked
        self._folder = f"{folder}{os.sep}"
        self._modules = [
            (module, vars(module).copy() if is_forked else {})
            for name, module in [*sys.modules.items()]
            if name == "__main__" or self._is_own(module)
        ]
        # What is made by imports is the run's, too, where the imports are.
        self._made = [] if is_forked else _with_finalizer(gc.get_objects())

    def begin(self) -> None:
        """Begin the run: what there is by now belongs to the worker, and goes without a word."""
        gc.freeze()

    def reach(self, imported: Iterable[str]) -> None:
        """Do what Python does at the end of a program, but for ending.

        Whatever the project's code raises in it is printed, as Python does.

        Args:
            imported: The modules that the run has imported, the last one first.
        """
        _try(threading._shutdown)  # type: ignore[attr-defined]
        _try(atexit._run_exitfuncs)
        _try(self._finalize)
        _try(self._release, [*imported])
        # A collection of all generations gives memory back, which takes longer than most of this.
        _try(gc.collect, 2 if gc.get_objects(2) else 1)
        for file in (sys.stdout, sys.stderr):
            with suppress(Exception):  # closed, detached, replaced by what is no file
                file.flush()
        ctypes.CDLL(None).fflush(None)

    def end(self) -> None:
        """End this process.

        C's ``atexit`` and the libraries' own destructors are called where this process has loaded
        the libraries itself. In one that is forked, they may wait for threads of the template's.
        """
        if not self._is_forked:
            faulthandler.disable()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _LIBRARIES_TIMEOUT_S)
            ctypes.PyDLL(None).exit(0)  # it keeps Python's lock, so no other thread runs meanwhile
        os._exit(0)

    def _is_own(self, module: Any) -> bool:
        file = getattr(module, "__file__", None) or ""
        return file.startswith(self._folder) and "site-packages" not in file

    def _finalize(self) -> None:
        """Call the finalizers of what the run has made, as Python's garbage collector would."""
        # The oldest first: what has survived collections is kept apart.
        made = [each for generation in (2, 1, 0) for each in gc.get_objects(generation)]
        found, self._made = [*self._made, *_with_finalizer(made)], []
        if len(found) > 1:
            found = [each for each in found if not _is_inside_gzip(each)]
            found = _outermost_first(found, {*map(id, made), *map(id, found)})
        finalize = ctypes.pythonapi.PyObject_CallFinalizer  # which Python does not call again
        finalize.argtypes, finalize.restype = [ctypes.py_object], None
        for each in found:
            finalize(each)

    def _release(self, imported: Sequence[str]) -> None:
        """Let go of what the run has put into modules: types of C may have a destructor alone."""
        new = [(sys.modules.get(name), dict[str, Any]()) for name in imported]
        ours = [(each, before) for each, before in new if each is not None and self._is_own(each)]
        ours += reversed(self._modules)
        release = _Release(
            made={*map(id, gc.get_objects())}, own={module.__name__ for module, _ in ours}
        )
        for module, before in ours:
            for name, value in [*vars(module).items()]:
                is_code = issubclass(type(value), _CODE) or name.startswith("__")
                if not is_code and value is not before.get(name):
                    vars(module)[name] = None
                elif self._is_forked:
                    release.from_holder(value)


class _Release:
    """Takes what a run has made out of what was there before."""

    def __init__(self, made: set[int], own: set[str]) -> None:
        """Prepare.

        Args:
            made: The ids of what the run has made.
            own: The names of the project's modules, whose classes are looked into.
        """
        self._made = made
        self._own = own
        self._seen: set[int] = set()

    def from_holder(self, holder: Any) -> None:
        """Take it out of a container, or of a class or an object of the project's."""
        if id(holder) in self._seen or len(self._seen) > _MAX_LOOKS:
            return
        self._seen.add(id(holder))
        is_class = issubclass(type(holder), type)
        if getattr(holder if is_class else type(holder), "__module__", None) in self._own:
            values = getattr(holder, "__dict__", {})
            self._from_names(values, lambda name: setattr(holder, name, None))
        elif issubclass(type(holder), dict):
            self._from_names(holder, lambda name: dict.__setitem__(holder, name, None))
        elif issubclass(type(holder), _COLLECTIONS) and len(holder) <= _MAX_LOOKS:
            made = [each for each in holder if self._is_made(each)]
            for each in holder:
                self.from_holder(each)
            if made and not issubclass(type(holder), tuple):
                holder.clear()

    def _from_names(self, values: Mapping[Any, Any], forget: Callable[[Any], None]) -> None:
        if len(values) <= _MAX_LOOKS:
            for name, value in [*values.items()]:
                if self._is_made(value):
                    with suppress(Exception):  # a descriptor of the project's
                        forget(name)
                else:
                    self.from_holder(value)

    def _is_made(self, value: Any) -> bool:
        # What is not tracked refers to nothing: a number, a text, or an object of C's alone.
        is_of_c = not gc.is_tracked(value) and type(value).__module__ != "builtins"
        return id(value) in self._made or is_of_c


def _with_finalizer(objects: Iterable[Any]) -> list[Any]:
    """Return the objects that have something to do at their end, but for this package's own."""
    objects = [*objects]
    kinds = {
        kind
        for kind in {*map(type, objects)}
        if any("__del__" in vars(base) for base in kind.__mro__)
        and kind.__module__.partition(".")[0] != _PACKAGE
    }
    return [each for each in objects if type(each) in kinds and not _is_suspended_here(each)]


def _is_suspended_here(each: Any) -> bool:
    """Return whether it is a generator of this package, or one that runs."""
    if type(each) is not GeneratorType:
        return False
    return each.gi_running or each.gi_code.co_filename.startswith(_FOLDER)


def _is_inside_gzip(each: Any) -> bool:
    """Return whether this is a buffer of GzipFile, which loses its end if closed first."""
    stream = each.raw if type(each) is io.BufferedWriter else each
    return (type(stream).__module__, type(stream).__name__) == ("gzip", "_WriteBufferStream")


def _outermost_first(found: Sequence[Any], known: set[int]) -> list[Any]:
    """Return objects in an order in which each comes before those that it refers to.

    An archive is to write its directory before its file is closed. Those that do not refer to
    each other stay in their order.

    Args:
        found: The objects.
        known: The ids of all objects to follow.
    """
    order: list[Any] = []
    seen: set[int] = set()
    wanted = {*map(id, found)}
    for root in reversed(found):
        stack: list[tuple[Any, Iterator[Any]]] = [(None, iter([root]))]
        while stack:
            holder, referents = stack[-1]
            for each in referents:
                if id(each) in known and id(each) not in seen and not issubclass(type(each), _CODE):
                    seen.add(id(each))
                    looked = gc.get_referents(each) if len(seen) < _MAX_LOOKS else ()
                    stack.append((each, iter(looked)))
                    break
            else:
                stack.pop()
                if id(holder) in wanted:
                    order.append(holder)
    return order[::-1]


def _try(step: Callable[..., object], *args: object) -> None:
    try:
        step(*args)
    except BaseException:  # of the project's code; the run has its outcome
        with suppress(BaseException):
            sys.excepthook(*sys.exc_info())
