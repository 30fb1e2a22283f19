"""Assembles `RunService` from its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run_id import RunIds
from kedro_flask_server.run_files import RunFiles
from kedro_flask_server.runs.access_planner import AccessPlanner
from kedro_flask_server.runs.admission import Admission
from kedro_flask_server.runs.client_waits import ClientWaits
from kedro_flask_server.runs.completion import Completion
from kedro_flask_server.runs.data_keeper import DataKeeper
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.housekeeping import Housekeeper, MaintenanceTask
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.queue_start import QueueStart
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.retries import Retries
from kedro_flask_server.runs.run_data import RunDataService
from kedro_flask_server.runs.served_pipelines import ServedPipelines
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.runs.snapshot_cache import SnapshotCache
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore


def create_run_service(
    store: RunStore,
    executor: Executor,
    config: ServerConfig,
    *,
    files: RunFiles | None = None,
    state_dir: Path | None = None,
    maintenance_tasks: Sequence[MaintenanceTask] = (),
    fingerprint: Callable[[Iterable[str]], str | None] = lambda sources: None,
) -> RunService:
    """Return the run service of a store and an executor.

    Args:
        store: Stores the runs.
        executor: Executes them.
        config: The settings of the server.
        files: Has the data of runs; None for a folder of temporary files.
        state_dir: The folder of the server's own state.
        maintenance_tasks: Further periodic work while the store is open.
        fingerprint: Returns the fingerprint of a snapshot's sources, from its Python source files;
            None where there is none.
    """
    waiters, event_waiters = Waiters(), Waiters()
    lease = ServerLease(
        store,
        lease_s=config.lease_s,
        renew_lease=executor.renew_lease,
        in_hand=lambda: executions.in_hand | waiters.run_ids,
        on_return=waiters.wake_all,
        on_register=QueueStart(store, config).apply,
    )
    executions = Executions(config.workers, lease)
    recorder = Recorder(store, event_waiters, max_log_bytes=config.max_log_bytes)
    completion = Completion(store, executions, lease, recorder, waiters)
    keeper = DataKeeper(
        store,
        files or RunFiles(str(Path(tempfile.gettempdir()) / "kedro-server-data")),
        executor,
        config,
        state_dir=state_dir or Path(tempfile.gettempdir()),
        fingerprint=fingerprint,
    )
    planner = AccessPlanner(executor, config)
    run_data = RunDataService(store, planner, config)
    dispatcher = Dispatcher(
        store,
        executor,
        executions=executions,
        completion=completion,
        lease=lease,
        recorder=recorder,
        data=run_data,
        config=config,
    )
    housekeeper = Housekeeper(
        store,
        config,
        lease=lease,
        dispatcher=dispatcher,
        executions=executions,
        completion=completion,
        waiters=waiters,
        tasks=(*maintenance_tasks, keeper),
    )
    ids = RunIds()
    served = ServedPipelines(store, executor, keeper, config, data=run_data, ids=ids)
    lifecycle = Lifecycle(
        store,
        executor,
        config,
        lease=lease,
        executions=executions,
        completion=completion,
        dispatcher=dispatcher,
        recorder=recorder,
        housekeeper=housekeeper,
        waiters=waiters,
        event_waiters=event_waiters,
        served=served,
    )
    return RunService(
        store,
        config,
        lease=lease,
        lifecycle=lifecycle,
        admission=Admission(store, dispatcher, planner, config, ids=ids),
        dispatcher=dispatcher,
        waiting=ClientWaits(
            store, executions, lifecycle, slots=config.workers + config.max_waiting
        ),
        waiters=waiters,
        event_waiters=event_waiters,
        snapshots=SnapshotCache(executor, fingerprint),
        retries=Retries(store, executor),
        data=keeper,
        served=served,
        pipelines=executor.pipelines,
    )
