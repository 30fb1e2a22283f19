"""The cache holds what was put last, and no more than it should."""

from __future__ import annotations

import threading

from kedro_flask_server.bounded_cache import BoundedCache


def test_value_is_found_by_its_key() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    assert (cache.get("a"), cache.get("b")) == (1, None)


def test_oldest_goes_where_there_are_too_many() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    for number, key in enumerate("abc"):
        cache.put(key, number)
    assert cache.items() == [("b", 1), ("c", 2)]


def test_what_was_looked_up_is_no_younger() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert cache.get("a") is None


def test_what_is_put_again_is_the_youngest_and_takes_no_more_room() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        cache.put(key, value)
    assert cache.items() == [("b", 2), ("a", 3)]
    cache.put("c", 4)
    assert cache.items() == [("a", 3), ("c", 4)]


def test_clear_leaves_nothing() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.clear()
    assert (cache.items(), cache.get("a")) == ([], None)


def test_many_threads_leave_it_within_its_bound() -> None:
    cache: BoundedCache[int, int] = BoundedCache(8)
    start = threading.Barrier(8)

    def put_many(first: int) -> None:
        start.wait(10)
        for number in range(500):
            cache.put(first * 1_000 + number, number)

    threads = [threading.Thread(target=put_many, args=[first]) for first in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(cache.items()) == 8
