"""When a template is renewed, and what the new one imports."""

from __future__ import annotations

import pytest

from kedro_flask_server.workers.imports import Imported
from kedro_flask_server.workers.renewal import Renewal
from tests.clocks import Clock
from tests.workers.fakes import FakeTemplate

MANY = [f"m{number}" for number in range(10)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def renewal(clock: Clock) -> Renewal:
    return Renewal(clock=clock)


def imported(*early: str, late: tuple[str, ...] = (), has_set: bool = False) -> Imported:
    return Imported(early=[*early], late=[*late], has_set=has_set)


def is_due(renewal: Renewal, template: FakeTemplate, what: Imported | None = None) -> bool:
    return renewal.is_due(template, is_loaded=True, imported=what)


def test_template_is_renewed_when_runs_import_enough_that_it_has_not(renewal: Renewal) -> None:
    template = FakeTemplate()
    assert is_due(renewal, template, imported(*MANY[:9])) is False
    assert is_due(renewal, template, imported(MANY[9])) is True
    assert renewal.modules == MANY


def test_template_that_has_imported_all_is_not_renewed(renewal: Renewal) -> None:
    assert is_due(renewal, FakeTemplate(*MANY), imported(*MANY)) is False


def test_template_that_does_not_fork_is_not_renewed_for_imports(renewal: Renewal) -> None:
    assert is_due(renewal, FakeTemplate(start_method="spawn"), imported(*MANY)) is False


def test_template_is_renewed_a_few_times_at_most(renewal: Renewal) -> None:
    found = []
    for number in range(5):
        names = [f"{number}.{name}" for name in MANY]
        found.append(is_due(renewal, FakeTemplate(*renewal.modules), imported(*names)))
    assert found == [True, True, True, False, False]


def test_renewal_that_was_given_up_imports_nothing_more(renewal: Renewal) -> None:
    renewal.give_up()
    assert is_due(renewal, FakeTemplate(), imported(*MANY)) is False


def test_template_that_could_not_load_is_renewed_when_a_worker_can(renewal: Renewal) -> None:
    template = FakeTemplate(start_method="spawn")
    template.is_loaded = False
    assert renewal.is_due(template, is_loaded=False, imported=None) is False
    assert renewal.is_due(template, is_loaded=True, imported=None) is True


def test_module_for_which_a_run_has_set_something_is_not_imported_ahead(renewal: Renewal) -> None:
    is_due(renewal, FakeTemplate(), imported("a", "b"))
    is_due(renewal, FakeTemplate(), imported("a", late=("b",), has_set=True))
    assert renewal.modules == ["a"]


@pytest.mark.parametrize(
    "what", [imported(late=("m1",), has_set=True), imported(has_set=True)], ids=["late", "hidden"]
)
def test_template_that_has_imported_too_early_is_renewed_without_all_of_it(
    renewal: Renewal, what: Imported
) -> None:
    is_due(renewal, FakeTemplate(), imported(*MANY))
    assert is_due(renewal, FakeTemplate(*MANY), what) is True
    assert renewal.modules == []
    # And nothing is imported ahead from then on.
    assert is_due(renewal, FakeTemplate(), imported(*(f"{name}.x" for name in MANY))) is False


def test_run_that_sets_something_says_nothing_of_a_template_with_no_imports(
    renewal: Renewal,
) -> None:
    assert is_due(renewal, FakeTemplate(), imported("a", has_set=True)) is False
    assert renewal.modules == ["a"]


def test_template_reads_a_configuration_for_the_runs_to_come_no_more_than_twice_a_second(
    renewal: Renewal, clock: Clock
) -> None:
    template = FakeTemplate()
    renewal.have_read(template, ["a"])
    renewal.have_read(template, ["b"])
    clock.advance(0.5)
    renewal.have_read(template, ["c"])
    assert template.read_with == [["a"], ["c"]]


def test_template_that_does_not_fork_reads_nothing(renewal: Renewal) -> None:
    template = FakeTemplate(start_method="spawn")
    renewal.have_read(template, ["a"])
    assert template.read_with == []


def test_template_hears_of_no_more_parameters_than_it_should(renewal: Renewal) -> None:
    template = FakeTemplate()
    renewal.have_read(template, ["x" * 101, "x" * 100, *(f"p{number}" for number in range(200))])
    [names] = template.read_with
    assert len(names) == 100
    assert names[:2] == ["x" * 100, "p0"]
