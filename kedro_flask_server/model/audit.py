"""The audit log: who did what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """An entry of the audit log: an action, or a refusal.

    Attributes:
        time: When it happened.
        who: The caller's name; ``""`` where it is not known.
        what: ``run.submitted``, ``run.retried`` (by a rule), ``run.cancelled``, ``key.created``,
            ``key.revoked``, ``pages.signed_out`` or ``request.refused``.
        subject: The run, the key, or the request.
        address: The caller's address, where it is known.
    """

    time: datetime
    who: str
    what: str
    subject: str
    address: str = ""

    @classmethod
    def of(cls, who: str, what: str, subject: str, *, address: str = "") -> AuditRecord:
        """Return the entry of what happens now; the arguments are those of the attributes."""
        now = datetime.now(timezone.utc)
        return cls(time=now, who=who, what=what, subject=subject, address=address)
