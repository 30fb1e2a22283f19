"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from kedro_flask_server.model.run import Run


class Scope(str, Enum):
    """What a caller may do. One that is ``admin`` may do everything."""

    READ = "read"
    """See the project, and everyone's runs, their events and logs."""

    RUN = "run"
    """See the project, run its pipelines; see and cancel the runs of one's own."""

    ADMIN = "admin"

    def __str__(self) -> str:
        return self.value


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request, as far as that is known.

    Attributes:
        name: The name of the key, or what another scheme says; ``""`` for an anonymous caller.
        scopes: What they may do.
        pipelines: The only pipelines that they may run and see; None for all.
        max_active: How many of their runs may be queued or running; None for any number.
        max_queued: How many of their runs may be queued; None for any number.
        sees_messages: Whether they are told more of an error than its type.
    """

    name: str
    scopes: frozenset[Scope]
    pipelines: frozenset[str] | None = None
    max_active: int | None = None
    max_queued: int | None = None
    sees_messages: bool = True

    def may(self, any_of: Iterable[Scope]) -> bool:
        """Return whether they have one of some scopes."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(any_of)

    def may_run(self, pipelines: Iterable[str]) -> bool:
        """Return whether they may run these pipelines."""
        return self.pipelines is None or self.pipelines.issuperset(pipelines)

    def may_see(self, run: Run) -> bool:
        """Return whether they may know of a run."""
        is_own = (run.submitted_by or "") == self.name
        return (is_own or self.may((Scope.READ,))) and self.may_run(run.request.pipelines)

    def may_cancel(self, run: Run) -> bool:
        """Return whether they may end a run that they may see."""
        return self.may(()) or (run.submitted_by or "") == self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that a caller proves to have, without what is secret of it.

    Attributes:
        name: Whose it is.
        sha256: The SHA-256 of the key, in hexadecimal.
        scopes: What its bearer may do.
        pipelines: The only pipelines that they may run and see; None for all.
        max_active: How many of their runs may be queued or running; None for any number.
        max_queued: How many of their runs may be queued; None for any number.
        created_at: When it was made, where that is known.
        expires_at: From when on it counts no more.
        revoked_at: When it was revoked.
        last_used_at: When it was last seen in use, to about a minute.
    """

    name: str
    sha256: str
    scopes: frozenset[Scope]
    pipelines: frozenset[str] | None = None
    max_active: int | None = None
    max_queued: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def counts_at(self, moment: datetime) -> bool:
        """Return whether the key opens anything at a time."""
        is_over = self.expires_at is not None and self.expires_at <= moment
        return self.revoked_at is None and not is_over

    @property
    def caller(self) -> Caller:
        """Who has the key."""
        return Caller(
            name=self.name,
            scopes=self.scopes,
            pipelines=self.pipelines,
            max_active=self.max_active,
            max_queued=self.max_queued,
        )
