"""Run ids are unique and sort by time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from kedro.io.core import generate_timestamp

from kedro_flask_server.runs.ids import RunIds

MOMENT_NS = 1_704_067_200_123_000_000  # 2024-01-01T00:00:00.123Z


def test_id_has_the_form_of_kedros_versions() -> None:
    assert RunIds(lambda: MOMENT_NS).next() == "2024-01-01T00.00.00.123Z"
    shape = re.sub(r"\d", "0", generate_timestamp())
    assert re.sub(r"\d", "0", RunIds().next()) == shape


def test_thousand_ids_in_a_millisecond_are_unique_and_increasing() -> None:
    ids = RunIds(lambda: MOMENT_NS)
    given = [ids.next() for _ in range(1000)]
    assert given == sorted(set(given))
    assert given[-1] == "2024-01-01T00.00.01.122Z"


def test_ids_go_on_when_the_clock_is_set_back() -> None:
    moments = iter([MOMENT_NS, MOMENT_NS - 10**12, MOMENT_NS - 10**12])
    ids = RunIds(lambda: next(moments))
    given = [ids.next() for _ in range(3)]
    assert given == sorted(set(given))


def test_threads_never_get_the_same_id() -> None:
    ids = RunIds()
    with ThreadPoolExecutor(16) as threads:
        given = list(threads.map(lambda _: ids.next(), range(10_000)))
    assert len(set(given)) == 10_000
