"""What a first run does is done before it."""

from __future__ import annotations

import logging

import pytest

from kedro_flask_server.project import warmup
from kedro_flask_server.project.warmup import _rehearse, warm_up


def test_rehearsal_comes_to_its_end() -> None:
    _rehearse()


def test_warming_up_says_nothing_and_leaves_logging_as_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.DEBUG)
    with caplog.at_level(0):
        warm_up()
    assert caplog.records == []
    assert logging.root.manager.disable == logging.DEBUG


def test_kedro_that_cannot_be_rehearsed_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []

    def fail() -> None:
        tried.append(True)
        raise AttributeError("of another Kedro")

    monkeypatch.setattr(warmup, "_rehearse", fail)
    warm_up()
    assert len(tried) == 2
