"""What a run reads and writes, and the locks that keep runs out of each other's way.

A location is a path or an address, such as ``file:///data/model.pkl`` or
``postgresql://host/db/public.sales``. Two runs conflict where one writes what the other reads or
writes: the same location, or one that lies below the other, such as a partition of a folder. As in
a database with tables and rows, the folders above a location are locked by intention (Gray et al.,
"Granularity of Locks and Degrees of Consistency in a Shared Data Base", 1976), so that a conflict
is always one of two locks on the same location.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

READ, WRITE, READ_BELOW, WRITE_BELOW = "R", "W", "IR", "IW"
"""The modes of a lock: of a location, or of one that has such a location below it."""

CONFLICTS: Mapping[str, tuple[str, ...]] = {
    READ: (WRITE, WRITE_BELOW),
    WRITE: (READ, WRITE, READ_BELOW, WRITE_BELOW),
    READ_BELOW: (WRITE,),
    WRITE_BELOW: (READ, WRITE),
}
"""The modes that another run's lock on the same location may not have, by a lock's mode."""

# The modes whose locks conflict with all that a lock of a mode conflicts with.
_INCLUDED = {
    mode: [each for each in CONFLICTS if each != mode and {*conflicts} <= {*CONFLICTS[each]}]
    for mode, conflicts in CONFLICTS.items()
}

_MAX_NAME_CHARS = 255


class Lock(NamedTuple):
    """A lock of a run.

    Attributes:
        location: A hash of the location, 64 bits.
        mode: Its mode.
        dataset: The dataset that lies there, or below.
    """

    location: int
    mode: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Locks:
    """The locks of a run.

    Attributes:
        digest: A text of 32 characters, different for other locations.
        each: The locks, sorted.
    """

    digest: str
    each: tuple[Lock, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAccess:
    """What a run reads and writes.

    Attributes:
        reads: The locations of the datasets that it reads alone, by their names.
        writes: The locations of those that it writes.
    """

    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the digest of its locks, in less time than these take."""
        written = {*self.writes.values()}
        parts = (*sorted({*self.reads.values()} - written), "", *sorted(written))
        content = "\n".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def locks(self) -> Locks:
        """Return the locks of a run that reads and writes this."""
        datasets: dict[tuple[str, str], str] = {}
        for locations, mode, mode_above in (
            (self.writes, WRITE, WRITE_BELOW),
            (self.reads, READ, READ_BELOW),
        ):
            for dataset, location in locations.items():
                datasets.setdefault((location, mode), dataset)
                above = _folder_of(location)
                while above and (above, mode_above) not in datasets:
                    datasets[above, mode_above] = dataset
                    above = _folder_of(above)
        each = (
            Lock(_hash(location), mode, dataset[:_MAX_NAME_CHARS])
            for (location, mode), dataset in datasets.items()
            if not any((location, other) in datasets for other in _INCLUDED[mode])
        )
        return Locks(self.digest(), tuple(sorted(each)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAccess:
    """What a run reads and writes, as far as that can be told.

    Attributes:
        access: The locations.
        unknown: The datasets whose locations cannot be told, sorted.
        depends_on_params: Whether another run of the same nodes may use other locations, because
            of its runtime parameters.
    """

    access: DataAccess
    unknown: tuple[str, ...] = ()
    depends_on_params: bool = True


def _folder_of(location: str) -> str:
    """Return the folder of a location; empty for one that has none."""
    end = location.rfind("/")
    return location[:end] if end > 0 and location[end - 1] not in "/:" else ""


def _hash(location: str) -> int:
    digest = hashlib.blake2b(location.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
