"""What is said of a queue, and that it comes back as it was stored."""

from __future__ import annotations

from kedro_flask_server.model.queue import Pool, QueueLimits, WaitingFor, WaitReason

LIMITS = QueueLimits(
    concurrency={"train": 1}, pools={"gpu": Pool(slots=2, pipelines={"train": 1, "score": 2})}
)


def test_limits_come_back_as_they_were_stored() -> None:
    assert QueueLimits.load(LIMITS.dump()) == LIMITS
    assert LIMITS
    assert not QueueLimits.load(QueueLimits().dump())


def test_changes_of_limits_are_said_one_by_one() -> None:
    later = QueueLimits(
        concurrency={"train": 2, "score": 1}, pools={"db": Pool(slots=1, pipelines={})}
    )
    assert [*later.changes_from(LIMITS)] == [
        "concurrency of 'score' from any to 1",
        "concurrency of 'train' from 1 to 2",
        "pool 'db' added",
        "pool 'gpu' removed",
    ]
    assert [*LIMITS.changes_from(LIMITS)] == []


def test_pool_counts_the_slots_of_all_its_pipelines() -> None:
    assert LIMITS.pools["gpu"].slots_for({"train": 1, "score": 2, "other": 9}) == 5


def test_reason_comes_back_as_it_was_stored_without_what_a_later_version_adds() -> None:
    waiting = WaitingFor(reason=WaitReason.DATASET, dataset="model", run_id="r1")
    assert waiting.given() == {"reason": "dataset", "dataset": "model", "run_id": "r1"}
    assert WaitingFor.load({**waiting.given(), "since": 1}) == waiting
