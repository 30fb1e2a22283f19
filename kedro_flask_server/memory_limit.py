"""The memory limit of this process's control group.

https://docs.kernel.org/admin-guide/cgroup-v2.html#memory, and for version 1
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MB = 1_000_000

# About the memory of the server, the template with the project and an idle worker.
_SERVER_SHARE_MB = 500

# About the memory of an empty Kedro run.
_LEAST_FOR_A_RUN_MB = 100

# Version 1 has no value for "no limit", but a number beyond any machine.
_NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """The limit of a control group.

    Attributes:
        limit_bytes: The memory that all its processes may take together; None for no limit.
        ends_all: Whether the kernel kills all of them when memory runs out (memory.oom.group).
    """

    limit_bytes: int | None = None
    ends_all: bool = False

    @classmethod
    def of_this_process(cls, root: Path = Path("/")) -> MemoryLimit:
        """Read the limit of this process: that of its own control group, and of its ancestors.

        Args:
            root: The parent of the file systems ``proc`` and ``sys``.
        """
        limits, ends_all = [], False
        for group in _groups(root):
            for name in ("memory.max", "memory.limit_in_bytes"):
                with suppress(OSError, ValueError):  # files of the other version; "max" is no limit
                    limits.append(int((group / name).read_text()))
            with suppress(OSError):
                ends_all = (group / "memory.oom.group").read_text().strip() == "1" or ends_all
        found = [limit for limit in limits if limit < _NO_LIMIT_BYTES]
        return cls(limit_bytes=min(found, default=None), ends_all=ends_all)

    def warning(self, *, workers: int, worker_memory_limit_mb: int | None) -> str | None:
        """Return a warning for servers with worker processes here; None if there is none.

        Args:
            workers: How many runs execute at a time.
            worker_memory_limit_mb: The setting, for which no value is suggested: it counts reserved
                memory, too, which for some libraries is many times what they use.
        """
        if not self.ends_all and (self.limit_bytes is None or worker_memory_limit_mb is not None):
            return None
        limit = "" if self.limit_bytes is None else f" of {self.limit_bytes // _MB} MB"
        meaning = (
            "the server and all its runs end together (memory.oom.group)"
            if self.ends_all
            else "the kernel ends one of its processes, most likely a run's, whichever it is"
        )
        advice = "set worker_memory_limit_mb"
        if worker_memory_limit_mb is not None:
            advice = (
                f"worker_memory_limit_mb is {worker_memory_limit_mb}, for each process of a run"
            )
        if self.limit_bytes is not None:
            fits_mb = (self.limit_bytes // _MB - _SERVER_SHARE_MB) // workers
            advice += f"; {fits_mb} fits {workers} workers"
            if fits_mb < _LEAST_FOR_A_RUN_MB:
                advice = f"that is too little for {workers} workers: set fewer, or give it more"
        return f"Where the memory{limit} that this control group has runs out, {meaning}: {advice}"


def _groups(root: Path) -> Iterator[Path]:
    """Return the folders of this process's memory control group and its ancestors."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            top = root / "sys/fs/cgroup"
            if "memory" in controllers.split(","):
                top /= "memory"
            elif number != "0":
                continue
            # In a container, the path may be the host's, and the root this process's own group.
            parts = [part for part in path.split("/") if part]
            for depth in range(0 if ".." in parts else len(parts), -1, -1):
                yield top.joinpath(*parts[:depth])
