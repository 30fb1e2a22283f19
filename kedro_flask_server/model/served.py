"""Pipelines that are served: workers of their own, and datasets that stay loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ALL, FAILURES, NONE = RECORDS = ("all", "failures", "none")
"""Which calls of a served pipeline are recorded as runs."""

AUTO, MANUAL = RELOADS = ("auto", "manual")
"""When a served pipeline loads newer data: as soon as that is there, or when it is asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSettings:
    """The settings of one served pipeline.

    Attributes:
        preload: The datasets that stay loaded.
        workers: How many calls execute at a time.
        max_waiting: How many more calls may wait.
        record: Which calls are recorded: ``all``, ``failures`` or ``none``.
        reload: ``auto`` or ``manual``.
        poll_s: How often to look for newer data, in seconds.
        check: Whether each call checks that its nodes leave preloaded data as it is.
    """

    preload: tuple[str, ...] = ()
    workers: int = 2
    max_waiting: int = 32
    record: str = FAILURES
    reload: str = AUTO
    poll_s: float = 5.0
    check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """What could be loaded for a dataset.

    Attributes:
        version: Its version; None for a dataset without versions.
        state: A text that differs if the content may differ; empty where that cannot be told.
        age_s: How many seconds ago it was last written, where that is known.
    """

    version: str | None
    state: str
    age_s: float | None = None


DatasetVersions = Mapping[str, tuple[DatasetVersion, ...]]
"""For each dataset what could be loaded, the newest first; nothing for one that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preload:
    """What a generation of a served pipeline loads.

    Attributes:
        pipeline: The pipeline.
        versions: The datasets, each with its version; None for one without versions.
        states: Of datasets without versions, the state that is to be loaded (`DatasetVersion`).
        check: As in `ServedSettings`.
    """

    pipeline: str
    versions: Mapping[str, str | None] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    check: bool = False

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {**asdict(self), "versions": {**self.versions}, "states": {**self.states}}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Preload:
        """Return what `dump` has returned."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the workers of a generation have loaded.

    Attributes:
        versions: The datasets, each with its version; None for one without versions.
        start_method: How the workers came by them: ``fork``, ``spawn`` or ``thread``.
    """

    versions: Mapping[str, str | None]
    start_method: str
