"""Executors: which ones a system has."""

from __future__ import annotations

import pytest

from kedro_flask_server.config.parsers import one_of
from kedro_flask_server.executors.factory import _FACTORIES
from kedro_flask_server.model.executors import EXECUTORS, available_executors


def test_processes_are_the_default_and_refused_where_there_are_none() -> None:
    assert available_executors("posix") == ["processes", "threads"]
    assert available_executors("nt") == ["threads"]
    only = one_of(*available_executors("nt"))
    assert only.parse("threads") == "threads"
    with pytest.raises(ValueError, match=r"^$"):
        only.parse("processes")


def test_factory_makes_every_executor() -> None:
    assert _FACTORIES.keys() == {each.name for each in EXECUTORS}
