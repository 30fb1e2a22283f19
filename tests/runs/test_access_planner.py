"""What is known of runs' locks before they start, and how it is kept right."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.model.data_access import DataAccess, FoundAccess, Locks
from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.runs.access_planner import AccessPlanner


class FakeExecutor:
    """Has a project whose configuration says where its datasets lie."""

    def __init__(self) -> None:
        self.place = "a"
        self.depends_on_params = False
        self.fails = False
        self.looks = 0

    def data_access(self, request: RunRequest) -> FoundAccess | None:
        self.looks += 1
        if self.fails:
            return None
        tag = (request.params or {}).get("tag", "") if self.depends_on_params else ""
        return FoundAccess(
            access=DataAccess(writes={"x": f"file:///data/{self.place}{tag}"}),
            depends_on_params=self.depends_on_params,
        )


def locks_at(place: str) -> Locks:
    return DataAccess(writes={"x": f"file:///data/{place}"}).locks()


def tagged(tag: str, **fields: object) -> RunRequest:
    return RunRequest(pipeline_names=["train"], params={"tag": tag}, **fields)  # type: ignore[arg-type]


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


def planner_of(fake: FakeExecutor, /, **settings: object) -> AccessPlanner:
    given = {"dataset_conflicts": "wait"} | settings
    return AccessPlanner(fake, ServerConfig(project_path=Path(), **given))  # type: ignore[arg-type]


@pytest.fixture
def planner(executor: FakeExecutor) -> AccessPlanner:
    return planner_of(executor)


def test_project_is_looked_at_once_for_runs_of_the_same_nodes(executor, planner) -> None:
    for tag in "abc":
        assert planner.plan(tagged(tag)) == locks_at("a")
    assert planner.plan(tagged("a", runner="ThreadRunner", is_async=True)) == locks_at("a")
    assert executor.looks == 1
    planner.plan(tagged("a", tags=["x"]))
    assert executor.looks == 2


def test_runs_whose_places_depend_on_parameters_are_looked_up_by_these(executor, planner) -> None:
    executor.depends_on_params = True
    for _ in range(2):
        assert [planner.plan(tagged(tag)) for tag in "xy"] == [locks_at("ax"), locks_at("ay")]
    assert executor.looks == 2


def test_run_that_is_about_to_start_gets_what_all_such_runs_have(executor, planner) -> None:
    executor.depends_on_params = True
    planner.plan(tagged("x"), must_be_whole=False)
    planner.learn(tagged("y"), locks_at("ay"))
    found = planner.plan(tagged("z"), must_be_whole=False)
    assert found is not None
    assert found.digest not in (locks_at("ax").digest, locks_at("ay").digest)
    assert {*found.each} == {*locks_at("ax").each} & {*locks_at("ay").each}
    assert planner.plan(tagged("y"), must_be_whole=False) == locks_at("ay")
    assert executor.looks == 1
    assert planner.plan(tagged("z")) == locks_at("az")
    assert executor.looks == 2


def test_edited_catalog_is_learnt_from_the_first_run_that_finds_it(executor, planner) -> None:
    assert planner.plan(tagged("a")) == locks_at("a")
    executor.place = "b"
    assert planner.plan(tagged("a")) == locks_at("a")
    planner.learn(tagged("a"), locks_at("b"))
    assert [planner.plan(tagged(tag)) for tag in "abc"] == [locks_at("b")] * 3
    assert executor.looks == 2


def test_what_a_hook_changes_is_remembered_by_parameters(executor, planner) -> None:
    assert planner.plan(tagged("a")) == locks_at("a")
    planner.learn(tagged("a"), locks_at("hooked"))
    assert planner.plan(tagged("b")) == locks_at("a")
    planner.learn(tagged("b"), locks_at("hooked b"))
    for _ in range(3):
        assert planner.plan(tagged("b")) == locks_at("hooked b")
    assert executor.looks == 2


def test_plan_is_made_anew_where_it_may_be_out_of_date(executor, planner) -> None:
    planner.plan(tagged("a"))
    executor.place = "b"
    assert planner.plan(tagged("a"), anew=True) == locks_at("b")
    assert planner.plan(tagged("b")) == locks_at("b")


def test_run_that_cannot_be_planned_has_no_locks_and_is_tried_again(executor, planner) -> None:
    executor.fails = True
    assert planner.plan(tagged("a")) is None
    executor.fails = False
    assert planner.plan(tagged("a")) == locks_at("a")


@pytest.mark.parametrize(
    ("settings", "names", "expected"),
    [
        ({"dataset_conflicts": "allow"}, ["train"], False),
        ({"dataset_conflicts": None, "executor": "threads"}, ["train"], False),
        ({"dataset_conflicts": None, "executor": "processes"}, ["train"], True),
        ({"dataset_conflicts": "refuse"}, ["train"], True),
        ({"conflict_exempt_pipelines": ("train",)}, ["train"], False),
        ({"conflict_exempt_pipelines": ("train",)}, ["train", "score"], True),
    ],
)
def test_settings_say_which_runs_have_locks(executor, settings, names, expected: bool) -> None:
    planner = planner_of(executor, **settings)
    request = RunRequest(pipeline_names=names)
    assert planner.has_locks(request) is expected
    assert (planner.plan(request) is not None) is expected
    assert executor.looks == expected
