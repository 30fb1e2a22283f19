"""The pipelines that a server serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import NotServedError, StoreUnavailableError
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.runs.run_data import RunDataService
from kedro_flask_server.runs.served_pipeline import ServedPipeline
from kedro_flask_server.store import RunStore

# For how long what is paused counts as known.
_KNOWN_FOR_S = 1.0


class ServedPipelines:
    """All served pipelines of a server, by their names."""

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        keeper: DataKeeper,
        config: ServerConfig,
        *,
        data: RunDataService,
        ids: RunIds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` begins to load.

        Args:
            store: Has the runs.
            executor: Has the project.
            keeper: Keeps the data of calls.
            config: ``served_pipelines``, and the settings of `ServedPipeline`.
            data: Answers what calls ask about their data.
            ids: Issues the ids of runs and calls.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._store = store
        self._clock = clock
        self._paused: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._looking = threading.Lock()
        self._pipelines = {
            name: ServedPipeline(
                name,
                settings,
                store=store,
                executor=executor,
                keeper=keeper,
                config=config,
                data=data,
                ids=ids,
                is_paused=self._is_paused,
            )
            for name, settings in config.served_pipelines.items()
        }

    def __iter__(self) -> Iterator[ServedPipeline]:
        return iter(self._pipelines.values())

    def get(self, name: str) -> ServedPipeline | None:
        """Return a served pipeline; None for one that is not served."""
        return self._pipelines.get(name)

    def named(self, name: str) -> ServedPipeline:
        """Return a served pipeline.

        Raises:
            NotServedError: If it is none.
        """
        found = self._pipelines.get(name)
        if found is None:
            raise NotServedError(name)
        return found

    def start(self) -> None:
        """Begin to load."""
        for each in self:
            each.start()

    def stop(self) -> None:
        """Take no more calls."""
        for each in self:
            each.stop()

    def wait_until_idle(self, timeout_s: float) -> None:
        """Wait for the calls that execute, for some seconds at most."""
        ends_at = self._clock() + timeout_s
        for each in self:
            each.wait_until_idle(max(0.0, ends_at - self._clock()))

    def close(self) -> None:
        """End all workers."""
        for each in self:
            each.close()

    def dead_threads(self) -> list[str]:
        """Return the names of threads that have ended."""
        return ["kedro-served-loader" for each in self if not each.is_alive()]

    def warnings(self) -> dict[str, str]:
        """Return what is wrong, by pipeline; other runs go on."""
        return {each.name: each.fault for each in self if each.fault is not None}

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return what is served of a pipeline, as JSON data; None for one that is not served."""
        found = self._pipelines.get(name)
        return None if found is None else found.describe()

    def described(self, request: RunRequest) -> dict[str, Any] | None:
        """Return what data a whole pipeline takes and returns that is served; None of all else."""
        served = self._pipelines.get(request.pipelines[0])
        if served is None or request != RunRequest(pipeline_names=[served.name]):
            return None
        return served.described

    def forget_paused(self) -> None:
        """Look again what is paused."""
        self._paused = (float("-inf"), frozenset())

    def _is_paused(self, name: str) -> bool:
        at, paused = self._paused
        if self._clock() - at > _KNOWN_FOR_S:
            with self._looking:
                at, paused = self._paused
                if self._clock() - at > _KNOWN_FOR_S:
                    paused = self._look_for_paused(paused)
                    self._paused = (self._clock(), paused)
        return not paused.isdisjoint(("", name))

    def _look_for_paused(self, known: frozenset[str]) -> frozenset[str]:
        try:
            return self._store.queue_control.paused()
        except StoreUnavailableError:  # calls that are not recorded go on without it
            return known
