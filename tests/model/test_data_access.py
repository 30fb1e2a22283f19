"""Which locks a run has, and which of two runs conflict."""

from __future__ import annotations

from itertools import product

import pytest

from kedro_flask_server.model.data_access import CONFLICTS, DataAccess, Locks


def locks(*, reads: str = "", writes: str = "") -> Locks:
    """Return the locks of a run on locations, separated by spaces."""
    return DataAccess(
        reads={f"r{n}": each for n, each in enumerate(reads.split())},
        writes={f"w{n}": each for n, each in enumerate(writes.split())},
    ).locks()


def are_in_conflict(one: Locks, other: Locks) -> bool:
    return any(
        a.location == b.location and b.mode in CONFLICTS[a.mode]
        for a, b in product(one.each, other.each)
    )


A, B = "file:///data/a.json", "file:///data/b.json"
FOLDER, PART, BESIDE = "file:///data/parts", "file:///data/parts/1/x.csv", "file:///data/parts2"
CASES = [
    ({"reads": A}, {"reads": A}, False),
    ({"reads": A}, {"writes": A}, True),
    ({"writes": A}, {"writes": A}, True),
    ({"reads": A, "writes": B}, {"reads": B, "writes": A}, True),
    ({"writes": A}, {"writes": B}, False),
    ({"reads": f"{A} {B}"}, {"writes": B}, True),
    ({"writes": FOLDER}, {"reads": PART}, True),
    ({"reads": FOLDER}, {"writes": PART}, True),
    ({"reads": FOLDER}, {"reads": PART}, False),
    ({"writes": PART}, {"writes": BESIDE}, False),
    ({"reads": FOLDER, "writes": PART}, {"reads": PART}, True),
    ({"reads": FOLDER}, {"reads": FOLDER, "writes": PART}, True),
    ({"writes": "s3://bucket/x"}, {"writes": "file://bucket/x"}, False),
    ({"writes": "s3://bucket"}, {"reads": "s3://bucket/x/y.csv"}, True),
    ({"writes": "table://postgresql:h/db/t"}, {"writes": "table://postgresql:h/db/u"}, False),
    ({"writes": ""}, {"writes": A}, False),
]


@pytest.mark.parametrize(("one", "other", "expected"), CASES)
def test_runs_conflict_where_one_writes_what_the_other_uses(one, other, expected: bool) -> None:
    assert are_in_conflict(locks(**one), locks(**other)) is expected
    assert are_in_conflict(locks(**other), locks(**one)) is expected


def test_conflicts_are_mutual() -> None:
    for one, other in product(CONFLICTS, CONFLICTS):
        assert (other in CONFLICTS[one]) is (one in CONFLICTS[other])


def test_location_that_is_read_and_written_has_one_lock() -> None:
    found = DataAccess(reads={"x": A}, writes={"y": A}).locks()
    assert [lock.mode for lock in found.each if lock.dataset == "x"] == []
    assert {lock.mode for lock in found.each} == {"W", "IW"}


def test_locks_name_the_dataset_that_they_are_for() -> None:
    found = DataAccess(reads={"model": PART}, writes={"n" * 400: B}).locks()
    assert {lock.dataset for lock in found.each if lock.mode == "R"} == {"model"}
    assert {len(lock.dataset) for lock in found.each if lock.mode == "W"} == {255}


def test_digest_is_the_same_for_the_same_locations_alone() -> None:
    assert locks(reads=f"{A} {B}").digest == locks(reads=f"{B} {A}").digest
    different = [locks(reads=A), locks(writes=A), locks(reads=B), locks()]
    assert len({each.digest for each in different}) == len(different)
    assert {len(each.digest) for each in different} == {32}
