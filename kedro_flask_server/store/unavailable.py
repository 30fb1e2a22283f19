"""Translates errors of database drivers into `StoreUnavailableError`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.text import bounded, printable


@contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Raise `StoreUnavailableError` for any driver error within.

    Raises:
        StoreUnavailableError: If the database cannot be reached, read or written.
        sqlalchemy.exc.IntegrityError: If a row exists already.
    """
    try:
        yield
    except IntegrityError:
        raise
    except sqlite3.IntegrityError as error:
        raise IntegrityError(None, None, error) from error
    # OSError: a socket that has timed out.
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise StoreUnavailableError(printable(bounded(_reason(reason), 300))) from error


def _reason(error: BaseException) -> str:
    if hasattr(error, "sqlstate"):  # PostgreSQL's message, without its hints
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{type(error).__name__}: {error}"
