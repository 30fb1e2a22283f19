"""Which versions of its datasets a served pipeline loads: one set that belongs together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.errors import LoadFailedError, NothingToLoadError
from kedro_flask_server.model.run import ACTIVE, RunStatus
from kedro_flask_server.model.run_id import is_run_id
from kedro_flask_server.model.served import DatasetVersion, DatasetVersions

# Of the versions of a dataset, the newest; and how many ended runs are remembered.
_MAX_LOOKED_AT = 50
_MAX_ENDED = 10_000

StatusesOf = Callable[[Sequence[str]], Mapping[str, str]]


class NewestSet:
    """Chooses the newest data that is whole.

    A version is that of the run which has made it: it is whole if that has succeeded. What no known
    run has made, and a file without versions, is whole if it is stable: it has not changed for some
    time. What cannot be looked at at all is taken as it is.
    """

    def __init__(
        self,
        statuses_of: StatusesOf,
        *,
        stable_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a look.

        Args:
            statuses_of: Returns the statuses of the runs among some versions.
            stable_after_s: For how long what is stable has not changed, in seconds.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._statuses_of = statuses_of
        self._stable_after_s = stable_after_s
        self._clock = clock
        self._seen: dict[tuple[str, str | None], tuple[str, float]] = {}
        self._ended: BoundedCache[str, str] = BoundedCache(_MAX_ENDED)

    def choose(
        self,
        found: DatasetVersions,
        *,
        pinned: Mapping[str, str] | None = None,
        being_written: Collection[str] = (),
    ) -> dict[str, DatasetVersion]:
        """Return what to load for each dataset.

        Args:
            found: What could be loaded.
            pinned: The versions that were asked for.
            being_written: The datasets that an executing run writes, in a version or without.

        Raises:
            NothingToLoadError: If there is nothing for a dataset that is whole.
            LoadFailedError: If a version that was asked for is not there.
        """
        self._look_at(found)
        statuses = self._statuses(found)
        chosen = {}
        for name, versions in found.items():
            wanted = (pinned or {}).get(name)
            if wanted is not None:
                chosen[name] = _of_version(name, versions, wanted)
                continue
            for each in versions:
                is_written = name.partition("@")[0] in being_written
                if self._is_whole(name, each, statuses, is_written=is_written):
                    chosen[name] = each
                    break
            else:
                raise NothingToLoadError(name)
        return chosen

    def _look_at(self, found: DatasetVersions) -> None:
        """Record since when everything is as it is."""
        now, before = self._clock(), self._seen
        self._seen = {}
        for name, versions in found.items():
            for each in versions[:_MAX_LOOKED_AT]:
                state, since = before.get((name, each.version), ("", now))
                is_same = state == each.state and (name, each.version) in before
                self._seen[name, each.version] = (each.state, since if is_same else now)

    def _statuses(self, found: DatasetVersions) -> Mapping[str, str]:
        """Return the statuses of the runs among the newest versions.

        Those that have ended are remembered: their rows may be purged.
        """
        versions = {
            each.version
            for of_dataset in found.values()
            for each in of_dataset[:_MAX_LOOKED_AT]
            if each.version is not None and is_run_id(each.version)
        }
        statuses = {each: status for each in versions if (status := self._ended.get(each))}
        # A retry may have mended what has failed.
        asked = sorted(each for each in versions if statuses.get(each) != RunStatus.SUCCESS)
        for version, status in (self._statuses_of(asked) if asked else {}).items():
            statuses[version] = status
            if status not in ACTIVE:
                self._ended.put(version, status)
        return statuses

    def _is_whole(
        self, name: str, version: DatasetVersion, statuses: Mapping[str, str], *, is_written: bool
    ) -> bool:
        status = statuses.get(version.version or "")
        if status is not None:
            return status == RunStatus.SUCCESS
        if version.version is None and is_written:
            return False
        if version.age_s is not None and version.age_s >= self._stable_after_s:
            return True
        if not version.state and version.version is None:  # nothing of it can be looked at
            return True
        seen = self._seen.get((name, version.version))
        return seen is not None and self._clock() - seen[1] >= self._stable_after_s


def _of_version(name: str, versions: Sequence[DatasetVersion], wanted: str) -> DatasetVersion:
    for each in versions:
        if each.version == wanted:
            return each
    known = ", ".join(str(each.version) for each in versions[:10]) or "none"
    raise LoadFailedError(f"'{name}' has no version {wanted!r}. The newest are: {known}.")
