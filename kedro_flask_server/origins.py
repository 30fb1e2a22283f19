"""The origin of code: installed, or the project's own, wherever that is."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType, TracebackType

_INSTALLED = {"site-packages", "dist-packages"}

# The modules that do imports are part of the interpreter's executable.
_IMPORTING = "<frozen importlib._bootstrap>"


@cache
def is_installed(path: str) -> bool:
    """Return whether a file belongs to Python, to an installed distribution or to this package.

    Everything else is the project's own: its source folder, an editable install, a folder on
    ``PYTHONPATH``; but not a virtual environment inside the project.

    Args:
        path: The file of a module or of code.
    """
    if path.startswith("<frozen "):
        return True
    real = os.path.realpath(path)
    return not _INSTALLED.isdisjoint(Path(real).parts) or real.startswith(_folders())


@cache
def _folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = [os.path.dirname(__file__)]  # noqa: PTH120  a string, as all paths here
    found += [paths[name] for name in ("stdlib", "platstdlib")]
    return tuple(os.path.join(os.path.realpath(each), "") for each in found)  # noqa: PTH118


def is_installed_module(module: ModuleType | ModuleSpec) -> bool:
    """Return whether a module is Python's, an installed distribution's or this package's.

    A namespace package executes nothing, and may have folders of both.
    """
    spec = module if isinstance(module, ModuleSpec) else getattr(module, "__spec__", None)
    if spec is None:
        return False
    if spec.has_location and spec.origin:
        return is_installed(spec.origin)
    folders = [*(spec.submodule_search_locations or ())]
    return not folders or any(map(is_installed, folders))


def is_asked_for_by_own_code(*, otherwise: bool) -> bool:
    """Return whether the project's own code requests the current operation.

    It does not if the operation is part of importing an installed module, whichever code imports
    that.

    Args:
        otherwise: What to return if neither is so.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _IMPORTING:
            return False
        # Code compiled from a string has the origin of its caller.
        if not (name.startswith("<") or is_installed(name)):
            return True
        frame = frame.f_back
    return otherwise


class OwnModuleError(BaseException):
    """Raised by an import that would execute the project's own code.

    Not an exception that libraries catch: they would continue without an optional module.
    """


class InstalledOnly:
    """Within, the project's own modules cannot be imported, whatever imports them.

    Those that are imported already can be used.
    """

    def __init__(self) -> None:
        """Prepare."""
        self.refused: str | None = None
        """The name of a module whose import was refused."""

    def __enter__(self) -> InstalledOnly:
        """Install the finder."""
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the finder."""
        sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a module, as finders do (`importlib.abc.MetaPathFinder`).

        Raises:
            OwnModuleError: If it is the project's own.
        """
        for finder in sys.meta_path:
            find: Callable[..., ModuleSpec | None] | None = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is None:
                continue
            if not is_installed_module(spec):
                self.refused = name
                raise OwnModuleError(name)
            return spec
        return None
