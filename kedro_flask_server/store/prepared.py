"""Statements that every run needs, compiled once.

SQLite executes one in a few microseconds, which SQLAlchemy turns into thirty and more.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any

from sqlalchemy import Connection, Delete, Select, Update
from sqlalchemy.dialects import sqlite

_NAME = re.compile(r":(\w+)")
_NUMBERS = count(1)


class Prepared:
    """A statement executed by SQLite's driver directly; for PostgreSQL, by SQLAlchemy."""

    def __init__(
        self, statement: Select[Any] | Update | Delete, *, changes: Iterable[str] = ()
    ) -> None:
        """Prepare a statement.

        Args:
            statement: What to execute, with a `bindparam` for each value to pass.
            changes: For an UPDATE, the names of the columns whose values are passed.
        """
        self._statement = statement
        self._changes = tuple(changes)

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Return the rows that it finds, with the names of its columns.

        Args:
            connection: The result of `Database.writing` or `Database.reading`.
            values: Its values, by their names.
        """
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).all()
        return [self._row(*each) for each in self._execute(connection, values)]

    def changed(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Return how many rows it has changed.

        Args:
            connection: The result of `Database.writing`.
            values: Its values, by their names, including those of columns.
        """
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).rowcount
        return int(self._execute(connection, values).rowcount)

    def _execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        text, names, own = self._in_sqlite
        given = {**own, **values}
        return driver_of(connection).execute(text, [given[name] for name in names])

    @cached_property
    def _in_sqlite(self) -> tuple[str, list[str], Mapping[str, Any]]:
        columns = [*self._changes] or None
        compiled = self._statement.compile(dialect=sqlite.dialect(), column_keys=columns)
        return str(compiled), compiled.positiontup or [], compiled.params

    @cached_property
    def _row(self) -> Callable[..., Any]:
        assert isinstance(self._statement, Select)  # noqa: S101  others find no rows
        return namedtuple("Row", [each.name for each in self._statement.selected_columns])


class Statement:
    """A PostgreSQL statement, with the names of its values in order."""

    def __init__(self, text: str) -> None:
        """Prepare a statement.

        Args:
            text: SQL, with ``:name`` as the placeholder of a value.
        """
        names: dict[str, int] = {}
        numbered = _NAME.sub(lambda found: f"${names.setdefault(found[1], len(names) + 1)}", text)
        self.text = numbered.encode()
        self.names = tuple(names)
        self.name = f"kedro_{next(_NUMBERS)}".encode()

    def values(self, given: Mapping[str, Any]) -> list[bytes | None]:
        """Return its values in libpq's form."""
        return [_dump(given[name]) for name in self.names]


def _dump(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode()


def driver_of(connection: Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.driver_connection
