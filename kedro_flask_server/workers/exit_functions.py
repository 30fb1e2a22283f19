"""Divides the ``atexit`` functions that imports register between the template and the workers.

The workers are forked from the template, so each function could be called in all of them. `kedro
run` calls it once, at the end of the run: so does a worker. What cleans up after an import, such as
a temporary folder, is called by the template alone.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import weakref
from collections.abc import Callable
from typing import Any

_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

# Their functions remove or end something; so does a function that calls one of these names.
_CLEANING_MODULES = ("os", "pathlib", "posix", "shutil", "subprocess", "tempfile")
_CLEANING_NAMES = frozenset(
    ("cleanup", "kill", "remove", "removedirs", "rmdir", "rmtree", "terminate", "unlink")
)

_OF_PYTHON: tuple[Callable[..., Any], ...] = (
    logging.shutdown,
    weakref.finalize._exitfunc,  # type: ignore[attr-defined]
    multiprocessing.util._exit_function,  # type: ignore[attr-defined]
)


class ExitFunctions:
    """The functions registered with ``atexit`` since `record` was called.

    Python offers no way to list them.
    """

    _calls: list[_Call] = []  # noqa: RUF012  the process has one list, as ``atexit`` has
    _unregister = staticmethod(atexit.unregister)

    @classmethod
    def record(cls) -> None:
        """Record all registrations from now on."""
        register = atexit.register

        def recorded(function: Any, /, *args: Any, **kwargs: Any) -> Any:
            register(function, *args, **kwargs)
            cls._calls.append((function, args, kwargs))
            return function

        def forgotten(function: Any, /) -> None:
            cls._unregister(function)
            cls._calls = [call for call in cls._calls if call[0] != function]

        atexit.register, atexit.unregister = recorded, forgotten

    @classmethod
    def leave_to_workers(cls) -> None:
        """Unregister, in a template, all functions but those that clean up."""
        for function, _, _ in cls._calls:
            if function not in _OF_PYTHON and not _cleans_up(function):
                cls._unregister(function)

    @classmethod
    def take_from_template(cls) -> None:
        """Register, in a fork of a template, the inherited functions that do not clean up.

        Exit functions of the standard library are registered without their inherited state, as
        ``multiprocessing`` does in its children.
        """
        atexit._clear()
        multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
        # Emptied, not disabled at exit: garbage collection calls them, too.
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        for function in _OF_PYTHON:
            atexit.register(function)
        inherited, cls._calls = cls._calls, []
        for function, args, kwargs in inherited:
            if function not in _OF_PYTHON and not _cleans_up(function):
                atexit.register(function, *args, **kwargs)


def _cleans_up(function: Callable[..., Any]) -> bool:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    names = {*getattr(code, "co_names", ()), getattr(function, "__name__", "")}
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in _CLEANING_MODULES or not _CLEANING_NAMES.isdisjoint(names)
