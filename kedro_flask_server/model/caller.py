"""Callers and their permissions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from kedro_flask_server.model.run import Run


class Scope(str, Enum):
    """A permission of a caller. ``admin`` includes all others."""

    READ = "read"
    """See the project, and the runs of all callers with their events and logs."""

    RUN = "run"
    """See the project, run its pipelines; see and cancel own runs."""

    ADMIN = "admin"

    def __str__(self) -> str:
        return self.value


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request, as far as it is known.

    Attributes:
        name: The name of the API key, or from another scheme; ``""`` for an anonymous caller.
        scopes: The caller's permissions.
        pipelines: The only pipelines that the caller may run and see; None for all.
        max_active: How many of the caller's runs may be queued or running; None for any number.
        max_queued: How many of the caller's runs may be queued; None for any number.
        max_priority: The highest priority that the caller may give to runs.
        sees_messages: Whether errors include more than their type.
    """

    name: str
    scopes: frozenset[Scope]
    pipelines: frozenset[str] | None = None
    max_active: int | None = None
    max_queued: int | None = None
    max_priority: int = 0
    sees_messages: bool = True

    def may(self, any_of: Iterable[Scope]) -> bool:
        """Return whether the caller has one of some scopes."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(any_of)

    def may_run(self, pipelines: Iterable[str]) -> bool:
        """Return whether the caller may run these pipelines."""
        return self.pipelines is None or self.pipelines.issuperset(pipelines)

    def may_see(self, run: Run) -> bool:
        """Return whether the caller may see a run."""
        is_own = (run.submitted_by or "") == self.name
        return (is_own or self.may((Scope.READ,))) and self.may_run(run.request.pipelines)

    def may_see_data(self, run: Run) -> bool:
        """Return whether the caller may see the data of a run that it may see."""
        return self.may(()) or (run.submitted_by or "") == self.name

    def may_cancel(self, run: Run) -> bool:
        """Return whether the caller may cancel a run that it may see."""
        return self.may(()) or (run.submitted_by or "") == self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, without its secret.

    Attributes:
        name: The name of its owner.
        sha256: The SHA-256 of the key, in hexadecimal.
        scopes: The permissions of its bearer.
        pipelines: The only pipelines that its bearer may run and see; None for all.
        max_active: How many of the bearer's runs may be queued or running; None for any number.
        max_queued: How many of the bearer's runs may be queued; None for any number.
        max_priority: The highest priority that the bearer may give to runs; None for 0.
        created_at: When it was created, where that is known.
        expires_at: When it expires; None for never.
        revoked_at: When it was revoked.
        last_used_at: When it was last used, to about a minute.
    """

    name: str
    sha256: str
    scopes: frozenset[Scope]
    pipelines: frozenset[str] | None = None
    max_active: int | None = None
    max_queued: int | None = None
    max_priority: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def counts_at(self, moment: datetime) -> bool:
        """Return whether the key is valid at a time."""
        is_over = self.expires_at is not None and self.expires_at <= moment
        return self.revoked_at is None and not is_over

    @property
    def id(self) -> str:
        """What stands for the key where its secret is not to be, such as in a cookie."""
        return hashlib.sha256(f"id of {self.sha256}".encode()).hexdigest()[:32]

    @property
    def caller(self) -> Caller:
        """The bearer of the key."""
        return Caller(
            name=self.name,
            scopes=self.scopes,
            pipelines=self.pipelines,
            max_active=self.max_active,
            max_queued=self.max_queued,
            max_priority=self.max_priority or 0,
        )
