"""The registration of this server in the store, and its lease."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.store import RunStore, ServerUnknownError
from kedro_flask_server.workers.killing import kill_what_is_left

logger = logging.getLogger(__name__)

LEASE_LOST = 70
"""The exit code of a server that lost its lease and its runs (EX_SOFTWARE of sysexits.h)."""

# The part of a lease after which a server that could not renew it is ended.
_USABLE = 0.9

# How soon each server notices that the store no longer knows it: none is reaped before.
_RETURN_WITHIN_S = 10.0


class ServerLease:
    """Keeps this server registered in the store by renewing a lease.

    Once the lease is over, servers on other machines consider this one dead, and its runs lost. So
    that no lost run goes on writing, a process that executes runs is ended before: by the kernel's
    timer, since a node may hold the GIL, or the process may be suspended. If all servers are on
    this machine the lease does not matter: there, the process itself is checked.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        lease_s: float,
        renew_lease: Callable[[float | None], None],
        in_hand: Callable[[], Collection[str]] = tuple,
        on_return: Callable[[], None] = lambda: None,
        on_register: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `register` registers the server.

        Args:
            store: The store.
            lease_s: The duration of a lease, in seconds.
            renew_lease: Limits runs in other processes to so many seconds after its last call; None
                for no limit.
            in_hand: Returns the runs that execute here, or that a client waits for here.
            on_return: Called when this server is registered again.
            on_register: Called before it is registered, at first or again.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._store = store
        self._lease_s = lease_s
        self._renew_runs = renew_lease
        self._in_hand = in_hand
        self._on_return = on_return
        self._on_register = on_register
        self._clock = clock
        self._renew_after_s = lease_s / 4
        self._generation = 0
        self._reap_from = 0.0
        self._server: ServerProcess | None = None
        self._renewed_at = 0.0
        self._lock = threading.Lock()
        self._executes = False
        self._is_armed = False
        self.fault: str | None = None

    @property
    def server_id(self) -> str | None:
        """The server's id; None while it is not registered."""
        return None if self._server is None else self._server.server_id

    def register(self) -> None:
        """Register this server, and reap dead ones.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
            StoreUnavailableError: If it cannot be reached now.
        """
        server = ServerProcess.this()
        self._store.open()
        self._generation = self._store.generation
        self._on_register()
        asked_at = self._clock()
        self._store.servers.register(server, self._lease_s)
        self._server = server
        self._hold_from(asked_at)
        self.reap_dead_servers()

    def renew_if_due(self) -> None:
        """Renew the lease if it is due, or if the store could not be reached before.

        Raises:
            StoreUnavailableError: If it cannot be renewed now.
        """
        if self._server is None:
            self.register()
            return
        self._store.open()  # a file that was replaced is opened again
        asked_at = self._clock()
        is_same = self._store.generation == self._generation
        if is_same and self.fault is None and asked_at - self._renewed_at < self._renew_after_s:
            return
        if is_same and self._store.servers.renew(self._server.server_id, self._lease_s):
            self._hold_from(asked_at)
            return
        self._register_again(self._server)

    def _register_again(self, server: ServerProcess) -> None:
        """Register this server again in a store that does not know it.

        Either others have reaped it, and its runs are lost, or the database was replaced or
        restored: then it keeps its id and the runs that it executes.
        """
        in_hand = self._in_hand()
        generation = self._store.generation
        if self._store.servers.has_lost_lease(server.server_id, in_hand):
            self._end_if_executing()
            self._server = None
            self.register()
            return
        self._on_register()
        asked_at = self._clock()
        lost = self._store.servers.register_again(server, self._lease_s, in_hand)
        logger.error(
            "The store does not know this server any more, because its database was deleted, "
            "replaced or restored: it is registered again"
        )
        for run_id in lost:
            logger.warning("Run %s is lost: it does not execute here", run_id)
        self._generation = generation
        self._hold_from(asked_at)
        self._on_return()
        self._reap_from = self._clock() + _RETURN_WITHIN_S

    def reap_dead_servers(self) -> None:
        """Record the end of the runs of dead servers.

        Raises:
            StoreUnavailableError: If that cannot be recorded now.
        """
        this = self._server
        if this is None or self._clock() < self._reap_from:
            return

        def is_dead(server: ServerProcess, is_lease_over: bool) -> bool:
            if server == this or not server.is_dead(this, is_lease_over=is_lease_over):
                return False
            if server.machine == this.machine:
                kill_what_is_left(server.process)  # otherwise it would go on with lost runs
            return True

        try:
            lost = self._store.servers.reap(is_dead, by=this.server_id)
        except ServerUnknownError:
            self._register_again(this)
            return
        for run_id in lost:
            logger.warning("Run %s is lost: the server that executed it died", run_id)

    def unregister(self) -> None:
        """Remove this server from the store.

        Raises:
            StoreUnavailableError: If it cannot be removed now; other servers reap it then.
        """
        if self._server is not None:
            self._store.servers.unregister(self._server.server_id)
            self._server = None

    def may_start(self) -> bool:
        """Return whether the lease lasts long enough to start a run."""
        return self._server is not None and (
            self._store.is_local or self._remaining_s() > self._lease_s / 3
        )

    def set_executing(self, executes: bool) -> None:
        """Set whether this process executes runs, which must stop before the lease ends."""
        with self._lock:
            self._executes = executes
            self._set_timer()

    def record_failure(self, error: StoreUnavailableError) -> None:
        """Record that the store could not be reached; log the first failure."""
        if self.fault is None:
            logger.error("%s", error)
            if self._executes and not self._store.is_local:
                logger.error(
                    "Unless that ends, so will this process, in %.1f s: others would take its "
                    "runs for lost",
                    self._remaining_s(),
                )
        self.fault = error.reason

    def _hold_from(self, asked_at: float) -> None:
        with self._lock:
            self._renewed_at = asked_at
            self._set_timer()
        if self.fault is not None:
            logger.info("The store of the runs is available")
        self.fault = None

    def _remaining_s(self) -> float:
        return self._renewed_at + _USABLE * self._lease_s - self._clock()

    def _set_timer(self) -> None:
        if self._store.is_local or not hasattr(signal, "setitimer"):
            return
        # Unhandled SIGALRM ends a process, whatever its threads do; a suspended one before its
        # threads continue.
        if self._executes:
            remaining_s = max(self._remaining_s(), 0.001)
            signal.setitimer(signal.ITIMER_REAL, remaining_s)
            self._renew_runs(remaining_s)
        elif self._is_armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._renew_runs(None)
        self._is_armed = self._executes

    def _end_if_executing(self) -> None:
        if self._executes:
            logger.critical(
                "Other servers have taken this one for dead, and its runs for lost: it ends"
            )
            logging.shutdown()
            os._exit(LEASE_LOST)
