"""The lease by which the other servers know that this one lives."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.store import ServerUnknownError
from tests.clocks import Clock
from tests.runs.fakes import FakeStore

LEASE_S = 60.0
AWAY = StoreUnavailableError("no route to host")


@dataclass
class Parts:
    """A lease with the parts around it."""

    store: FakeStore = field(default_factory=FakeStore)
    clock: Clock = field(default_factory=Clock)
    renewed: list[float | None] = field(default_factory=list)
    in_hand: set[str] = field(default_factory=set)
    returns: int = 0

    def __post_init__(self) -> None:
        self.lease = ServerLease(
            self.store,
            lease_s=LEASE_S,
            renew_lease=self.renewed.append,
            in_hand=lambda: self.in_hand,
            on_return=self.on_return,
            clock=self.clock,
        )

    def on_return(self) -> None:
        self.returns += 1

    @property
    def servers(self):
        return self.store.servers


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def registered(parts: Parts) -> Parts:
    parts.lease.register()
    return parts


@pytest.fixture
def timer() -> Iterator[Callable[[], float]]:
    """Return what tells in how many seconds the kernel ends this process; afterwards, it does not.

    The timer may be one of pytest's plugin for time limits, which has it back.
    """
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    yield lambda: signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, *before)


def test_server_has_an_id_while_it_is_registered(parts: Parts) -> None:
    assert parts.lease.server_id is None
    parts.lease.register()
    assert [*parts.servers.known] == [parts.lease.server_id]
    parts.lease.unregister()
    assert (parts.lease.server_id, parts.servers.known) == (None, {})
    parts.lease.unregister()  # again: nothing


def test_server_that_could_not_register_does_so_when_it_is_to_renew(parts: Parts) -> None:
    parts.servers.fault = AWAY
    with pytest.raises(StoreUnavailableError):
        parts.lease.register()
    parts.lease.record_failure(AWAY)
    assert parts.lease.server_id is None
    parts.lease.renew_if_due()
    assert parts.lease.server_id is not None
    assert parts.lease.fault is None


def test_lease_is_renewed_after_a_quarter_of_it_and_not_before(registered: Parts) -> None:
    registered.clock.advance(LEASE_S / 4 - 0.1)
    registered.lease.renew_if_due()
    assert registered.servers.renewals == 0
    registered.clock.advance(0.2)
    for _ in range(2):
        registered.lease.renew_if_due()
    assert registered.servers.renewals == 1


def test_lease_is_renewed_at_once_after_a_failure(
    registered: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registered.lease.record_failure(AWAY)
    assert registered.lease.fault == AWAY.reason
    registered.lease.renew_if_due()
    assert (registered.servers.renewals, registered.lease.fault) == (1, None)
    assert "is available" in caplog.text


def test_failure_is_logged_the_first_time(
    registered: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        registered.lease.record_failure(AWAY)
    assert caplog.text.count(AWAY.reason) == 1


def test_failed_renewal_leaves_the_lease_as_it_was(registered: Parts) -> None:
    registered.store.is_local = False
    registered.clock.advance(30)
    registered.servers.fault = AWAY
    with pytest.raises(StoreUnavailableError):
        registered.lease.renew_if_due()
    registered.clock.advance(5)
    assert not registered.lease.may_start()
    registered.lease.renew_if_due()
    assert registered.lease.may_start()


def test_nothing_starts_with_less_than_a_third_of_the_lease_left(registered: Parts) -> None:
    registered.store.is_local = False
    registered.clock.advance(0.9 * LEASE_S - LEASE_S / 3 - 0.1)
    assert registered.lease.may_start()
    registered.clock.advance(0.2)
    assert not registered.lease.may_start()
    registered.store.is_local = True  # there, the process shows
    assert registered.lease.may_start()


def test_nothing_starts_at_a_server_that_is_not_registered(parts: Parts) -> None:
    assert not parts.lease.may_start()


def test_server_that_its_store_has_forgotten_is_registered_again_as_it_was(
    registered: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    server_id = registered.lease.server_id
    registered.in_hand, registered.servers.lost_runs = {"r1"}, ["r2"]
    registered.servers.known.clear()
    registered.clock.advance(LEASE_S / 2)
    registered.lease.renew_if_due()
    assert [*registered.servers.known] == [registered.lease.server_id] == [server_id]
    assert registered.servers.in_hand == ["r1"]
    assert registered.returns == 1
    assert "Run r2 is lost" in caplog.text


def test_server_whose_file_was_replaced_is_registered_again_at_once(registered: Parts) -> None:
    registered.store.generation += 1
    for _ in range(2):
        registered.lease.renew_if_due()
    assert (registered.returns, registered.servers.renewals) == (1, 0)


def test_server_that_others_have_reaped_goes_on_as_another(registered: Parts) -> None:
    server_id = registered.lease.server_id
    registered.servers.known.clear()
    registered.servers.has_lost = True
    registered.clock.advance(LEASE_S / 2)
    registered.lease.renew_if_due()
    assert registered.lease.server_id not in (server_id, None)
    assert [*registered.servers.known] == [registered.lease.server_id]
    assert registered.returns == 0


def test_server_that_finds_itself_unknown_when_it_reaps_is_registered_again(
    registered: Parts,
) -> None:
    registered.servers.fault = ServerUnknownError()
    registered.lease.reap_dead_servers()
    assert registered.returns == 1


def test_others_get_time_to_return_before_they_are_reaped(registered: Parts) -> None:
    registered.store.generation += 1
    registered.lease.renew_if_due()
    reaps = registered.servers.reaps
    registered.clock.advance(9.9)
    registered.lease.reap_dead_servers()
    assert registered.servers.reaps == reaps
    registered.clock.advance(0.2)
    registered.lease.reap_dead_servers()
    assert registered.servers.reaps == reaps + 1


def test_server_that_is_not_registered_reaps_none(parts: Parts) -> None:
    parts.lease.reap_dead_servers()
    assert parts.servers.reaps == 0


def test_dead_are_servers_elsewhere_whose_lease_is_over_and_never_this_one(
    registered: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = replace(ServerProcess.this(), machine="another")
    living = replace(ServerProcess.this(), machine="another")
    registered.servers.others = [(elsewhere, True), (living, False)]
    registered.servers.lost_runs = ["r1"]
    registered.lease.reap_dead_servers()
    assert registered.servers.dead == [elsewhere.server_id]
    assert "Run r1 is lost: the server that executed it died" in caplog.text


def test_process_that_executes_ends_before_its_lease_and_so_do_its_workers(
    registered: Parts, timer: Callable[[], float]
) -> None:
    registered.store.is_local = False
    registered.lease.set_executing(True)
    assert registered.renewed == [pytest.approx(0.9 * LEASE_S)]
    assert 0.8 * LEASE_S < timer() <= 0.9 * LEASE_S
    registered.clock.advance(LEASE_S / 2)
    registered.lease.renew_if_due()
    assert registered.renewed[1:] == [pytest.approx(0.9 * LEASE_S)]
    registered.lease.set_executing(False)
    assert registered.renewed[2:] == [None]
    assert timer() == 0


def test_process_that_shares_its_store_with_no_other_machine_is_not_ended(
    registered: Parts, timer: Callable[[], float]
) -> None:
    registered.lease.set_executing(True)
    assert (registered.renewed, timer()) == ([], 0)


def test_process_that_will_end_says_so(
    registered: Parts, timer: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    registered.store.is_local = False
    registered.lease.set_executing(True)
    registered.clock.advance(44)
    registered.lease.record_failure(AWAY)
    registered.lease.set_executing(False)
    assert "so will this process, in 10.0 s" in caplog.text
