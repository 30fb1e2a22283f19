"""A worker process: takes a run, executes it, and tells what happens."""

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
from kedro_flask_server.workers.exiting import ProgramEnd
from kedro_flask_server.workers.handlers import Handlers
from kedro_flask_server.workers.inheritance import Inheritance
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.killing import (
    children_of_this,
    end_children_with_this,
    kill_tree,
)
from kedro_flask_server.workers.output import Output
from kedro_flask_server.workers.protocol import Channel, Message, WorkerSettings
from kedro_flask_server.workers.report import PipeReport

_MB = 1_000_000

# Of processes for which there is no memory, Linux kills one with a higher score first.
_OUT_OF_MEMORY_SCORE = "500"


# How long the end of a run waits for who reads the server's output.
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
            settings: How many runs, and how much memory.
            outputs: What stands in for ``sys.stdout`` and ``sys.stderr``.
            end: How it ends.
            channel: To the server.
            reports: The descriptor of the pipe for what its runs tell.
            output: The descriptor for what is written past Python.
            handlers: The log handlers.
            inheritance: What it has from the template; None for a program of its own.
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
        # To list them in a fork would copy the memory of each name.
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
        """Execute runs until there have been as many as may be, then end the process."""
        threading.Thread(target=self._listen, name="kedro-worker-orders", daemon=True).start()
        self._send("ready", {"pid": os.getpid()})
        SECRETS.announce = self._announce
        runs = 0
        self._end.begin()
        while True:
            kind, body = self._orders.get()
            if self._interruption.reason is not None:  # told to end while it had nothing to do
                os._exit(0)
            self._report.send("started", {})
            # Of a run before, nothing is left here; to the server each run says what it holds.
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
        with suppress(OSError):  # the server is gone: so is this process, in a moment
            self._channel.send(kind, body)

    def _wake_server(self) -> None:
        self._channel.try_to_send("told", {})

    def _finish(self, kind: str, body: dict[str, Any]) -> None:
        """Send what an order comes to, after all that was told of it."""
        self._report.send(kind, body)
        self._wake_server()

    def _listen(self) -> None:
        """Take orders; when the server is gone, end this process and all that it started."""
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
            if os.getpid() != self._pid:  # a node has forked, and its child has come back here
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
        told = {**self._told(outcome, is_last=is_last), "unwritten": unwritten if is_last else 0}
        self._finish("outcome", told)
        if is_last:
            self._end.end()

    def _told(self, outcome: RunOutcome, *, is_last: bool) -> dict[str, Any]:
        return {
            **asdict(outcome),
            "is_last": is_last,
            "is_loaded": self._project.is_loaded,
            "has_read_anew": self._project.pop_has_new_configuration(),
            "imported": self._imported(),
        }

    def _new_modules(self) -> list[str]:
        """Return what the runs of this process have imported, in that order."""
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
    """Return how much memory this process has (resident)."""
    import psutil  # imported by the template where it is needed

    return int(psutil.Process().memory_info().rss)


def _redirect(outputs: tuple[Output, Output], output: int) -> None:
    """Have what is written past Python, and by the programs that a run starts, go to the server."""
    for each in outputs:
        each.redirect(output)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _has_children() -> bool:
    """Return whether the run has left processes, which end with this one."""
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
