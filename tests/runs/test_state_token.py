"""Whether what pages show has changed."""

from __future__ import annotations

import itertools

from kedro_flask_server.runs.state_token import StateToken
from tests.clocks import Clock


def test_it_is_found_out_once_a_second_for_all() -> None:
    clock, numbers = Clock(), itertools.count()
    token = StateToken(lambda: str(next(numbers)), clock=clock)
    assert {token.get() for _ in range(100)} == {"0"}
    clock.advance(0.9)
    assert token.get() == "0"
    clock.advance(0.2)
    assert {token.get() for _ in range(100)} == {"1"}
