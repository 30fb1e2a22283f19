"""What is known of the tables of pandas, Polars and Arrow without importing any of them."""

from __future__ import annotations

import sys
from typing import Any

PANDAS, POLARS, ARROW = TABLES = ("pandas.DataFrame", "polars.DataFrame", "pyarrow.Table")


def is_of(data: Any, *names: str) -> bool:
    """Return whether data is of a class, such as `PANDAS`, whose library then is imported."""
    for name in names:
        module, _, attribute = name.partition(".")
        found = getattr(sys.modules.get(module), attribute, None)
        if found is not None and isinstance(data, found):
            return True
    return False


def to_arrow(table: Any) -> Any:
    """Return a table as one of Arrow.

    Raises:
        TypeError: If it is no table.
        pyarrow.ArrowException: If Arrow has no type for what is in it.
    """
    import pyarrow

    if is_of(table, ARROW):
        return table
    if is_of(table, POLARS):
        return table.to_arrow()
    if is_of(table, PANDAS):
        return pyarrow.Table.from_pandas(table)
    raise TypeError(f"{type(table).__qualname__} is no table")
