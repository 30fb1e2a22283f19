"""Knows what runs will read and write, before they start."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import Any

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.config.settings import ServerConfig, keeps_runs_apart
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.data_access import Locks
from kedro_flask_server.model.run import RunRequest

# Up to some 100 kB each, with hundreds of datasets.
_MAX_REQUESTS = 200

# The fields of a request that decide which nodes run.
_SELECTION = (
    "pipeline_names",
    "from_inputs",
    "to_outputs",
    "from_nodes",
    "to_nodes",
    "node_names",
    "tags",
    "namespaces",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is known of the runs of the same nodes.

    Attributes:
        locks: The locks that all of them have had.
        depends_on_params: Whether they have others with other parameters; None while that is not
            known.
        planned: What the configuration said, where it was looked at.
    """

    locks: Locks
    depends_on_params: bool | None
    planned: Locks | None = None


class AccessPlanner:
    """Finds the locks of runs, and remembers them.

    What it remembers may be out of date, after an edit of the catalog: the process that executes a
    run compares it with the catalog of the run, and `learn` replaces it.
    """

    def __init__(self, executor: Executor, config: ServerConfig) -> None:
        """Prepare.

        Args:
            executor: Has the project.
            config: ``dataset_conflicts`` and ``conflict_exempt_pipelines``.
        """
        self._executor = executor
        self._is_needed = keeps_runs_apart(config)
        self._exempt = frozenset(config.conflict_exempt_pipelines)
        self._plans: BoundedCache[str, _Plan] = BoundedCache(_MAX_REQUESTS)
        self._with_params: BoundedCache[str, Locks] = BoundedCache(_MAX_REQUESTS)
        self._lock = threading.Lock()

    def has_locks(self, request: RunRequest) -> bool:
        """Return whether a run acquires locks at all."""
        return self._is_needed and not self._exempt.issuperset(request.pipelines)

    def plan(
        self, request: RunRequest, *, must_be_whole: bool = True, anew: bool = False
    ) -> Locks | None:
        """Return the locks of a run.

        Args:
            request: What to run.
            must_be_whole: Whether to look at the project for parameters that are not known. If not,
                the locks may be those alone that runs of these nodes have with any parameters.
            anew: Whether to forget what is remembered of such runs.

        Returns:
            The locks; None where they cannot be told, or the run needs none. Then, as where they
            are not whole, the process that executes the run finds them before it begins.
        """
        if not self.has_locks(request):
            return None
        locks = None if anew else self._known(request, must_be_whole=must_be_whole)
        if locks is not None:
            return locks
        with self._lock:  # several that come at once are looked up once
            locks = None if anew else self._known(request, must_be_whole=must_be_whole)
            return self._look(request) if locks is None else locks

    def learn(self, request: RunRequest, locks: Locks) -> None:
        """Remember the locks that the process which executes a run has found."""
        key = _key_of(request)
        plan = self._plans.get(key)
        if plan is not None and plan.depends_on_params:
            plan = replace(plan, locks=_common(plan.locks, locks))
        else:
            # Other parameters, an edited catalog, or a hook: the next look tells.
            planned = None if plan is None else plan.planned
            plan = _Plan(locks=locks, depends_on_params=None, planned=planned)
        self._plans.put(key, plan)
        self._with_params.put(_key_with_params(key, request), locks)

    def _known(self, request: RunRequest, *, must_be_whole: bool) -> Locks | None:
        """Return the locks that are remembered; None where a look at the project is due."""
        key = _key_of(request)
        plan = self._plans.get(key)
        if plan is None:
            return None
        if plan.depends_on_params is False:
            return plan.locks
        locks = self._with_params.get(_key_with_params(key, request))
        if locks is None and plan.depends_on_params and not must_be_whole:
            return Locks("", plan.locks.each)
        return locks

    def _look(self, request: RunRequest) -> Locks | None:
        found = self._executor.data_access(request)
        if found is None:
            return None
        key, locks = _key_of(request), found.access.locks()
        before = self._plans.get(key)
        # The configuration says the same as before, and runs have found something else.
        is_changed_by_hook = before is not None and before.planned == locks != before.locks
        depends = found.depends_on_params or is_changed_by_hook
        is_one_of_several = depends and before is not None and bool(before.depends_on_params)
        common = _common(before.locks, locks) if before and is_one_of_several else locks
        self._plans.put(key, _Plan(locks=common, depends_on_params=depends, planned=locks))
        if depends:
            self._with_params.put(_key_with_params(key, request), locks)
        return locks


def _common(one: Locks, other: Locks) -> Locks:
    both = {(lock.location, lock.mode) for lock in other.each}
    return Locks("", tuple(lock for lock in one.each if (lock.location, lock.mode) in both))


def selection_of(request: RunRequest) -> list[Any]:
    """Return what decides which nodes of its pipelines a request runs."""
    return [getattr(request, name) for name in _SELECTION]


def _key_of(request: RunRequest) -> str:
    exchange = request.exchange
    data = None if exchange is None else (sorted(exchange.inputs), exchange.saves)
    return json.dumps([*selection_of(request), data])


def _key_with_params(key: str, request: RunRequest) -> str:
    return f"{key}{json.dumps(request.params)}"
