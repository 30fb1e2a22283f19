"""Chains of retries: each run in it but the first retries the one before."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select, update

from kedro_flask_server.errors import RetryRefusedError
from kedro_flask_server.store.schema import runs


def join_chain(connection: Connection, run_id: str, retry_of: str) -> dict[str, Any]:
    """Make a new run the newest of a chain.

    Args:
        connection: A transaction that has locked the turns of runs.
        run_id: The new run, not stored yet.
        retry_of: The run that it retries.

    Returns:
        The values of its row.

    Raises:
        RetryRefusedError: If that was retried since the retry was planned.
    """
    last = select(runs.c.chain_id, runs.c.retried_by).where(runs.c.run_id == retry_of)
    chain_id, newer = connection.execute(last).one()
    if newer is not None:
        message = f"Run {newer} of the same chain of retries was just started."
        refusal = {"type": "retry_active", "loc": ["run", newer], "msg": message}
        raise RetryRefusedError([refusal], newer)
    chain_id = chain_id or retry_of
    is_in_chain = (runs.c.run_id == chain_id) | (runs.c.chain_id == chain_id)
    attempts = connection.execute(select(func.max(runs.c.attempt)).where(is_in_chain)).scalar()
    connection.execute(update(runs).where(is_in_chain).values(retried_by=run_id))
    return {"retry_of": retry_of, "chain_id": chain_id, "attempt": (attempts or 1) + 1}
