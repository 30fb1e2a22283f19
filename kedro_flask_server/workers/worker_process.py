"""A worker process: executes runs and reports on them."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.logs import logs_of_process
from kedro_flask_server.model.data_access import Locks
from kedro_flask_server.model.retry import ChainPast
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, RunStatus
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.project import KedroProject
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.exit_functions import ExitFunctions
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.inbox import DirectInbox, Inbox, ListeningInbox
from kedro_flask_server.workers.inheritance import Inheritance
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.killing import (
    children_of_this,
    end_children_with_this,
)
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.preparation import Preparation
from kedro_flask_server.workers.program_end import ProgramEnd
from kedro_flask_server.workers.protocol import Channel, WorkerSettings
from kedro_flask_server.workers.report import PipeReport

_MB = 1_000_000

# Out of memory, Linux kills processes with a higher score first.
_OUT_OF_MEMORY_SCORE = "500"


# What these log of each node and dataset at lower levels, which takes longer than a small node.
_TOLD_BY_EVENTS = ("kedro", "kedro_flask_server")

# How long the end of a run waits for the reader of the server's output.
_SETTLE_S = 0.2


class WorkerProcess:
    """Executes runs, one at a time, in the main thread of this process."""

    def __init__(
        self,
        project: KedroProject,
        settings: WorkerSettings,
        outputs: tuple[Output, Output],
        end: ProgramEnd,
        *,
        channel: Channel,
        reports: int,
        output: int,
        handlers: Handlers,
        inheritance: Inheritance | None,
        prepared: Preparation | None = None,
    ) -> None:
        """Make this process, which leads a group, a worker.

        Args:
            project: The project, bootstrapped.
            settings: The limits on runs and memory.
            outputs: The replacements of ``sys.stdout`` and ``sys.stderr``.
            end: The end of the process.
            channel: The channel to the server.
            reports: The descriptor of the pipe for the reports of its runs.
            output: The descriptor for output that bypasses Python.
            handlers: The log handlers.
            inheritance: What it has inherited from the template; None if it was not forked.
            prepared: The pipeline that it serves; None if it executes any run.
        """
        self._project = project
        self._settings = settings
        self._outputs = outputs
        self._end = end
        self._channel = channel
        self._report = PipeReport(reports, self._wake_server)
        self._pid = os.getpid()
        self._handlers = handlers
        self._inheritance = inheritance
        self._prepared = prepared
        # Listing them in a fork would copy the memory of each name.
        self._modules = frozenset(sys.modules) if inheritance is None else frozenset()
        self._inbox: Inbox = ListeningInbox(channel) if prepared is None else DirectInbox(channel)
        self._announced: set[str] = set()
        self._interruption = Interruption()
        Interruption.is_left_to_parents()
        end_children_with_this()
        if inheritance is not None:
            for each in outputs:
                each.leave_kept_to_template()
            ExitFunctions.take_from_template()
            inheritance.generators.renew()
        _redirect(outputs, output)
        faulthandler.enable(2)
        _limit_memory(settings.memory_limit_mb)

    def work(self) -> None:
        """Execute runs up to the limit, then end the process."""
        self._inbox.open()
        preparation = None if self._prepared is None else self._prepared.dump()
        if preparation is not None:
            for name in _TOLD_BY_EVENTS:
                logging.getLogger(name).setLevel(logging.WARNING)
        self._send("ready", {"pid": os.getpid(), "preparation": preparation})
        SECRETS.announce = self._announce
        runs = 0
        self._end.begin()
        while True:
            kind, body = self._inbox.next_order()
            if self._interruption.reason is not None:  # asked to stop while idle
                os._exit(0)
            self._report.send("started", {})
            # Secrets of earlier runs are forgotten; each run announces its own to the server.
            SECRETS.forget(before=time.time())
            self._announced.clear()
            self._handlers.renew()
            if kind == "snapshot":
                self._finish("snapshot", self._snapshot(body["params"]))
            elif kind == "access":
                self._finish("access", self._access(body["request"]))
            elif kind == "data":
                self._finish("data", self._data(body["requests"]))
            elif kind == "versions":
                self._finish("versions", self._versions(body["names"]))
            elif kind == "retry":
                self._finish("retry", self._next_run(body["past"]))
            elif kind == "run":
                runs += 1
                self._run(body, may_be_last=runs >= self._settings.max_runs)

    def _announce(self, values: list[str], is_certain: bool) -> None:
        new = [value for value in values if value not in self._announced]
        if new:
            self._announced.update(new)
            self._report.send("secrets", {"values": new, "is_certain": is_certain})

    def _send(self, kind: str, body: dict[str, Any]) -> None:
        with suppress(OSError):  # the server is gone, and this process is about to end
            self._channel.send(kind, body)

    def _wake_server(self) -> None:
        self._channel.try_to_send("told", {})

    def _finish(self, kind: str, body: dict[str, Any]) -> None:
        """Send the result of an order, after all reports on it."""
        self._report.send(kind, body)
        self._wake_server()

    def _run(self, body: dict[str, Any], *, may_be_last: bool) -> None:
        self._report.stop = self._interruption
        self._report.begin(
            max_log_bytes=body["max_log_bytes"], is_held=body["tells_failures_alone"]
        )
        for output in self._outputs:
            output.report = self._report
        if self._inheritance is not None and self._prepared is None:
            self._inheritance.imports.watch()
        with logs_of_process(body["run_id"], self._report):
            outcome = self._project.execute(
                body["run_id"],
                RunRequest(**body["request"]),
                self._interruption,
                self._report,
                self._data_of(body),
                prepared=None if self._prepared is None else self._prepared.pipeline,
            )
            if os.getpid() != self._pid:  # the child of a node that has forked returned here
                os._exit(0)
            is_last = (
                may_be_last
                or self._interruption.reason is not None
                or self._is_too_large()
                or _has_children()
            )
            if is_last:
                self._end.reach(self._new_modules()[::-1])
                if self._inheritance is not None:
                    self._inheritance.files.flush()
            for output in self._outputs:
                output.end_line()
        for output in self._outputs:
            output.report = None
        self._report.release(is_wanted=outcome.status is not RunStatus.SUCCESS)
        self._report.report_dropped()
        unwritten = sum(output.settle(_SETTLE_S if is_last else 0) for output in self._outputs)
        sent = {
            **self._report_of(outcome, is_last=is_last),
            "unwritten": unwritten if is_last else 0,
        }
        if self._prepared is None:
            self._finish("outcome", sent)
        else:  # which wakes the server, too
            self._send("outcome", sent)
        if is_last:
            self._end.end()

    def _data_of(self, body: dict[str, Any]) -> RunData:
        return RunData(
            is_checked=bool(body["is_checked"]),
            digest=body["digest"],
            skips_failed_versions=bool(body["skips_failed_versions"]),
            acquire=self._acquire,
            executing=lambda: self._ask("executing", {})["run_ids"],
            statuses=lambda versions: self._ask("statuses", {"versions": versions})["statuses"],
            warn=lambda text: self._report.send("warn", {"text": text}),
            folder=body["folder"],
        )

    def _acquire(self, locks: Locks) -> bool:
        body = {"digest": locks.digest, "locks": locks.each}
        return bool(self._ask("acquire", body)["is_acquired"])

    def _ask(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the server's answer to a question.

        Raises:
            StoreUnavailableError: If the server cannot reach the store.
        """
        self._finish(kind, body)
        answer = self._inbox.next_answer()
        if "error" in answer:
            raise StoreUnavailableError(answer["error"])
        return answer

    def _access(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self._project.data_access(RunRequest(**request))
        if found is None:
            return {}
        return {
            "reads": found.access.reads,
            "writes": found.access.writes,
            "unknown": found.unknown,
            "depends_on_params": found.depends_on_params,
        }

    def _data(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        found = [self._project.describe_data(RunRequest(**request)) for request in requests]
        shown = [
            {"error": asdict(each)} if isinstance(each, ErrorDetail) else each for each in found
        ]
        return {"found": shown}

    def _versions(self, names: list[str]) -> dict[str, Any]:
        found = self._project.dataset_versions(names)
        if isinstance(found, ErrorDetail):
            return {"error": asdict(found)}
        return {"found": {name: [*map(asdict, each)] for name, each in found.items()}}

    def _next_run(self, past: dict[str, Any]) -> dict[str, Any]:
        found = self._project.plan_next_run(ChainPast.load(past))
        return {"error": asdict(found)} if isinstance(found, ErrorDetail) else found.dump()

    def _report_of(self, outcome: RunOutcome, *, is_last: bool) -> dict[str, Any]:
        return {
            **asdict(outcome),
            "is_last": is_last,
            "is_loaded": self._project.is_loaded,
            "has_read_anew": self._project.pop_has_new_configuration(),
            "imported": None if self._prepared else self._imported(),
        }

    def _new_modules(self) -> list[str]:
        """Return the modules that runs of this process have imported, in order."""
        if self._inheritance is not None:
            return self._inheritance.imports.names()
        return [name for name in [*sys.modules] if name not in self._modules]

    def _imported(self) -> dict[str, Any] | None:
        inheritance = self._inheritance
        return None if inheritance is None else asdict(inheritance.imports.found())

    def _is_too_large(self) -> bool:
        limit = self._settings.max_rss_mb
        return limit is not None and _memory_bytes() > limit * _MB

    def _snapshot(self, params: str | None) -> dict[str, Any]:
        snapshot = self._project.snapshot(params)
        is_loaded = self._project.is_loaded
        if isinstance(snapshot, ErrorDetail):
            return {"error": asdict(snapshot), "is_loaded": is_loaded}
        return {
            "snapshot": snapshot.content,
            "fingerprint": snapshot.fingerprint,
            "sources": snapshot.sources,
            "is_loaded": is_loaded,
        }


def _memory_bytes() -> int:
    """Return the resident memory of this process."""
    import psutil  # imported by the template where it is needed

    return int(psutil.Process().memory_info().rss)


def _redirect(outputs: tuple[Output, Output], output: int) -> None:
    """Redirect output that bypasses Python, and that of child processes, to the server."""
    for each in outputs:
        each.redirect(output)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _has_children() -> bool:
    """Return whether the run has left child processes, which end with this one."""
    of_python = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    return any(pid != of_python for pid in children_of_this())


def _limit_memory(limit_mb: int | None) -> None:
    if sys.platform != "linux":
        return
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    if limit_mb is not None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = limit_mb * _MB
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
