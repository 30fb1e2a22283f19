"""Migrates a schema, and decides which programs may use one that is newer than they are.

A schema has a revision. Beside it the store records the oldest program that may still use it, by
the newest revision which that program knows. So a new version can migrate the store while servers
of the version before continue, and restart: they do not see what a migration adds, such as a table
or a nullable column. What they need is removed one release later.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, inspect, select

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.store.schema import alembic_version, metadata, schema_revisions

logger = logging.getLogger(__name__)

NEWEST_REVISION = "0012"
"""The newest step in ``migrations/versions``."""

OLDEST_PROGRAM = "0004"
"""What that step says: the oldest program that may use the schema."""


def upgrade_one_step(connection: Connection, database: str) -> bool:
    """Migrate a schema by one step, so that each step is a transaction of its own.

    An empty database gets the newest schema at once.

    Args:
        connection: A transaction that holds the lock of migrations.
        database: The database's address, for messages.

    Returns:
        Whether there may be more steps.

    Raises:
        ServerSettingsError: If the schema is too new for this program.
    """
    found = _revision(connection)
    if found == NEWEST_REVISION:
        return False
    if found is None:
        logger.info("Making the tables in the database %s", database)
        _create(connection)
        return False
    # Only a migration pays for these imports.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "kedro_flask_server.store:migrations")
    config.set_main_option("path_separator", "os")
    steps = {each.revision: each for each in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in steps:
        _check_newer(connection, found, database)
        return False
    step = steps[min(each for each in steps if each > found)]
    config.attributes["connection"] = connection
    logger.info("Bringing the database %s to schema %s", database, step.revision)
    command.upgrade(config, step.revision)
    # The first steps do not define it.
    oldest_program = getattr(step.module, "oldest_program", None)
    if oldest_program is not None:
        _record_oldest_program(connection, step.revision, oldest_program)
    return True


def _create(connection: Connection) -> None:
    """Make the tables; a tenth of the time that the steps of all versions would take."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(alembic_version.insert().values(version_num=NEWEST_REVISION))
    _record_oldest_program(connection, NEWEST_REVISION, OLDEST_PROGRAM)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(alembic_version.name):
        return None
    return connection.execute(select(alembic_version.c.version_num)).scalar()


def _record_oldest_program(connection: Connection, revision: str, oldest_program: str) -> None:
    row = {"revision": revision, "oldest_program": oldest_program}
    connection.execute(schema_revisions.insert().values(row))


def _check_newer(connection: Connection, found: str, database: str) -> None:
    """Refuse a schema that is too new for this program."""
    oldest_program = None
    if inspect(connection).has_table(schema_revisions.name):
        of_found = schema_revisions.c.revision == found
        oldest = select(schema_revisions.c.oldest_program).where(of_found)
        oldest_program = connection.execute(oldest).scalar()
    if oldest_program is None or oldest_program > NEWEST_REVISION:
        needed = "" if oldest_program is None else f", and takes one that knows {oldest_program!r}"
        raise ServerSettingsError(
            f"The database {database} is newer than this program: its schema is {found!r}{needed}; "
            f"{NEWEST_REVISION!r} is the newest that this version of kedro-flask-server "
            "knows. Install the version that made it, or a later one, or name another "
            "database (settings state_dir, database_url)."
        )
    logger.warning(
        "The database %s is newer than this program, which may still use it: its schema is %s, and "
        "%s the newest that this version of kedro-flask-server knows",
        database,
        found,
        NEWEST_REVISION,
    )
