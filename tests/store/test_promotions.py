"""What served pipelines were asked to load last."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from kedro_flask_server.model.run import Submitter
from kedro_flask_server.store import RunStore

BOSS = Submitter(name="boss")


def test_last_promotion_of_each_pipeline_counts(store: RunStore) -> None:
    promotions = store.promotions
    assert (promotions.of("a").number, promotions.of("a").versions) == (0, {})
    promotions.put("a", {"model": "1"}, BOSS)
    promotions.put("b\ud800", {"model": "2"}, BOSS)
    assert promotions.put("a", {}, BOSS).number == 2
    assert (promotions.of("a").number, promotions.of("a").versions) == (2, {})
    assert promotions.of("b\ud800").versions == {"model": "2"}


def test_promotions_at_the_same_time_are_all_counted(store: RunStore) -> None:
    store.promotions.put("a", {}, BOSS)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda tag: store.promotions.put("a", {"model": str(tag)}, BOSS), range(8)))
    assert store.promotions.of("a").number == 9


def test_first_of_all_stays(store: RunStore) -> None:
    first = store.promotions.put_first("a", {"model": "1"}, BOSS)
    again = store.promotions.put_first("a", {"model": "2"}, BOSS)
    assert (first, again.versions) == (again, {"model": "1"})
