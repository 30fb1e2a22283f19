"""Snapshots: descriptions of a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A description of a project.

    Attributes:
        content: All fields of ``kedro.inspection``'s snapshot, as plain data.
        fingerprint: A short text that identifies its sources; None where there is none.
        sources: The Python files whose lines it mentions.
    """

    content: Mapping[str, Any]
    fingerprint: str | None = None
    sources: tuple[str, ...] = ()
