"""Statements that every run needs, put together once.

SQLite executes one in a few microseconds, of which SQLAlchemy makes thirty and more.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Select, Update
from sqlalchemy.dialects import sqlite


class Prepared:
    """A statement that SQLite's own driver executes; for PostgreSQL's, SQLAlchemy does."""

    def __init__(self, statement: Select[Any] | Update, *, changes: Iterable[str] = ()) -> None:
        """Take a statement.

        Args:
            statement: What to execute; the values of its `bindparam` are still to come.
            changes: Of an UPDATE, the names of the columns whose values are still to come.
        """
        self._statement = statement
        self._changes = tuple(changes)

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Return the rows that it finds, with the names of its columns.

        Args:
            connection: What `Database.writing` or `Database.reading` returned.
            values: Its values, by their names.
        """
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).all()
        return [self._row(*each) for each in self._execute(connection, values)]

    def changed(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Return how many rows it has changed.

        Args:
            connection: What `Database.writing` returned.
            values: Its values, by their names, those of columns too.
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


def driver_of(connection: Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.driver_connection
