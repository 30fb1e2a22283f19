"""What the process that executes a run asks the server about the run's data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from kedro_flask_server.model.data_access import Locks


def _acquire_all(locks: Locks) -> bool:
    return True


def _know_none(versions: Sequence[str]) -> Mapping[str, str]:
    return {}


def _none_executes() -> Collection[str]:
    return ()


def _drop(text: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """The data of one run, as the server knows it.

    Attributes:
        is_checked: Whether the run may start only if it has the locks of what it reads and writes.
        digest: The digest of the locks that it has; None if it has none.
        skips_failed_versions: Whether the latest version of a dataset is one of a run that has
            succeeded, or of none that is known.
        acquire: Acquires locks instead of those that the run has, and returns whether it may start;
            otherwise it is queued again.
        executing: Returns the ids of the other runs that execute now, on all servers.
        statuses: Returns the statuses of the runs among some versions; ``running`` also for those
            that have begun since this one.
        warn: Adds a warning to the run.
        folder: The folder of the data that it returns; None for one named as the run.
        tells_failures_alone: Whether nothing is told of it unless it fails.
    """

    is_checked: bool = False
    digest: str | None = None
    skips_failed_versions: bool = False
    acquire: Callable[[Locks], bool] = _acquire_all
    executing: Callable[[], Collection[str]] = _none_executes
    statuses: Callable[[Sequence[str]], Mapping[str, str]] = _know_none
    warn: Callable[[str], None] = _drop
    folder: str | None = None
    tells_failures_alone: bool = False
