"""What a worker has from the template that it is forked from."""

from __future__ import annotations

import gc
import io
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.project import KedroProject
from kedro_flask_server.workers.exiting import ProgramEnd
from kedro_flask_server.workers.generators import Generators
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.imports import Imports
from kedro_flask_server.workers.output import Output


class Files:
    """Files that importing the project has opened, which a worker's end has to write.

    They are out of the garbage collector's sight there (`gc.freeze`).
    """

    def __init__(self) -> None:
        """Take those that are open, and write what they hold back: no worker is to write it."""
        base = io.IOBase.__mro__[1]  # of C: the look at each object is quick
        self._files: list[Any] = [
            weakref.ref(each) for each in gc.get_objects() if issubclass(type(each), base)
        ]
        self.flush()

    def flush(self) -> None:
        """Write what is not written."""
        for reference in self._files:
            with suppress(Exception):  # closed, read only, detached, full, ...
                reference().flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a template has for the workers that it forks.

    Attributes:
        project: The project, loaded if that could be.
        outputs: What stands in for ``sys.stdout`` and ``sys.stderr``.
        generators: The random generators.
        handlers: The log handlers.
        files: The files that are open.
        end: How they end.
        imports: Waiters what is imported beside the modules that it has.
    """

    project: KedroProject
    outputs: tuple[Output, Output]
    generators: Generators
    handlers: Handlers
    files: Files
    end: ProgramEnd
    imports: Imports
