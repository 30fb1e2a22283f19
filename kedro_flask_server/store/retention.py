"""Deletes runs beyond the retention limits, robustly against changes of the clock.

Runs are ordered by their end, by the database's clock. That may be set, forward or back, by seconds
or by years, so that an end may lie in the future, or so far back that the run seems old:

- An end in the future was before the clock was set back: retention counts from then instead.
- If the clock is set forward while this server observes it, the ends of the last day move with it.
- Runs that have just ended are never deleted, and of old runs at most an hour's are deleted in a
  minute, so that a clock which is wrong for a while cannot empty the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, delete, func, select, tuple_, update

from kedro_flask_server.model.run_id import run_id_at
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.schema import events, runs
from kedro_flask_server.store.summaries import octets

SPARED_S = 300.0
"""How many seconds after its end a run is always kept."""

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

# Time synchronization corrects a clock by less.
_JUMP_MS = 5 * _MINUTE_MS

# How many rows one step changes or deletes, so that no lock is held for long.
_STEP_RUNS = 100
_STEP_CHARS = 4_000_000
_STEP_EVENTS = 2_000

_ended_at = func.coalesce(runs.c.counts_from, runs.c.finished_at)
_is_ended = runs.c.finished_at.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """A round of steps that ends when nothing is left to delete; times are in milliseconds."""

    now: int
    future_counts_from: int
    jumped_ms: int
    to_move: list[str]
    oldest: int | None


class Retention:
    """Selects and deletes runs of one project and environment."""

    def __init__(
        self,
        database: Database,
        *,
        project: str,
        env: str,
        now_ms: Callable[[Connection], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Limit the stored runs of a project and environment.

        Args:
            database: The database.
            project: The project's name.
            env: The configuration environment.
            now_ms: Returns the time; by default that of the database's clock.
            monotonic: Returns monotonic seconds.
        """
        self._database = database
        self._ended = (runs.c.project == project, runs.c.env == env, _is_ended)
        self._now_ms = now_ms or database.now_ms
        self._monotonic = monotonic
        self._seen_at = monotonic()
        self._seen_now: int | None = None
        self._round: _Round | None = None

    def purge(
        self, *, keep_runs: int, keep_days: float, key_hours: float, spared_s: float = SPARED_S
    ) -> bool:
        """Delete some of the runs beyond the limits, with their dependent rows.

        Args:
            keep_runs: How many ended runs to keep, those that ended last.
            keep_days: How many days after its end to keep a run.
            key_hours: How many hours to keep a run with an idempotency key in any case.
            spared_s: How many seconds after its end to keep a run in any case.

        Returns:
            Whether there may be more to delete.
        """
        if self._round is None:
            self._round = self._begin(key_hours)
        if self._correct_ends(self._round):
            return True
        run_ids = self._choose(self._round, keep_runs, keep_days, key_hours, spared_s)
        if not run_ids:
            self._round = None
            return False
        self._delete(run_ids)
        return True

    def _begin(self, key_hours: float) -> _Round:
        by_end = select(_ended_at).where(*self._ended, ~_is_bound(key_hours)).order_by(_ended_at)
        with self._database.reading() as connection:
            now = self._now_ms(connection)
            oldest = connection.execute(by_end.limit(1)).scalar()
            seen_at = self._monotonic()
            elapsed_ms = round((seen_at - self._seen_at) * 1000)
            jumped_ms = 0 if self._seen_now is None else now - self._seen_now - elapsed_ms
            to_move = []
            if jumped_ms >= _JUMP_MS:
                before = now - jumped_ms
                of_last_day = (_ended_at > before - _DAY_MS, _ended_at <= before + _MINUTE_MS)
                found = select(runs.c.run_id).where(*self._ended, *of_last_day)
                to_move = [*connection.execute(found).scalars()]
        self._seen_at, self._seen_now = seen_at, now
        return _Round(
            now=now,
            # The earliest time at which the clock was set back; later ends are correct.
            future_counts_from=now - elapsed_ms,
            jumped_ms=jumped_ms,
            to_move=to_move,
            oldest=oldest,
        )

    def _correct_ends(self, current: _Round) -> bool:
        """Correct some of the ends that a change of the clock has misplaced.

        Returns:
            Whether there were any.
        """
        is_future = _ended_at > current.now + _MINUTE_MS
        some = select(runs.c.run_id).where(*self._ended, is_future).limit(_STEP_RUNS)
        with self._database.reading() as connection:
            run_ids = list(connection.execute(some).scalars())
        counts_from: Any = current.future_counts_from
        if not run_ids:
            run_ids = current.to_move[-_STEP_RUNS:]
            del current.to_move[-_STEP_RUNS:]
            counts_from = _ended_at + current.jumped_ms
        if run_ids:
            with self._database.writing() as connection:
                of_runs = update(runs).where(runs.c.run_id.in_(run_ids), _is_ended)
                connection.execute(of_runs.values(counts_from=counts_from))
        return bool(run_ids)

    def _choose(
        self,
        current: _Round,
        keep_runs: int,
        keep_days: float,
        key_hours: float,
        spared_s: float,
    ) -> list[str]:
        """Return the runs to delete in one step, the oldest first."""
        too_old_at = current.now - round(keep_days * _DAY_MS)
        if current.oldest is not None:
            too_old_at = min(too_old_at, current.oldest + _HOUR_MS)
        newest = select(_ended_at.label("ended_at"), runs.c.run_id).where(*self._ended)
        newest = newest.order_by(_ended_at.desc(), runs.c.run_id.desc())
        is_spared = _ended_at > current.now - round(spared_s * 1000)
        with self._database.reading() as connection:
            first = connection.execute(newest.offset(keep_runs).limit(1)).one_or_none()
            is_over = _ended_at < too_old_at
            if first is not None:
                is_same = (_ended_at == first.ended_at) & (runs.c.run_id <= first.run_id)
                is_over |= (_ended_at < first.ended_at) | is_same
            chosen = select(runs.c.run_id, octets(runs.c.request).label("size")).where(
                *self._ended, is_over, ~is_spared, ~_is_bound(key_hours)
            )
            oldest_first = chosen.order_by(_ended_at, runs.c.run_id).limit(_STEP_RUNS)
            found = connection.execute(oldest_first)
            run_ids: list[str] = []
            size = 0
            for row in found:
                size += row.size
                if run_ids and size > _STEP_CHARS:
                    break
                run_ids.append(row.run_id)
            found.close()
            return run_ids

    def _delete(self, run_ids: list[str]) -> None:
        with self._database.writing() as connection:
            of_runs = select(events.c.run_id, events.c.id).where(events.c.run_id.in_(run_ids))
            step = connection.execute(of_runs.limit(_STEP_EVENTS)).all()
            if step:
                which = tuple_(events.c.run_id, events.c.id).in_([tuple(each) for each in step])
                # By the pairs alone, SQLite would scan the whole table.
                is_of_runs = events.c.run_id.in_({each.run_id for each in step})
                connection.execute(delete(events).where(is_of_runs, which))
            if len(step) < _STEP_EVENTS:
                connection.execute(delete(runs).where(runs.c.run_id.in_(run_ids)))


def _is_bound(key_hours: float) -> Any:
    """Return whether a run has a valid key."""
    begin = run_id_at(datetime.now(timezone.utc) - timedelta(hours=key_hours))
    return runs.c.idempotency_key.is_not(None) & (runs.c.run_id >= begin)
