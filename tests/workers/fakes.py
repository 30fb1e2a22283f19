"""Workers and templates that no process is behind."""

from __future__ import annotations

from typing import Any

from kedro_flask_server.workers.protocol import WorkerSettings

SETTINGS = WorkerSettings(
    project_path="",
    env=None,
    conf_source=None,
    resolves_params=False,
    shared_paths=[],
    data_url="data",
    allows_excel=False,
    has_locks=False,
    start_method="fork",
    max_runs=1,
    max_rss_mb=None,
    log_format="text",
    memory_limit_mb=None,
    python_path=[],
)


class FakeTemplate:
    """A template that takes down what it is told."""

    def __init__(self, *modules: str, start_method: str = "fork") -> None:
        self.modules = frozenset(modules)
        self.start_method = start_method
        self.is_ready = self.is_loaded = True
        self.is_stopped = False
        self.pipelines: list[str] | None = ["train"]
        self.leases: list[float | None] = []
        self.read_with: list[list[str]] = []
        self.is_retired = self.has_ended = False
        self.stopped: list[tuple[object, float]] = []
        self.fault: OSError | None = None

    def renew_lease(self, seconds: float | None) -> None:
        self.leases.append(seconds)

    def read(self, params: list[str]) -> None:
        self.read_with.append(params)

    def retire(self) -> None:
        self.is_retired = True

    def end(self) -> int:
        self.has_ended = True
        return 0

    def stop(self, worker: object, grace_s: float) -> None:
        if self.fault is not None:
            raise self.fault
        self.stopped.append((worker, grace_s))


class FakeWorker:
    """A worker of a template, which is ready or not."""

    def __init__(self, template: Any, *, is_ready: bool = True, asked_for_at: float = 0.0) -> None:
        self.template = template
        self.is_ready = is_ready
        self.asked_for_at = asked_for_at
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
