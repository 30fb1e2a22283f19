"""Two versions of this package at one store: one after the other, and at the same time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import kedro_flask_server
from kedro_flask_server.store.schema_versions import NEWEST_REVISION
from tests.servers import PROJECTS, RunningServer, copy_project, environment, start_command

pytestmark = pytest.mark.once

_EXPAND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, oldest_program = {revision!r}, {before!r}, {oldest_program!r}


def upgrade() -> None:
    op.add_column("runs", sa.Column({column!r}, sa.Text))
    op.create_table("{column}_of_runs", sa.Column("id", sa.Integer, primary_key=True))
"""


def release(folder: Path, *, after: str, oldest_program: str) -> tuple[Path, str]:
    """Make a later version of the package, which has one more migration.

    Returns:
        The folder to be found first, and the version's newest revision.
    """
    revision = f"{int(after) + 1:04d}"
    source = Path(kedro_flask_server.__file__).parent
    package = folder / source.name
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    store = package / "store"
    earlier = [Path(each) for each in folder.parent.glob("*/kedro_flask_server/store")]
    for each in earlier:
        for step in (each / "migrations" / "versions").glob("*_next.py"):
            shutil.copy(step, store / "migrations" / "versions")
    step = _EXPAND.format(
        revision=revision, before=after, oldest_program=oldest_program, column=f"next_{revision}"
    )
    (store / "migrations" / "versions" / f"{revision}_next.py").write_text(step)
    versions = store / "schema_versions.py"
    text = versions.read_text().replace(f'"{NEWEST_REVISION}"', f'"{revision}"', 1)
    versions.write_text(text)
    return folder, revision


def server(project: Path, url: str, *, version: Path | None = None) -> RunningServer:
    variables = {"KEDRO_SERVER_DATABASE_URL": url}
    if version is not None:
        variables["PYTHONPATH"] = str(version)
    return RunningServer(start_command(), cwd=project, env=variables)


def runs_succeed(*running: RunningServer) -> None:
    for each in running:
        answer = each.run(pipeline_names=["sleep"], params={"seconds": 0})
        assert answer["status"] == "success", answer
        assert each.client.get("/health/ready").status_code == 200
        assert len(each.all_runs()) >= 1


def test_servers_go_on_and_start_while_a_newer_one_migrates_until_it_takes_away(
    tmp_path: Path, database_url: str
) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    adds, newer = release(tmp_path / "adds", after=NEWEST_REVISION, oldest_program=NEWEST_REVISION)
    with server(project, database_url) as old:
        runs_succeed(old)
        with server(project, database_url, version=adds) as new:
            assert f"to schema {newer}" in new.log
            runs_succeed(old, new, old)
            # The old one is started again, on the newer schema.
            assert old.stop() == 0
            with server(project, database_url) as again:
                again.wait_for_line("is newer than this program, which may still use it")
                runs_succeed(again, new)

            takes, newest = release(tmp_path / "takes", after=newer, oldest_program=newer)
            with server(project, database_url, version=takes) as last:
                runs_succeed(last, new)
    refused = subprocess.run(
        start_command(),
        cwd=project,
        env=environment(KEDRO_SERVER_DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0
    assert f"is newer than this program: its schema is {newest!r}" in refused.stderr
    assert f"one that knows {newer!r}" in refused.stderr
    with server(project, database_url, version=adds) as allowed:
        runs_succeed(allowed)
