"""What differs between two mappings."""

from __future__ import annotations

from kedro_flask_server.model.differences import differences


def test_values_are_compared_by_dotted_names() -> None:
    one = {"a": {"b": 1, "c": [1]}, "same": {"x": 1}, "gone": None, "empty": {}}
    other = {"a": {"b": 2, "c": [1]}, "same": {"x": 1}, "new": 0, "empty": {}}
    assert differences(one, other, ("before", "after")) == {
        "a.b": {"before": 1, "after": 2},
        "new": {"before": None, "after": 0},
    }
