"""Whose turn it is among the calls of a served pipeline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from kedro_flask_server.errors import QuotaError, ServerBusyError
from kedro_flask_server.model.run import ANONYMOUS, Submitter
from kedro_flask_server.runs.call_slots import CallSlots
from tests.servers import eventually


def patient() -> float | None:
    return 0.01


def gone() -> float | None:
    return None


def test_slots_are_taken_at_once_and_given_back() -> None:
    slots = CallSlots("p", slots=2, max_waiting=0)
    for _ in range(3):
        with slots.slot(ANONYMOUS, patient) as one, slots.slot(ANONYMOUS, patient) as other:
            assert one
            assert other
            assert (slots.executing, slots.waiting) == (2, 0)
            with (
                pytest.raises(ServerBusyError, match="max_waiting"),
                slots.slot(ANONYMOUS, patient),
            ):
                pass
    assert slots.executing == 0


def test_calls_have_their_turn_in_order() -> None:
    slots, order = CallSlots("p", slots=1, max_waiting=10), []
    over = threading.Event()

    def call(number: int) -> None:
        with slots.slot(ANONYMOUS, patient) as has_slot:
            assert has_slot
            order.append(number)
            over.wait(10)

    with ThreadPoolExecutor(5) as pool:
        for number in range(5):
            pool.submit(call, number)
            eventually(lambda number=number: slots.executing + slots.waiting == number + 1)  # type: ignore[misc]
        over.set()
    assert order == [0, 1, 2, 3, 4]


def test_call_that_gives_up_leaves_its_place() -> None:
    slots = CallSlots("p", slots=1, max_waiting=1)
    with slots.slot(ANONYMOUS, patient):
        with slots.slot(ANONYMOUS, gone) as has_slot:
            assert not has_slot
        assert (slots.executing, slots.waiting) == (1, 0)
    with slots.slot(ANONYMOUS, gone) as has_slot:
        assert has_slot


def test_quotas_count_those_of_the_caller_alone() -> None:
    slots = CallSlots("p", slots=2, max_waiting=10)
    one, other = (Submitter(name=name, max_active=2, max_queued=0) for name in "ab")
    with ExitStack() as stack:
        stack.enter_context(slots.slot(one, patient))
        stack.enter_context(slots.slot(one, patient))
        with pytest.raises(QuotaError, match="active"), slots.slot(one, patient):
            pass
        with pytest.raises(QuotaError, match="queued"), slots.slot(other, patient):
            pass
    with slots.slot(other, patient) as has_slot:
        assert has_slot
