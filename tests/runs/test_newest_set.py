"""Which versions belong together, and when what is newer is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from kedro_flask_server.errors import LoadFailedError, NothingToLoadError
from kedro_flask_server.model.served import DatasetVersion
from kedro_flask_server.runs.newest_set import NewestSet

FIRST, SECOND, THIRD = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3))


def newest(
    statuses: dict[str, str] | None = None, clock: Callable[[], float] = lambda: 0.0
) -> NewestSet:
    known = {} if statuses is None else statuses

    def of(versions: Sequence[str]) -> dict[str, str]:
        return {each: known[each] for each in versions if each in known}

    return NewestSet(of, stable_after_s=5, clock=clock)


def versions(*names: str, age_s: float | None = 0.0) -> tuple[DatasetVersion, ...]:
    """Return versions, the newest first."""
    return tuple(DatasetVersion(version=each, state=f"of {each}", age_s=age_s) for each in names)


def chosen(of: NewestSet, **found: tuple[DatasetVersion, ...]) -> dict[str, str | None]:
    return {name: each.version for name, each in of.choose(found).items()}


def test_newest_of_runs_that_have_succeeded_is_chosen() -> None:
    of = newest({FIRST: "success", SECOND: "failure", THIRD: "running"})
    all_of_them = versions(THIRD, SECOND, FIRST)
    assert chosen(of, model=all_of_them, scaler=all_of_them) == {"model": FIRST, "scaler": FIRST}


@pytest.mark.parametrize("status", ["queued", "running", "failure", "cancelled", "lost"])
def test_run_that_has_not_succeeded_has_left_nothing_to_load(status: str) -> None:
    with pytest.raises(NothingToLoadError, match="'model'"):
        chosen(newest({FIRST: status}), model=versions(FIRST))


def test_version_of_no_known_run_has_to_be_stable_for_as_long_as_is_set() -> None:
    now = 100.0
    of = newest(clock=lambda: now)
    for now in (100.0, 101.0, 104.9):  # noqa: B007  the clock reads it
        with pytest.raises(NothingToLoadError):
            chosen(of, model=versions(FIRST))
    now = 105.0
    assert chosen(of, model=versions(FIRST)) == {"model": FIRST}
    changed = (DatasetVersion(version=FIRST, state="another", age_s=0.0),)
    with pytest.raises(NothingToLoadError):
        chosen(of, model=changed)
    assert chosen(newest(), model=versions("by hand", age_s=5)) == {"model": "by hand"}


def test_file_has_to_be_stable_and_written_by_nobody() -> None:
    of = newest()
    old = {"model": (DatasetVersion(version=None, state="a", age_s=60.0),)}
    assert of.choose(old)["model"].state == "a"
    with pytest.raises(NothingToLoadError):
        of.choose(old, being_written=["model"])
    with pytest.raises(NothingToLoadError):
        of.choose({"model@spark": old["model"]}, being_written=["model"])
    nothing_known = {"model": (DatasetVersion(version=None, state=""),)}
    assert of.choose(nothing_known)["model"].state == ""


@pytest.mark.parametrize("status", ["failure", "lost"])
def test_run_that_has_failed_is_remembered_when_its_row_is_gone(status: str) -> None:
    statuses = {FIRST: "success", SECOND: status}
    of = newest(statuses)
    found = versions(SECOND, FIRST, age_s=1e6)
    assert chosen(of, model=found) == {"model": FIRST}
    del statuses[SECOND]
    assert chosen(of, model=found) == {"model": FIRST}


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(NothingToLoadError, match="'scaler'"):
        chosen(newest({FIRST: "success"}), model=versions(FIRST), scaler=())


def test_versions_that_are_asked_for_count() -> None:
    of = newest({FIRST: "success", SECOND: "success"})
    found = {"model": versions(SECOND, FIRST), "scaler": versions(SECOND, FIRST)}
    pinned = of.choose(found, pinned={"model": FIRST})
    assert [each.version for each in pinned.values()] == [FIRST, SECOND]
    with pytest.raises(LoadFailedError, match=f"no version '{THIRD}'.*{SECOND}, {FIRST}"):
        of.choose(found, pinned={"model": THIRD})


def test_run_that_a_retry_has_mended_is_whole() -> None:
    statuses = {FIRST: "success", SECOND: "failure"}
    of = newest(statuses)
    assert chosen(of, model=versions(SECOND, FIRST)) == {"model": FIRST}
    statuses[SECOND] = "success"
    assert chosen(of, model=versions(SECOND, FIRST)) == {"model": SECOND}
