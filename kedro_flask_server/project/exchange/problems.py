"""What is wrong with data that was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAX_PROBLEMS = 20


class InvalidInput(ValueError):  # noqa: N818  the `type` of the run's error
    """Raised before a run begins whose data cannot be read, or is not what its nodes take.

    Args:
        dataset: The dataset.
        message: What is wrong; it may have some of the data in it.
        problems: The same in detail: for each, where it is within the data, what kind of problem
            it is, and a message.
    """

    def __init__(
        self,
        dataset: str,
        message: str,
        problems: Sequence[tuple[tuple[str | int, ...], str, str]] = (),
    ) -> None:
        # Of what is wrong, only those are told who may see the data.
        super().__init__(f"The data of '{dataset}' is not valid.")
        found = problems[:_MAX_PROBLEMS] or [((), "value_error", message)]
        self.problems: list[dict[str, Any]] = [
            {
                "type": kind,
                "loc": ["body", "inputs", dataset, *where],
                "msg": text,
                "input": None,
            }
            for where, kind, text in found
        ]
