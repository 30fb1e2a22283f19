"""What Kedro looks up again and again in each run, and always finds the same.

For each dataset it imports modules that are not there, for which Python searches all of its path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import kedro.io.core
import kedro.io.memory_dataset

# Kedro looks for a dataset's class in these first, which do not change while a process lives.
_INSTALLED = ("kedro.io.", "kedro_datasets.")

_MAX_CLASSES = 1_000


def take_shortcuts() -> None:
    """Have Kedro find datasets' classes, and how to copy data, without a search each time.

    There is no public door: the modules find other functions under the names of theirs.
    """
    for module, name, shortcut in (
        (kedro.io.core, "_load_obj", _finding_again),
        (kedro.io.memory_dataset, "_infer_copy_mode", _knowing_builtins),
    ):
        function = getattr(module, name)
        if not hasattr(function, "__wrapped__"):
            setattr(module, name, shortcut(function))


def _finding_again(load: Callable[[str], Any]) -> Callable[[str], Any]:
    found: dict[str, Any] = {}

    @wraps(load)
    def load_once(class_path: str) -> Any:
        if class_path in found:
            return found[class_path]
        loaded = load(class_path)
        is_there = loaded[0] is not None
        if (is_there or class_path.startswith(_INSTALLED)) and len(found) < _MAX_CLASSES:
            found[class_path] = loaded
        return loaded

    return load_once


def _knowing_builtins(infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what imports pandas, NumPy and ibis to compare types only where there is a need."""

    @wraps(infer)
    def infer_unless_builtin(data: Any) -> Any:
        return "deepcopy" if type(data).__module__ == "builtins" else infer(data)

    return infer_unless_builtin
