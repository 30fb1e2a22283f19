"""What the processes of a generation of a served pipeline have prepared, or why they have not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro_flask_server.errors import NothingToLoadError
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.served import Preload
from kedro_flask_server.project import KedroProject, PreparedPipeline
from kedro_flask_server.project.failures import describe

_THREADS = "/proc/self/task"

# jemalloc, with which pyarrow allocates, ends its threads before a fork and starts them again in
# the child when it needs them (https://github.com/jemalloc/jemalloc, background_thread.c).
_FORK_SAFE = ("jemalloc_bg_thd",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A prepared pipeline, or why there is none.

    Attributes:
        pipeline: The pipeline.
        missing: The dataset that is not there.
        error: Why it could not be prepared otherwise.
        versions: The versions that were loaded.
    """

    pipeline: PreparedPipeline | None = None
    missing: str | None = None
    error: ErrorDetail | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, project: KedroProject, preload: Mapping[str, Any]) -> Preparation:
        """Prepare a pipeline of a project.

        Args:
            project: The project.
            preload: What to load (`Preload.dump`).
        """
        try:
            pipeline = project.prepare(Preload.load(preload))
        except NothingToLoadError as error:
            return cls(missing=error.dataset)
        except BaseException as error:  # of the project's code
            return cls(error=describe(error))
        return cls(pipeline=pipeline, versions=pipeline.versions)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data, without the pipeline."""
        return {
            "missing": self.missing,
            "error": None if self.error is None else self.error.dump(),
            "versions": {**self.versions},
        }


def threads_of_libraries() -> list[str] | None:
    """Return the names of this process's threads of which Python need not know (Linux).

    Returns:
        The names, without that of this thread and of those which survive a fork; None where the
        system does not tell.
    """
    names = []
    own = os.getpid()
    try:
        for thread in os.listdir(_THREADS):  # noqa: PTH208
            if int(thread) != own:
                names.append(Path(_THREADS, thread, "comm").read_text().strip())
    except OSError:  # or one has ended meanwhile
        return None
    return [name for name in names if name not in _FORK_SAFE]
