"""``kedro server keys`` and ``kedro server audit``: API keys and the audit log."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedro_flask_server.model.queue import MAX_PRIORITY, MIN_PRIORITY

if TYPE_CHECKING:
    from datetime import timedelta

    from kedro.framework.startup import ProjectMetadata

    from kedro_flask_server.model.audit import AuditRecord
    from kedro_flask_server.store.api_keys import AccessStore

_NUMBER = click.IntRange(1, 2**31 - 1)
_env_option = click.option(
    "--env", "-e", help="Kedro configuration environment of the server: each has keys of its own."
)


@click.group(name="keys")
def keys() -> None:
    """Create, list and revoke the API keys of a project's server."""


def _read_period(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    from kedro_flask_server.access.api_keys import parse_period

    try:
        return None if value is None else parse_period(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@keys.command(name="create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["read", "run", "admin"]),
    multiple=True,
    required=True,
    help="What its bearer may do: see everything, run pipelines and see and cancel those runs, or "
    "everything. May be given several times.",
)
@click.option("--pipelines", help="The only pipelines that it is for, separated by commas.")
@click.option("--expires", callback=_read_period, help="When it ends, such as 12h, 90d or 4w.")
@click.option("--max-active", type=_NUMBER, help="Runs queued or running at a time.")
@click.option("--max-queued", type=_NUMBER, help="Runs queued at a time.")
@click.option(
    "--max-priority",
    type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY),
    help="The highest priority that its runs may have, 0 by default.",
)
@click.option(
    "--to-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add the key to this api_keys_file, not to the database.",
)
@_env_option
@click.pass_obj
def create(
    metadata: ProjectMetadata,
    /,
    name: str,
    *,
    scopes: tuple[str, ...],
    pipelines: str | None,
    expires: timedelta | None,
    to_file: Path | None,
    env: str | None,
    **limits: Any,
) -> None:
    """Create a key and print it: it is not shown again.

    Clients send it as `Authorization: Bearer KEY`, or as the password of HTTP Basic.
    """
    from kedro_flask_server.access.api_keys import add_to_file, create_secret, hash_secret, is_name
    from kedro_flask_server.model.caller import ApiKey, Scope

    if not is_name(name):
        raise click.BadParameter("up to 100 letters, digits and '._@-'", param_hint="NAME")
    now = datetime.now(timezone.utc)
    secret = create_secret()
    key = ApiKey(
        name=name,
        sha256=hash_secret(secret.encode()),
        scopes=frozenset(map(Scope, scopes)),
        pipelines=None if pipelines is None else _names(pipelines),
        created_at=now,
        expires_at=None if expires is None else now + expires,
        **limits,
    )
    if to_file is None:
        _change(metadata, env, lambda store: store.add(key, _record("key.created", name, now)))
    else:
        with _errors_told():
            add_to_file(to_file, key)
        _record_in_audit(metadata, env, _record("key.created", f"{name} ({to_file})", now))
    click.echo("The key, which is not shown again:", err=True)
    click.echo(secret)


@keys.command(name="list")
@_env_option
@click.pass_obj
def list_keys(metadata: ProjectMetadata, /, env: str | None) -> None:
    """List the keys of the database; their secrets are not stored."""
    found = _change(metadata, env, lambda store: store.keys())
    now = datetime.now(timezone.utc)
    for key in found:
        state = "revoked" if key.revoked_at else "active" if key.counts_at(now) else "expired"
        scopes = ",".join(sorted(map(str, key.scopes)))
        pipelines = "all" if key.pipelines is None else ",".join(sorted(key.pipelines))
        click.echo(
            f"{key.name}  {state}  scope={scopes}  pipelines={pipelines}  "
            f"expires={_shown(key.expires_at)}  last used={_shown(key.last_used_at)}"
        )


@keys.command(name="revoke")
@click.argument("name")
@_env_option
@click.pass_obj
def revoke(metadata: ProjectMetadata, /, name: str, env: str | None) -> None:
    """Revoke a key, with effect from the next second on."""
    now = datetime.now(timezone.utc)
    _change(metadata, env, lambda store: store.revoke(name, _record("key.revoked", name, now)))
    click.echo(f"Revoked {name}.")


@keys.command(name="sign-out")
@_env_option
@click.pass_obj
def sign_out(metadata: ProjectMetadata, /, env: str | None) -> None:
    """Sign out all who have signed in on a page, with effect from a few seconds on."""
    record = _record("pages.signed_out", "", datetime.now(timezone.utc))
    _change(metadata, env, lambda store: store.renew_page_key(record))
    click.echo("Whoever has signed in on a page has to do so again.")


@click.command(name="audit")
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True)
@_env_option
@click.pass_obj
def audit(metadata: ProjectMetadata, /, limit: int, env: str | None) -> None:
    """List the audit log, the newest first: runs, keys and refused requests."""
    for record in _change(metadata, env, lambda store: store.audit(limit)):
        who, address = record.who or "-", record.address or "-"
        click.echo(f"{_shown(record.time)}  {who}  {address}  {record.what}  {record.subject}")


def _names(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(","))
    if "" in names:
        raise click.BadParameter("an empty name", param_hint="--pipelines")
    return names


def _change(metadata: ProjectMetadata, env: str | None, what: Any) -> Any:
    from kedro_flask_server.app import open_access_store

    with _errors_told():
        store: AccessStore = open_access_store(metadata.project_path, env=env)
        return what(store)


def _record_in_audit(metadata: ProjectMetadata, env: str | None, record: AuditRecord) -> None:
    """Record an action on a key of a file, which is valid even without the database."""
    try:
        _change(metadata, env, lambda store: store.flush([record]))
    except click.ClickException as error:
        click.echo(f"The key is not in the audit: {error.message}", err=True)


@contextmanager
def _errors_told() -> Iterator[None]:
    from kedro_flask_server.errors import ServerError

    try:
        yield
    except ServerError as error:
        raise click.ClickException(str(error)) from error


def _record(what: str, name: str, time: datetime) -> AuditRecord:
    from kedro_flask_server.model.audit import AuditRecord

    try:
        who = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        who = "somebody"
    return AuditRecord(time=time, who=f"{who} (command line)", what=what, subject=name)


def _shown(moment: datetime | None) -> str:
    from kedro_flask_server.text import rfc3339

    return "-" if moment is None else rfc3339(moment)
