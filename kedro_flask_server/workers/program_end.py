"""The end of a worker process: Python's finalization, limited to the run's objects.

An interpreter that is finalized visits all its objects. In a fork, that copies the memory of the
template, which takes longer than most runs. So only the observable part of finalization is done,
for what the run has created and nothing else.
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

# Limit of visited objects: visiting one may copy its memory page.
_MAX_LOOKS = 10_000

# Timeout of the destructors of libraries. The server expects the end within 3 s.
_LIBRARIES_TIMEOUT_S = 2.0

_CODE = (ModuleType, FunctionType, type)
_COLLECTIONS = (list, tuple, set, deque)


class ProgramEnd:
    """The end of a process that has executed a run."""

    def __init__(self, *, is_forked: bool, folder: Path) -> None:
        """Record the state before a run. Must be called where the project was imported.

        Args:
            is_forked: Whether that is a template, and not the process of the run itself.
            folder: The folder of the project's modules.
        """
        self._is_forked = is_forked
        self._folder = f"{folder}{os.sep}"
        self._modules = [
            (module, vars(module).copy() if is_forked else {})
            for name, module in [*sys.modules.items()]
            if name == "__main__" or self._is_own(module)
        ]
        # Without a template, what imports create belongs to the run, too.
        self._made = [] if is_forked else _with_finalizer(gc.get_objects())

    def begin(self) -> None:
        """Begin the run: existing objects belong to the worker, and are not finalized."""
        gc.freeze()

    def reach(self, imported: Iterable[str]) -> None:
        """Finalize the run as Python finalizes a program, without ending the process.

        Exceptions from the project's code are printed, as Python does.

        Args:
            imported: The modules that the run has imported, the last one first.
        """
        _try(threading._shutdown)  # type: ignore[attr-defined]
        _try(atexit._run_exitfuncs)
        _try(self._finalize)
        _try(self._release, [*imported])
        # A collection of all generations frees memory, which takes longer than most of this.
        _try(gc.collect, 2 if gc.get_objects(2) else 1)
        for file in (sys.stdout, sys.stderr):
            with suppress(Exception):  # closed, detached, or replaced by something else
                file.flush()
        ctypes.CDLL(None).fflush(None)

    def end(self) -> None:
        """End this process.

        C's ``atexit`` functions and the destructors of libraries are called only where this process
        has loaded the libraries itself. In a fork, they may wait for threads of the template.
        """
        if not self._is_forked:
            faulthandler.disable()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _LIBRARIES_TIMEOUT_S)
            ctypes.PyDLL(None).exit(0)  # PyDLL holds the GIL, so no other thread runs meanwhile
        os._exit(0)

    def _is_own(self, module: Any) -> bool:
        file = getattr(module, "__file__", None) or ""
        return file.startswith(self._folder) and "site-packages" not in file

    def _finalize(self) -> None:
        """Call the finalizers of the run's objects, as Python's garbage collector would."""
        # The oldest generation first: it holds what has survived collections.
        made = [each for generation in (2, 1, 0) for each in gc.get_objects(generation)]
        found, self._made = [*self._made, *_with_finalizer(made)], []
        if len(found) > 1:
            found = [each for each in found if not _is_inside_gzip(each)]
            found = _outermost_first(found, {*map(id, made), *map(id, found)})
        finalize = ctypes.pythonapi.PyObject_CallFinalizer  # Python does not call it again
        finalize.argtypes, finalize.restype = [ctypes.py_object], None
        for each in found:
            finalize(each)

    def _release(self, imported: Sequence[str]) -> None:
        """Release what the run has put into modules: C types may have only a destructor."""
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
    """Removes what a run has created from objects that existed before it."""

    def __init__(self, made: set[int], own: set[str]) -> None:
        """Prepare the release.

        Args:
            made: The ids of the run's objects.
            own: The names of the project's modules, whose classes are searched.
        """
        self._made = made
        self._own = own
        self._seen: set[int] = set()

    def from_holder(self, holder: Any) -> None:
        """Remove the run's objects from a container, or a class or object of the project."""
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
                    with suppress(Exception):  # a descriptor of the project
                        forget(name)
                else:
                    self.from_holder(value)

    def _is_made(self, value: Any) -> bool:
        # Untracked objects hold no references: numbers, strings, or objects of C alone.
        is_of_c = not gc.is_tracked(value) and type(value).__module__ != "builtins"
        return id(value) in self._made or is_of_c


def _with_finalizer(objects: Iterable[Any]) -> list[Any]:
    """Return the objects that have a finalizer, except those of this package."""
    objects = [*objects]
    kinds = {
        kind
        for kind in {*map(type, objects)}
        if any("__del__" in vars(base) for base in kind.__mro__)
        and kind.__module__.partition(".")[0] != _PACKAGE
    }
    return [each for each in objects if type(each) in kinds and not _is_suspended_here(each)]


def _is_suspended_here(each: Any) -> bool:
    """Return whether it is a generator of this package, or a running one."""
    if type(each) is not GeneratorType:
        return False
    return each.gi_running or each.gi_code.co_filename.startswith(_FOLDER)


def _is_inside_gzip(each: Any) -> bool:
    """Return whether this is a buffer of GzipFile, whose end is lost if it is closed first."""
    stream = each.raw if type(each) is io.BufferedWriter else each
    return (type(stream).__module__, type(stream).__name__) == ("gzip", "_WriteBufferStream")


def _outermost_first(found: Sequence[Any], known: set[int]) -> list[Any]:
    """Sort objects so that each precedes those that it refers to.

    An archive must write its directory before its file is closed. Unrelated objects keep their
    order.

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
    except BaseException:  # of the project's code; the run has its outcome already
        with suppress(BaseException):
            sys.excepthook(*sys.exc_info())
