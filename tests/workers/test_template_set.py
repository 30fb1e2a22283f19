"""Which template is the current one, and what becomes of the others."""

from __future__ import annotations

import pytest

from kedro_flask_server.workers.template_set import TemplateSet
from tests.clocks import Clock
from tests.workers.fakes import SETTINGS, FakeTemplate, FakeWorker


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def current() -> FakeTemplate:
    return FakeTemplate()


@pytest.fixture
def templates(clock: Clock, current: FakeTemplate) -> TemplateSet:
    return TemplateSet(SETTINGS, set(), current, clock=clock)


def promote(templates: TemplateSet, template: FakeTemplate) -> bool:
    templates.next = template
    return templates.promote_next()


def test_template_that_was_started_ahead_is_the_current_one(templates, current) -> None:
    assert templates.start() is current
    assert templates.all() == [current]


def test_next_replaces_the_current_one_which_ends_with_its_last_worker(templates, current) -> None:
    new = FakeTemplate()
    assert promote(templates, new) is True
    assert (templates.current, templates.next) == (new, None)
    assert (current.is_retired, current.has_ended) == (True, False)
    assert templates.all() == [current, new]


def test_next_that_cannot_fork_does_not_replace_one_that_can(templates, current) -> None:
    new = FakeTemplate(start_method="spawn")
    assert promote(templates, new) is False
    assert (templates.current, templates.next) == (current, None)
    assert (new.has_ended, current.is_retired) == (True, False)


def test_next_replaces_one_that_could_not_load_however_it_starts_workers(
    templates, current
) -> None:
    current.is_loaded = False
    assert promote(templates, FakeTemplate(start_method="spawn")) is True


def test_next_becomes_the_current_one_where_there_is_none(templates, current) -> None:
    templates.remove(current)
    assert templates.current is None
    new = FakeTemplate()
    assert promote(templates, new) is True
    assert templates.all() == [new]


def test_removal_of_one_leaves_the_others(templates, current) -> None:
    new, following = FakeTemplate(), FakeTemplate()
    promote(templates, new)
    templates.next = following
    templates.remove(current)
    assert templates.all() == [new, following]
    templates.remove(following)
    assert (templates.current, templates.next) == (new, None)


def test_lease_is_renewed_with_all_that_are_ready(templates, current) -> None:
    new, following = FakeTemplate(), FakeTemplate()
    promote(templates, new)
    templates.next, following.is_ready = following, False
    templates.renew_lease(5)
    templates.renew_lease(None)
    assert current.leases == new.leases == [5, None]
    assert following.leases == []


def test_template_that_becomes_ready_has_what_is_left_of_the_lease(templates, clock) -> None:
    new = FakeTemplate()
    templates.limit(new)
    assert new.leases == []
    templates.renew_lease(5)
    clock.advance(2)
    templates.limit(new)
    assert new.leases == [3]
    templates.renew_lease(None)
    templates.limit(new)
    assert new.leases == [3]


def looks(templates: TemplateSet, clock: Clock, seconds: int, *awaited: FakeWorker) -> bool:
    """Look once a second; return whether the current template was silent at any look."""
    found = []
    for _ in range(seconds):
        clock.advance(1)
        found.append(templates.is_silent(awaited))
    return any(found)


def test_template_that_is_late_with_a_worker_for_ten_seconds_is_silent(
    templates, current, clock
) -> None:
    worker = FakeWorker(current, is_ready=False, asked_for_at=clock.now)
    assert not looks(templates, clock, 11, worker)
    assert looks(templates, clock, 2, worker)


def test_template_that_is_stopped_for_ten_seconds_is_silent(templates, current, clock) -> None:
    current.is_stopped = True
    assert not looks(templates, clock, 10)
    assert looks(templates, clock, 1)


def test_template_that_answers_now_and_then_is_not_silent(templates, current, clock) -> None:
    for _ in range(4):
        worker = FakeWorker(current, is_ready=False, asked_for_at=clock.now)
        assert not looks(templates, clock, 8, worker)


def test_workers_of_another_template_or_of_one_that_spawns_are_not_awaited(
    templates, current, clock
) -> None:
    other = FakeWorker(FakeTemplate(), is_ready=False, asked_for_at=clock.now)
    assert not looks(templates, clock, 30, other)
    current.start_method = "spawn"  # which takes as long as an import does
    own = FakeWorker(current, is_ready=False, asked_for_at=clock.now)
    assert not looks(templates, clock, 30, own)


def test_no_template_is_not_silent(clock) -> None:
    assert not looks(TemplateSet(SETTINGS, set(), None, clock=clock), clock, 30)
