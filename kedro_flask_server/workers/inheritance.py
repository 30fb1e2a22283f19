"""The objects that a worker inherits from the template that it is forked from."""

from __future__ import annotations

import gc
import io
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.project import KedroProject
from kedro_flask_server.workers.generators import Generators
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.imports import Imports
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.preparation import Preparation
from kedro_flask_server.workers.program_end import ProgramEnd


class Files:
    """Files opened by importing the project, which a worker must flush at its end.

    The garbage collector does not see them there (`gc.freeze`).
    """

    def __init__(self) -> None:
        """Record the open files, and flush them, as no worker may write what is buffered here."""
        base = io.IOBase.__mro__[1]  # a C class: a fast test for each object
        self._files: list[Any] = [
            weakref.ref(each) for each in gc.get_objects() if issubclass(type(each), base)
        ]
        self.flush()

    def flush(self) -> None:
        """Flush all files."""
        for reference in self._files:
            with suppress(Exception):  # closed, read-only, detached, disk full, ...
                reference().flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """The objects that a template passes to the workers that it forks.

    Attributes:
        project: The project, loaded if possible.
        outputs: The replacements of ``sys.stdout`` and ``sys.stderr``.
        generators: The random generators.
        handlers: The log handlers.
        files: The open files.
        end: The end of a worker.
        imports: Records imports of modules that the template has not imported.
        preparation: The pipeline that the workers serve; None if they execute any run.
    """

    project: KedroProject
    outputs: tuple[Output, Output]
    generators: Generators
    handlers: Handlers
    files: Files
    end: ProgramEnd
    imports: Imports
    preparation: Preparation | None = None
