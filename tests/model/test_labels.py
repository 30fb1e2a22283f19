"""Labels: what a name and a value may be."""

from __future__ import annotations

import pytest

from kedro_flask_server.model.labels import LabelError, checked, labels_in_query


def test_labels_have_names_and_values() -> None:
    given = ["team=fraud", "nightly", "note=a=b", "empty=", "*.x_1-y=ü"]
    expected = {"team": "fraud", "nightly": "true", "note": "a=b", "empty": "", "*.x_1-y": "ü"}
    assert labels_in_query(given) == expected


@pytest.mark.parametrize(
    "label", ["", "=x", "Team=x", "1=x", "a b=x", f"{'n' * 65}=x", f"a={'v' * 129}", "a=\n", "a=\0"]
)
def test_label_that_is_not_valid_is_refused(label: str) -> None:
    with pytest.raises(LabelError):
        labels_in_query([label])


def test_a_run_has_a_number_of_labels() -> None:
    assert len(checked({f"n{at}": "x" for at in range(16)})) == 16
    with pytest.raises(LabelError, match="16"):
        checked({f"n{at}": "x" for at in range(17)})
