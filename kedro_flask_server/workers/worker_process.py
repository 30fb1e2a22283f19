"""A worker process: executes runs and reports on them."""

from __future__ import annotations

import faulthandler
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from kedro_flask_server.logs import logs_of_process
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest
from kedro_flask_server.project import KedroProject
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.workers.exit_functions import ExitFunctions
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.inheritance import Inheritance
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.killing import (
    children_of_this,
    end_children_with_this,
    kill_tree,
)
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.program_end import ProgramEnd
from kedro_flask_server.workers.protocol import Channel, Message, WorkerSettings
from kedro_flask_server.workers.report import PipeReport

_MB = 1_000_000

# Out of memory, Linux kills processes with a higher score first.
_OUT_OF_MEMORY_SCORE = "500"


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
        # Listing them in a fork would copy the memory of each name.
        self._modules = frozenset(sys.modules) if inheritance is None else frozenset()
        self._orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
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
        threading.Thread(target=self._listen, name="kedro-worker-orders", daemon=True).start()
        self._send("ready", {"pid": os.getpid()})
        SECRETS.announce = self._announce
        runs = 0
        self._end.begin()
        while True:
            kind, body = self._orders.get()
            if self._interruption.reason is not None:  # asked to stop while idle
                os._exit(0)
            self._report.send("started", {})
            # Secrets of earlier runs are forgotten; each run announces its own to the server.
            SECRETS.forget(before=time.time())
            self._announced.clear()
            self._handlers.renew()
            if kind == "snapshot":
                self._finish("snapshot", self._snapshot(body["params"]))
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

    def _listen(self) -> None:
        """Receive orders; kill this process and its descendants once the server is gone."""
        while True:
            try:
                for message in self._channel.receive():
                    self._orders.put(message)
            except EOFError:
                kill_tree(os.getpid())

    def _run(self, body: dict[str, Any], *, may_be_last: bool) -> None:
        self._report.stop = self._interruption
        self._report.begin(max_log_bytes=body["max_log_bytes"])
        for output in self._outputs:
            output.report = self._report
        if self._inheritance is not None:
            self._inheritance.imports.watch()
        with logs_of_process(body["run_id"], self._report):
            outcome = self._project.execute(
                body["run_id"], RunRequest(**body["request"]), self._interruption, self._report
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
        self._report.report_dropped()
        unwritten = sum(output.settle(_SETTLE_S if is_last else 0) for output in self._outputs)
        sent = {
            **self._report_of(outcome, is_last=is_last),
            "unwritten": unwritten if is_last else 0,
        }
        self._finish("outcome", sent)
        if is_last:
            self._end.end()

    def _report_of(self, outcome: RunOutcome, *, is_last: bool) -> dict[str, Any]:
        return {
            **asdict(outcome),
            "is_last": is_last,
            "is_loaded": self._project.is_loaded,
            "has_read_anew": self._project.pop_has_new_configuration(),
            "imported": self._imported(),
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
