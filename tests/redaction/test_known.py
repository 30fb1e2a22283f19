from __future__ import annotations

import pytest

from kedro_flask_server.redaction import Secrets


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


def test_known_values_are_left_out_however_they_are_written(secrets: Secrets) -> None:
    secrets.learn(['pa"ss\\wörd/1'])
    for written in (
        'pa"ss\\wörd/1',
        r"pa\"ss\\w\u00f6rd/1",
        r'pa"ss\\wörd/1',
        "pa%22ss%5Cw%C3%B6rd%2F1",
    ):
        assert secrets.redact(f"it was {written}.") == "it was <redacted>."


def test_lines_of_a_value_are_left_out_each_by_itself(secrets: Secrets) -> None:
    secrets.learn(
        ["-----BEGIN KEY-----\nfirst-line-1\nsecond-line\n-----END KEY-----\n", "alone-1\n"]
    )
    assert secrets.redact("  | first-line-1\n  | second-line") == "  | <redacted>\n  | <redacted>"
    assert secrets.redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_short_values_are_words(secrets: Secrets) -> None:
    secrets.learn(["seven77"])
    assert secrets.redact("seven77") == "seven77"


def test_the_longer_of_two_values_is_left_out_whole(secrets: Secrets) -> None:
    secrets.learn(["longlonglong", "longlonglonger"])
    assert secrets.redact("longlonglonger") == "<redacted>"


class Clock:
    """The time, as a test would have it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> Secrets:
    """Know what runs have brought, a hundred seconds ago: 3,000 secrets in 10 readings."""
    secrets = Secrets(clock)
    secrets.learn_environment({"TOKEN": "the-server-s-own"}, is_lasting=True)
    for run in range(10):
        secrets.learn(f"of-run-{run}-{number:03}" for number in range(300))
    clock.now += 100
    return secrets


def test_nothing_is_forgotten_by_itself(timed: Secrets) -> None:
    timed.learn(f"more-{number:05}" for number in range(10_000))
    for text in ("of-run-0-000", "more-00000", "more-09999", "the-server-s-own"):
        assert timed.redact(text) == "<redacted>"


def test_nothing_is_forgotten_that_an_active_run_may_hold(timed: Secrets, clock: Clock) -> None:
    assert timed.has_many()
    timed.forget(before=clock.now - 100)
    assert timed.redact("of-run-0-000") == "<redacted>"


def test_what_no_run_can_hold_is_forgotten_but_for_the_newest(timed: Secrets, clock: Clock) -> None:
    timed.forget(before=clock.now)
    assert timed.redact("of-run-1-299 is over") == "of-run-1-299 is over"
    # Of the last eight readings nothing is, however many they are.
    assert timed.redact("of-run-2-000, of-run-9-299") == "<redacted>, <redacted>"
    assert timed.redact("the-server-s-own") == "<redacted>"
    for run in range(1_100):
        timed.learn([f"of-a-later-run-{run:04}"])
    clock.now += 100
    timed.forget(before=clock.now)
    assert timed.redact("of-run-9-299") == "of-run-9-299"
    assert timed.redact("of-a-later-run-1099") == "<redacted>"
    assert not timed.has_many()


def test_what_is_in_a_request_that_waits_is_kept(timed: Secrets, clock: Clock) -> None:
    timed.keep_those_in('{"params": {"a": "it is of-run-0-000"}}')
    taken_in_at = clock.now
    clock.now += 1_000
    timed.forget(before=taken_in_at)
    assert timed.redact("of-run-0-000") == "<redacted>"
    assert timed.redact("of-run-0-001") == "of-run-0-001"


def test_what_is_learnt_again_is_as_good_as_new(timed: Secrets, clock: Clock) -> None:
    timed.learn(["of-run-0-000"])
    timed.forget(before=clock.now)
    assert timed.redact("of-run-0-000") == "<redacted>"


def test_variable_that_a_run_has_set_is_kept_as_long_as_it_is_there(
    timed: Secrets, clock: Clock
) -> None:
    environ = {"X_TOKEN": "set-by-a-run"}
    timed.learn_environment(environ)
    for run in range(1_100):
        timed.learn([f"of-a-later-run-{run:04}"])
    clock.now += 100
    timed.learn_environment(environ)
    timed.forget(before=clock.now)
    assert timed.redact("set-by-a-run") == "<redacted>"


def test_what_a_run_has_brought_may_be_the_process_s_as_well(timed: Secrets, clock: Clock) -> None:
    timed.learn(["of-run-0-000"], is_lasting=True)
    timed.forget(before=clock.now)
    assert timed.redact("of-run-0-000") == "<redacted>"


def test_what_is_forgotten_is_known_still_where_another_is_written_so(
    timed: Secrets, clock: Clock
) -> None:
    timed.learn(["of the run"], is_lasting=True)  # in a URL, of+the+run
    timed.learn(["of+the+run"])
    for run in range(1_100):
        timed.learn([f"of-a-later-run-{run:04}"])
    clock.now += 100
    timed.forget(before=clock.now)
    assert not timed.knows("of+the+run")
    assert timed.redact("of+the+run") == "<redacted>"


def test_others_are_told_of_what_runs_bring(secrets: Secrets) -> None:
    told: list[tuple[list[str], bool]] = []
    secrets.announce = lambda *each: told.append(each)
    secrets.learn(["the-server-s-own"], is_lasting=True)
    secrets.learn(["the-server-s-own", "of-the-run-1"])
    secrets.learn(["of-the-run-1"])  # by the next run, say
    secrets.learn_environment({"TOKEN": "of-the-environment"})
    assert told == [
        (["of-the-run-1"], True),
        (["of-the-run-1"], True),
        (["of-the-environment"], False),
    ]


@pytest.mark.parametrize("count", [5, 5_000])
def test_few_and_many_are_found_in_short_texts_and_long(secrets: Secrets, count: int) -> None:
    values = [f"{number:05}-a-secret-value" for number in range(count)]
    secrets.learn(values)
    for text in ("", "abc", "x" * 20_000):
        assert secrets.redact(f"{text}{values[0]}{text}") == f"{text}<redacted>{text}"
        assert secrets.redact(f"{text}{values[-1]}") == f"{text}<redacted>"
        assert secrets.redact(text) == text
