"""The template: a process that has loaded the project, and from which workers are forked.

It has one thread and executes no run, so it can be forked at any moment. As the parent of the
workers, it observes their ends, and kills them when the server ends.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedro_flask_server.workers.killing import be_signalled_with_parent, children_of_this
from kedro_flask_server.workers.protocol import Channel, WorkerSettings, start_program

if TYPE_CHECKING:  # without a project it does not need Kedro
    from kedro_flask_server.workers.inheritance import Inheritance

# How often to check whether killed processes are gone.
_LOOK_EVERY_S = 0.002

# How long to wait for that.
_GONE_WITHIN_S = 2.0

# How long after its lease it may end at the latest.
_LATE_S = 0.3

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class _Child:
    """A worker. Times are monotonic, in seconds."""

    pid: int
    channel: Channel
    kill_at: float | None = None
    code: int | None = None
    ended_at: float | None = None


class TemplateProcess:
    """Starts and stops workers, and reports their ends."""

    def __init__(
        self,
        control: Channel,
        settings: WorkerSettings,
        inheritance: Inheritance | None = None,
    ) -> None:
        """Prepare; `serve` begins.

        Args:
            control: The channel to the server.
            settings: The settings of the workers.
            inheritance: What forked workers inherit; None where workers are not forked.
        """
        self._control = control
        self._pid = os.getpid()
        self._settings = settings
        self._inheritance = inheritance
        self._children: dict[int, _Child] = {}
        self._is_retired = False
        self._lease_ends_at = math.inf
        self._not_ours = set(children_of_this())
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        self._wake_sender = wake
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Execute the server's orders until it ends or the lease is over; then kill all workers."""
        watched = [self._control.fileno(), self._wake]
        try:
            while not (self._is_retired and not self._children):
                ready, _, _ = select.select(watched, [], [], self._pause_s())
                if self._wake in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                if self._control.fileno() in ready:
                    self._execute_orders()
                if time.monotonic() > self._lease_ends_at:
                    break
                self._kill_overdue()
                self._reap()
                self._report_ends()
        except EOFError:
            pass
        finally:
            self._end_all()

    def _pause_s(self) -> float | None:
        """Return how long to sleep if nothing happens, in seconds."""
        if any(child.ended_at is not None for child in self._children.values()):
            return _LOOK_EVERY_S
        times = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        next_at = min([*times, self._lease_ends_at])
        return None if next_at == math.inf else max(0.0, next_at - time.monotonic())

    def _execute_orders(self) -> None:
        for kind, body in self._control.receive():
            if kind == "start":
                channel, reports, output = self._control.descriptors[:3]
                del self._control.descriptors[:3]
                self._start(body["number"], Channel.of(channel), reports, output)
            elif kind == "stop":
                self._stop(body["number"], body["grace_s"])
            elif kind == "read" and self._inheritance is not None:
                self._inheritance.project.read_ahead(body["params"])
            elif kind == "retire":
                self._is_retired = True
            elif kind == "lease":
                self._limit(body["seconds"])

    def _limit(self, seconds: float | None) -> None:
        self._lease_ends_at = math.inf if seconds is None else time.monotonic() + seconds
        # If this process is busy or blocked by then, the kernel ends it, and its workers.
        after_s = 0.0 if seconds is None else max(0.0, seconds) + _LATE_S
        signal.setitimer(signal.ITIMER_REAL, after_s)

    def _start(self, number: int, channel: Channel, reports: int, output: int) -> None:
        try:
            pid = self._spawn_or_fork(channel, reports, output)
        except OSError as error:  # no more processes or memory
            channel.try_to_send("ended", {"reason": str(error)})
            channel.close()
        else:
            with suppress(OSError):  # the worker has done so itself
                os.setpgid(pid, pid)
            self._children[number] = _Child(pid, channel)
        os.close(reports)
        os.close(output)

    def _spawn_or_fork(self, channel: Channel, reports: int, output: int) -> int:
        if self._inheritance is None:
            process = start_program("worker", self._settings, channel.fileno(), reports, output)
            process.returncode = 0  # otherwise Popen would wait for it
            return process.pid
        return self._fork(self._inheritance, channel, reports, output)

    def _fork(self, inheritance: Inheritance, channel: Channel, reports: int, output: int) -> int:
        from kedro_flask_server.workers.worker_process import (
            WorkerProcess,  # imported with the project
        )

        pid = os.fork()
        if pid:
            return pid
        try:
            be_signalled_with_parent(self._pid, signal.SIGKILL)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            for child in self._children.values():
                child.channel.close()
            os.close(self._wake)
            os.close(self._wake_sender)
            become_subreaper()
            WorkerProcess(
                inheritance.project,
                self._settings,
                inheritance.outputs,
                inheritance.end,
                channel=channel,
                reports=reports,
                output=output,
                handlers=inheritance.handlers,
                inheritance=inheritance,
                prepared=inheritance.preparation,
            ).work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _stop(self, number: int, grace_s: float) -> None:
        child = self._children.get(number)
        if child is None or child.ended_at is not None:
            return
        if grace_s > 0 and child.kill_at is None:
            self._signal(child, signal.SIGTERM)
        kill_at = time.monotonic() + grace_s
        child.kill_at = min(kill_at, child.kill_at or kill_at)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.kill_at is not None and child.kill_at <= now:
                child.kill_at = None
                self._signal(child, signal.SIGKILL)

    def _signal(self, child: _Child, number: signal.Signals) -> bool:
        """Send a signal to a worker's group, and return whether the group still has members."""
        with suppress(OSError):
            if child.code is None and os.getpgid(child.pid) != child.pid:  # it has left its group
                os.kill(child.pid, number)
        try:
            os.killpg(child.pid, number)
        except OSError:  # no members, none of this user, or (macOS) none alive
            return False
        return True

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].code = os.waitstatus_to_exitcode(status)
                by_pid[pid].ended_at = time.monotonic()
                by_pid[pid].kill_at = None

    def _report_ends(self) -> None:
        for number, child in [*self._children.items()]:
            if child.ended_at is None or not self._is_gone(child, child.ended_at):
                continue
            if child.channel.try_to_send("ended", {"code": child.code}):
                child.channel.close()
                del self._children[number]

    def _is_gone(self, child: _Child, ended_at: float) -> bool:
        """Kill the leftovers of a worker that has ended, and return whether all are gone."""
        is_left = self._signal(child, signal.SIGKILL)
        is_left = self._kill_strays() or is_left
        return not is_left or time.monotonic() - ended_at > _GONE_WITHIN_S

    def _kill_strays(self) -> bool:
        """Kill processes that have left the group of a worker which has ended.

        Workers and this process are subreapers (prctl(2)): an orphan that no longer belongs to a
        worker is a child of this process.

        Returns:
            Whether there were any.
        """
        known = {child.pid for child in self._children.values()} | self._not_ours
        strays = [pid for pid in children_of_this() if pid not in known]
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(strays)

    def _end_all(self) -> None:
        ends_at = time.monotonic() + _GONE_WITHIN_S
        while self._children and time.monotonic() < ends_at:
            for child in self._children.values():
                if child.ended_at is None:
                    self._signal(child, signal.SIGKILL)
            time.sleep(_LOOK_EVERY_S)
            self._reap()
            self._report_ends()


def become_subreaper() -> None:
    """Adopt orphaned descendants (Linux, prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
