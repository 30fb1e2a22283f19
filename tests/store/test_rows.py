"""Requests as the store keeps them."""

from __future__ import annotations

from kedro_flask_server.model.run import RunRequest
from kedro_flask_server.store.rows import hash_request


def test_hash_is_that_of_older_versions_whatever_the_order() -> None:
    # Taken down with version 0.1.0: keys sent before an upgrade have to be found after it.
    expected = "ced4caacea483942058365f8441e2997d952141a2fdebbefefa275b918336a41"
    for params in ({"b": 1, "a": {"d": 1, "c": 2}}, {"a": {"c": 2, "d": 1}, "b": 1}):
        assert hash_request(RunRequest(tags=["x"], params=params)) == expected
