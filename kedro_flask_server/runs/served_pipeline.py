"""A pipeline that is served: its calls, and the generations of its workers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.config.settings import ServerConfig, timeout_of
from kedro_flask_server.errors import (
    LoadFailedError,
    NothingToLoadError,
    PipelineNotReadyError,
    ServerStoppingError,
    StoreUnavailableError,
)
from kedro_flask_server.executors import Executor, ServedWorkers
from kedro_flask_server.model.data_exchange import DataRequest, Output, RunOutputs
from kedro_flask_server.model.media_types import JSON
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import (
    ANONYMOUS,
    ErrorDetail,
    Run,
    RunFilter,
    RunOutcome,
    RunRequest,
    RunStatus,
    StopReason,
    Submitter,
)
from kedro_flask_server.model.run_id import RunIds, time_of
from kedro_flask_server.model.served import (
    ALL,
    FAILURES,
    MANUAL,
    DatasetVersion,
    Preload,
    ServedSettings,
)
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.redaction import SECRETS, redact_urls
from kedro_flask_server.runs.call_slots import CallSlots
from kedro_flask_server.runs.call_statistics import CallStatistics
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.runs.newest_set import NewestSet
from kedro_flask_server.runs.run_data import RunDataService
from kedro_flask_server.runs.served_generation import ServedGeneration
from kedro_flask_server.store import PendingEvents, RunStore
from kedro_flask_server.store.calls import FIRST_EVENTS, EndedCall
from kedro_flask_server.store.promotions import Promotion
from kedro_flask_server.text import bounded, printable

logger = logging.getLogger(__name__)

# How often a call looks whether its client is there.
_LOOK_EVERY_S = 0.1

# A retry of what failed for want of a process, or of what may be being written.
_SOON_S = 1.0

_MAX_RUNNING = 200

_MAX_FAULT_CHARS = 2_000

# The pauses between attempts to load what could not be loaded.
_LONGEST_PAUSE_S = 300.0

# How long the end of the server waits for what is just being looked at.
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that has ended.

    Attributes:
        run: The same as a run.
        outputs: What it has returned.
        is_recorded: Whether it is in the store.
    """

    run: Run
    outputs: RunOutputs
    is_recorded: bool


class ServedPipeline:
    """Executes calls in workers of its own, which have the newest data loaded."""

    def __init__(
        self,
        name: str,
        settings: ServedSettings,
        *,
        store: RunStore,
        executor: Executor,
        keeper: DataKeeper,
        config: ServerConfig,
        data: RunDataService,
        ids: RunIds,
        is_paused: Callable[[str], bool],
    ) -> None:
        """Prepare; `start` begins to load.

        Args:
            name: The pipeline.
            settings: Its settings.
            store: Records its calls, and has what it is to load.
            executor: Has the project.
            keeper: Keeps the data of its calls.
            config: ``run_timeout_s``, ``queue_timeout_s`` and ``max_inline_output_bytes``.
            data: Answers what calls ask about their data.
            ids: Issues the ids of calls.
            is_paused: Returns whether a pipeline is paused.
        """
        self.name = name
        self.settings = settings
        self._store = store
        self._executor = executor
        self._keeper = keeper
        self._config = config
        self._data = data
        self._ids = ids
        self._is_paused = is_paused
        self._slots = CallSlots(name, slots=settings.workers, max_waiting=settings.max_waiting)
        self._statistics = CallStatistics()
        self._newest = NewestSet(self._statuses, stable_after_s=settings.poll_s)
        self._writes: BoundedCache[tuple[str, ...], frozenset[str]] = BoundedCache(_MAX_RUNNING)
        self._current: ServedGeneration | None = None
        self._loading: ServedWorkers | None = None
        self._reloading = threading.Lock()
        self._number = 0
        self._refused = _Refused()
        self._promotion = Promotion(versions={})
        self._fault: str | None = "it is being loaded."
        self._is_fault_of_project = False
        self._is_stopping = False
        self._wake = threading.Event()
        self._thread = BackgroundThread(self._work, name="kedro-served-loader")

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether its thread is alive."""
        return self._thread.is_alive()

    @property
    def fault(self) -> str | None:
        """Why it takes no calls, or could not load newer data; None where all is well."""
        current = self._current
        down = None if current is None else current.workers.fault()
        return self._fault if down is None else _safe(down)

    def call(self, submission: Submission, *, folder: str, is_gone: Callable[[], bool]) -> Call:
        """Execute a call, and wait for its end.

        Args:
            submission: The call.
            folder: The folder for what it returns.
            is_gone: Returns whether its client is gone, which stops it.

        Raises:
            PipelineNotReadyError: If it is paused, or nothing is loaded.
            ServerBusyError: If too many wait.
            QuotaError: If the caller has reached a quota.
            ServerStoppingError: If the server is stopping.
            StoreUnavailableError: If each call is to be recorded, and this one could not be.
        """
        try:
            self._refuse()
            return self._call(submission, folder, is_gone)
        except BaseException:
            self._statistics.add_refused()
            raise

    def _refuse(self) -> None:
        if self._is_stopping:
            raise ServerStoppingError
        if self._is_paused(self.name):
            raise PipelineNotReadyError(self.name, "it is paused.")
        current = self._current
        if current is None:
            raise self._not_ready()
        down = current.workers.fault()
        if down is not None:  # they are tried again at growing intervals
            raise PipelineNotReadyError(self.name, _safe(down), is_of_project=True)

    def _not_ready(self) -> PipelineNotReadyError:
        return PipelineNotReadyError(
            self.name, self._fault or "", is_of_project=self._is_fault_of_project
        )

    def _call(self, submission: Submission, folder: str, is_gone: Callable[[], bool]) -> Call:
        request, run_id = submission.request, self._ids.next()
        stop, began = StopRequest(), time.monotonic()
        waiting = _Limit("queued", "queue_timeout_s", self._config, self.name)
        report = RunReport(after=FIRST_EVENTS, max_log_bytes=self._config.max_log_bytes)
        started_at = time_of(run_id)

        def look_while_waiting() -> float | None:
            if is_gone():
                stop.ask(StopReason.CANCEL, "Its client is gone.")
            is_over = self._is_stopping or stop.reason is not None
            return None if is_over else waiting.remaining_s()

        with self._slots.slot(submission.submitter, look_while_waiting) as has_slot:
            if has_slot:
                started_at = max(datetime.now(timezone.utc), started_at)
                outcome = self._execute(run_id, request, report, folder, stop=stop, is_gone=is_gone)
            elif self._is_stopping:
                raise ServerStoppingError
            elif stop.reason is not None:
                outcome = stop.outcome(0)
            else:
                outcome = waiting.outcome()
        self._statistics.add(outcome.status, (time.monotonic() - began) * 1000)
        report.end()
        run = Run(
            run_id=run_id,
            project=self._store.scope.project,
            env=self._store.scope.env,
            status=outcome.status,
            request=request,
            created_at=time_of(run_id),
            started_at=started_at,
            finished_at=max(datetime.now(timezone.utc), started_at),
            duration_ms=outcome.duration_ms,
            progress=report.progress,
            error=outcome.error,
            submitted_by=submission.submitter.name or None,
            labels=submission.labels,
        )
        outputs = RunOutputs(folder=folder, outputs=report.outputs)
        if not self._is_recorded(run, report.outputs):
            return Call(run=run, outputs=outputs, is_recorded=False)
        return self._record(run, outputs, report, submission.submitter)

    def _execute(
        self,
        run_id: str,
        request: RunRequest,
        report: RunReport,
        folder: str,
        *,
        stop: StopRequest,
        is_gone: Callable[[], bool],
    ) -> RunOutcome:
        data = self._data.of_call(folder, tells_failures_alone=self.settings.record != ALL)
        look = self._looking(stop, is_gone)
        while True:
            generation = self._current
            if generation is None:
                raise self._not_ready()
            if generation.enter():
                break
        try:
            return generation.workers.execute(run_id, request, report, data, stop=stop, look=look)
        finally:
            generation.leave()

    def _looking(self, stop: StopRequest, is_gone: Callable[[], bool]) -> Callable[[], float]:
        """Return what stops a call that takes too long, or whose client is gone, when called."""
        limit = _Limit("taken", "run_timeout_s", self._config, self.name)
        look_at = time.monotonic() + _LOOK_EVERY_S

        def look() -> float:
            nonlocal look_at
            remaining_s, now = limit.remaining_s(), time.monotonic()
            if remaining_s is None:
                stop.ask(StopReason.TIMEOUT, limit.message)
            elif now >= look_at:
                look_at = now + _LOOK_EVERY_S
                if is_gone():
                    stop.ask(StopReason.CANCEL, "Its client is gone.")
            return _LOOK_EVERY_S if remaining_s is None else remaining_s

        return look

    def _is_recorded(self, run: Run, outputs: Mapping[str, Output]) -> bool:
        record = self.settings.record
        if record == ALL or (record == FAILURES and run.status is RunStatus.FAILURE):
            return True
        exchange = run.request.exchange
        limit = self._config.max_inline_output_bytes
        return any(
            each.is_returned and each.has_data and _has_address(each, exchange, limit)
            for each in outputs.values()
        )

    def _record(
        self, run: Run, outputs: RunOutputs, report: RunReport, submitter: Submitter
    ) -> Call:
        run = replace(run, request=self._keeper.with_files(run.request))
        stored_outputs = self._keeper.outputs_with_files(outputs)
        told = PendingEvents(
            server_id="",
            events=report.drain(),
            progress=report.progress,
            provenance=report.drain_provenance(),
            summary=report.summary,
            outputs=stored_outputs.outputs,
        )
        ended = EndedCall(run=run, told=told, submitter=submitter, folder=outputs.folder or "")
        try:
            stored = self._store.calls.add(ended, self._ids.next)
        except StoreUnavailableError:
            if self.settings.record == ALL or run.status is RunStatus.SUCCESS:
                raise
            logger.exception("The failure of a call of '%s' could not be recorded", self.name)
            return Call(run=run, outputs=outputs, is_recorded=False)
        return Call(run=stored, outputs=outputs, is_recorded=True)

    def reload(self, versions: Mapping[str, str], by: Submitter) -> None:
        """Load what is newest, or versions that are given; other servers follow.

        Args:
            versions: The datasets, each with its version; those that are not given follow the
                newest.
            by: The caller who asks for it.

        Raises:
            LoadFailedError: If it cannot be loaded; what was loaded before stays.
            NothingToLoadError: If there is nothing to load.
        """
        for name in versions:
            if name not in self.settings.preload:
                raise LoadFailedError(
                    f"'{name}' is not preloaded. What is: {', '.join(self.settings.preload)}."
                )
        with self._reloading:
            chosen = self._choose(versions)
            self._load(chosen, anew=True)
            if self.settings.reload == MANUAL:
                versions = _versions(chosen)
            self._promotion = self._store.promotions.put(self.name, versions, by)

    def stop(self) -> None:
        """Take no more calls."""
        self._is_stopping = True
        self._wake.set()

    def wait_until_idle(self, timeout_s: float) -> None:
        """Wait for the calls that execute, for some seconds at most."""
        ends_at = time.monotonic() + timeout_s
        while self._slots.executing and time.monotonic() < ends_at:
            time.sleep(0.01)

    def close(self) -> None:
        """End the workers, and the calls that still execute."""
        self.stop()
        loading = self._loading
        if loading is not None:
            loading.close()
        self._thread.join(_END_S)
        current, self._current = self._current, None
        if current is not None:
            current.close()

    def describe(self) -> dict[str, Any]:
        """Return what is loaded, and the statistics of its calls, as JSON data."""
        current = self._current
        loaded: dict[str, Any] = {"generation": None, "since": None, "versions": {}}
        if current is not None:
            loaded = {
                "generation": current.number,
                "since": current.since,
                "versions": {**current.loaded.versions},
            }
        return {
            **loaded,
            "pinned": {**self._promotion.versions},
            "fault": self.fault,
            "workers": self.settings.workers,
            "executing": self._slots.executing,
            "waiting": self._slots.waiting,
            "max_waiting": self.settings.max_waiting,
            "record": self.settings.record,
            "reload": self.settings.reload,
            **self._statistics.dump(),
        }

    @property
    def described(self) -> dict[str, Any] | None:
        """What data the pipeline takes and returns as it is loaded; None while it is not."""
        current = self._current
        return None if current is None else current.described

    @property
    def load_versions(self) -> dict[str, str]:
        """The versions that are loaded, for a run that is to load the same."""
        current = self._current
        versions = {} if current is None else current.loaded.versions
        return {name: each for name, each in versions.items() if each is not None}

    def _work(self) -> None:
        while not self._is_stopping:
            pause_s = self.settings.poll_s
            try:
                with self._reloading:
                    self._look()
            except (NothingToLoadError, LoadFailedError) as error:
                self._note_fault(str(error), is_of_project=isinstance(error, LoadFailedError))
                if self._current is None:
                    pause_s = min(pause_s, _SOON_S)
            except StoreUnavailableError as error:
                logger.debug("What '%s' is to load is not known now: %s", self.name, error)
                pause_s = min(pause_s, _SOON_S)
            except Exception as error:  # the next look may find something else
                logger.debug("'%s' could not load", self.name, exc_info=error)
                self._note_fault(f"{type(error).__qualname__}: {error}", is_of_project=True)
            self._wake.wait(pause_s)
            self._wake.clear()

    def _look(self) -> None:
        """Load what is newer, or what was asked for, if that is due.

        Raises:
            NothingToLoadError: If there is nothing to load.
            LoadFailedError: If it cannot be loaded.
        """
        promotion = self._store.promotions.of(self.name)
        is_asked = promotion.number > self._promotion.number
        if self._current is not None and self.settings.reload == MANUAL and not is_asked:
            return
        chosen = self._choose(promotion.versions)
        if self._refused.waits_with(chosen):
            return
        self._load(chosen, anew=is_asked and self._current is not None)
        if self.settings.reload == MANUAL and promotion.number == 0:
            # Other servers, and this one when it starts again, serve what was the first.
            promotion = self._store.promotions.put_first(self.name, _versions(chosen), ANONYMOUS)
        self._promotion = promotion

    def _choose(self, pinned: Mapping[str, str]) -> dict[str, DatasetVersion]:
        if not self.settings.preload:
            return {}
        found = self._executor.dataset_versions(self.settings.preload)
        if isinstance(found, ErrorDetail):
            raise LoadFailedError(f"{found.type}: {found.message}")
        is_unversioned = any(each.version is None for of in found.values() for each in of)
        return self._newest.choose(
            found, pinned=pinned, being_written=self._written() if is_unversioned else ()
        )

    def _statuses(self, versions: Collection[str]) -> Mapping[str, str]:
        later = datetime.now(timezone.utc) + timedelta(days=1)
        return self._store.statuses([*versions], later)

    def _written(self) -> set[str]:
        """Return the datasets that executing runs write."""
        running = self._store.page(
            RunFilter(statuses=(RunStatus.RUNNING,)), limit=_MAX_RUNNING, cursor=None
        )
        written: set[str] = set()
        for pipelines in {run.request.pipelines for run in running.runs}:
            known = self._writes.get(pipelines)
            if known is None:
                found = self._executor.data_access(RunRequest(pipeline_names=[*pipelines]))
                names = () if found is None else found.access.writes
                known = frozenset(name.partition("@")[0] for name in names)
                self._writes.put(pipelines, known)
            written |= known
        return written

    def _load(self, chosen: Mapping[str, DatasetVersion], *, anew: bool) -> None:
        """Load a set.

        Args:
            chosen: The set.
            anew: Whether to load it even if it is loaded: the configuration may have changed.

        Raises:
            NothingToLoadError: If there is nothing to load.
            LoadFailedError: If it cannot be loaded.
        """
        current = self._current
        if current is not None and _states(current.chosen) == _states(chosen) and not anew:
            self._refused, self._fault = _Refused(), None
            return
        preload = Preload(
            pipeline=self.name,
            versions={name: each.version for name, each in chosen.items()},
            states={name: each.state for name, each in chosen.items() if each.version is None},
            check=self.settings.check,
        )
        workers = self._executor.served_workers(preload, self.settings)
        self._loading = workers
        try:
            workers.start()
            loaded = workers.wait_until_loaded()
            described = self._described()
            self._rehearse(workers, described)
        except BaseException as error:
            if isinstance(error, LoadFailedError):
                self._refused = self._refused.once_more(chosen, self.settings.poll_s)
            workers.close()
            raise
        finally:
            self._loading = None
        self._number += 1
        new = ServedGeneration(self._number, workers, chosen, loaded, described)
        self._current, self._refused, self._fault = new, _Refused(), None
        logger.info(
            "Pipeline '%s' is served, generation %d: %s", self.name, new.number, _shown(loaded)
        )
        if current is not None:
            current.retire()
        if self._is_stopping:
            new.close()

    def _rehearse(self, workers: ServedWorkers, described: Mapping[str, Any]) -> None:
        """Have each worker answer a call with the examples of the catalog, never recorded.

        Raises:
            LoadFailedError: If it fails.
        """
        request = self._example(described)
        if request is None:
            return

        def call_once(_: int) -> RunOutcome:
            folder, files = self._keeper.files.new_folder(), self._keeper.files
            stop = StopRequest()
            try:
                return workers.execute(
                    self._ids.next(),
                    request,
                    RunReport(after=0, max_log_bytes=0),
                    self._data.of_call(folder, tells_failures_alone=True),
                    stop=stop,
                    look=self._looking(stop, lambda: self._is_stopping),
                )
            finally:
                files.delete(folder)

        try:
            with ThreadPoolExecutor(
                self.settings.workers, thread_name_prefix="kedro-served-rehearsal"
            ) as pool:
                outcomes = [*pool.map(call_once, range(self.settings.workers))]
        finally:
            self._keeper.files.delete((request.exchange or DataRequest()).folder or "")
        for outcome in outcomes:
            if outcome.error is not None:
                raise LoadFailedError(
                    "a call with the examples of the catalog failed: "
                    f"{outcome.error.type}: {outcome.error.message}"
                )

    def _example(self, described: Mapping[str, Any]) -> RunRequest | None:
        """Return a call with the examples of the catalog; None where an input has none."""
        required = {name: each for name, each in described["inputs"].items() if each["is_required"]}
        if not all("example" in each and JSON in each["media_types"] for each in required.values()):
            return None
        contents = {name: each["example"] for name, each in required.items()}
        given = self._keeper.write_json(contents)
        exchange = DataRequest(
            inputs=given.inputs,
            outputs=tuple(described["outputs"]),
            saves=False,
            folder=given.folder,
        )
        return RunRequest(pipeline_names=[self.name], data=exchange.dump())

    def _described(self) -> dict[str, Any]:
        """Return what data the pipeline takes and returns.

        Raises:
            LoadFailedError: If that cannot be told.
        """
        described = self._keeper.describe(RunRequest(pipeline_names=[self.name]))
        if isinstance(described, ErrorDetail):
            raise LoadFailedError(f"{described.type}: {described.message}")
        return described

    def _note_fault(self, fault: str, *, is_of_project: bool) -> None:
        if self._is_stopping:
            return
        fault = _safe(fault)
        self._is_fault_of_project = is_of_project
        if fault != self._fault:
            log = logger.info if self._current is None else logger.warning
            log("Pipeline '%s' could not load: %s", self.name, fault)
        self._fault = fault


class _Limit:
    """The time that a call may wait, or take."""

    def __init__(self, what: str, setting: str, config: ServerConfig, pipeline: str) -> None:
        self._timeout_s = timeout_of(getattr(config, setting), [pipeline])
        self._began = time.monotonic()
        self._kind = "RunTimeout" if what == "taken" else "QueueTimeout"
        verb = "took" if what == "taken" else "was queued for"
        self.message = f"The run {verb} longer than {self._timeout_s or 0:g} s (setting {setting})."

    def remaining_s(self) -> float | None:
        """Return for how long to go on before looking again, in seconds; None for no longer."""
        left_s = math.inf if self._timeout_s is None else self._timeout_s - self._elapsed_s()
        return None if left_s <= 0 else min(left_s, _LOOK_EVERY_S)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def outcome(self) -> RunOutcome:
        """Return the outcome of a call that has waited for too long."""
        error = ErrorDetail(type=self._kind, message=self.message)
        return RunOutcome(status=RunStatus.FAILURE, duration_ms=0, error=error)


class _Refused:
    """A set that could not be loaded, and when to try again; the pauses grow."""

    def __init__(
        self,
        chosen: Mapping[str, DatasetVersion] | None = None,
        *,
        times: int = 0,
        until: float = 0,
    ) -> None:
        self._chosen = chosen
        self._times = times
        self._until = until

    def waits_with(self, chosen: Mapping[str, DatasetVersion]) -> bool:
        """Return whether it is too early to load a set."""
        return self._is(chosen) and time.monotonic() < self._until

    def once_more(self, chosen: Mapping[str, DatasetVersion], pause_s: float) -> _Refused:
        """Return what to know after a set could not be loaded."""
        times = self._times + 1 if self._is(chosen) else 0
        until = time.monotonic() + min(_LONGEST_PAUSE_S, pause_s * 2**times)
        return _Refused(dict(chosen), times=times, until=until)

    def _is(self, chosen: Mapping[str, DatasetVersion]) -> bool:
        return self._chosen is not None and _states(self._chosen) == _states(chosen)


def _states(chosen: Mapping[str, DatasetVersion]) -> dict[str, str | None]:
    """Return what tells sets apart: versions, and the states of what has none."""
    return {
        name: each.version if each.version is not None else f"of {each.state}"
        for name, each in chosen.items()
    }


def _versions(chosen: Mapping[str, DatasetVersion]) -> dict[str, str]:
    return {name: each.version for name, each in chosen.items() if each.version is not None}


def _has_address(output: Output, exchange: DataRequest | None, limit: int) -> bool:
    """Return whether an output is returned by its address, and not in the answer itself."""
    is_answer = exchange is not None and exchange.accept != JSON and len(exchange.outputs) == 1
    if exchange is not None and is_answer and output.media_type == exchange.accept:
        return False
    return output.media_type != JSON or output.size_bytes > limit


def _safe(fault: str) -> str:
    return bounded(printable(redact_urls(SECRETS.redact(fault))), _MAX_FAULT_CHARS)


def _shown(loaded: Any) -> str:
    each = (f"{name} {version or ''}".strip() for name, version in loaded.versions.items())
    return ", ".join(each) or "no data"
