"""Run ids are unique and sort by time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

from kedro.io.core import generate_timestamp

from kedro_flask_server.model.run_id import RunIds, run_id_at, time_of

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


def test_id_tells_its_time_and_any_time_has_one() -> None:
    assert run_id_at(time_of(run_id := RunIds().next())) == run_id
    east = timezone(timedelta(hours=14))
    assert run_id_at(datetime(2024, 1, 1, 14, tzinfo=east)) == "2024-01-01T00.00.00.000Z"
    assert run_id_at(datetime.min.replace(tzinfo=east)) == "1970-01-01T00.00.00.000Z"
    assert run_id_at(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))) == (
        "9000-01-01T00.00.00.000Z"
    )
