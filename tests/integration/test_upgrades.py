"""Two versions of this package at one store: one after the other, and at the same time."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import kedro_flask_server
from kedro_flask_server.store.schema_versions import NEWEST_REVISION
from tests.servers import (
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    refused_start,
    start_command,
)

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
        # A server starts before a migration of more than three seconds has ended.
        eventually(lambda: each.client.get("/health/ready").status_code == 200)  # noqa: B023
        answer = each.run(pipeline_names=["sleep"], params={"seconds": 0})
        assert answer["status"] == "success", answer
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
    refused = refused_start(project, KEDRO_SERVER_DATABASE_URL=database_url)
    assert f"is newer than this program: its schema is {newest!r}" in refused.stderr
    assert f"one that knows {newer!r}" in refused.stderr
    with server(project, database_url, version=adds) as allowed:
        runs_succeed(allowed)


FIRST_WITH_THIS_RULE = "107d14c"
"""The first commit whose program lets a newer one migrate the store beside it."""

LETS_PSYCOPG_PREPARE = """    if connection.is_pooled:
        connection.prepare_threshold = None
"""
"""In that commit: after a rollback, psycopg takes back what that program has prepared, which then
stores no end on that connection. A migration's locks may bring about a rollback."""


@pytest.fixture(scope="session")
def first_version(session_folder: Path) -> Path:
    """Return the folder of the package as it was in that commit, to be found first.

    Without its defect at rollbacks, which newer programs do not have.
    """
    repository = Path(__file__).parents[2]
    archive = subprocess.run(
        ["git", "archive", FIRST_WITH_THIS_RULE, "kedro_flask_server"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the history does not go back to {FIRST_WITH_THIS_RULE}")
    folder = session_folder / "first_version"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    module = folder / "kedro_flask_server" / "runs" / "store" / "postgresql.py"
    text = module.read_text()
    assert text.count(LETS_PSYCOPG_PREPARE) == 1
    module.write_text(
        text.replace(LETS_PSYCOPG_PREPARE, "    connection.prepare_threshold = None\n")
    )
    return folder


class Load:
    """Clients that send runs to servers until the ``with`` statement is left."""

    def __init__(self) -> None:
        self.servers: list[RunningServer] = []
        self.ends: Counter[str] = Counter()
        self.accepted: list[str] = []
        """The runs that went on when they were answered: their ends could not be stored then."""
        self.accepted: list[str] = []
        """The runs that other servers executed while the one that was asked was stopped."""
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(3)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more runs, and wait for those that were sent."""
        self._is_over.set()
        for each in self._threads:
            each.join()

    def wait_for(self, more: int) -> None:
        """Wait until as many more runs have succeeded."""
        wanted = self.ends["success"] + more
        eventually(lambda: self.ends["success"] >= wanted, timeout_s=60)

    def _send(self, number: int) -> None:
        body = {"pipeline_names": ["sleep"], "params": {"seconds": 0.01}}
        while not self._is_over.wait(0.01):
            servers = [*self.servers]
            if not servers:
                continue
            asked = servers[number % len(servers)]
            try:
                answer = httpx.post(f"{asked.url}/run", json=body, timeout=60)
            except httpx.TransportError:
                self.ends["gone"] += 1  # its server is being stopped
                continue
            if answer.status_code == 503:
                self.ends["asked to try again"] += 1
            elif answer.status_code == 202 and asked not in self.servers:
                self.accepted.append(answer.json()["run_id"])
            else:
                self.ends[answer.json().get("status", answer.text)] += 1


def test_upgrade_from_the_first_version_with_this_rule_goes_on_under_load(
    tmp_path: Path, database_url: str, first_version: Path
) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)

    def old() -> RunningServer:
        return server(project, database_url, version=first_version)

    with ExitStack() as stack, Load() as load:
        first, second = stack.enter_context(old()), stack.enter_context(old())
        load.servers[:] = [first, second]
        load.wait_for(10)
        new = stack.enter_context(server(project, database_url))
        new.wait_for_line("A server of an older version uses this store")
        load.servers.append(new)
        load.wait_for(10)
        # One of the former is started again, beside the new one.
        load.servers.remove(second)
        assert second.stop() == 0
        again = stack.enter_context(old())
        load.servers.append(again)
        load.wait_for(10)
        for each in (first, again):
            load.servers.remove(each)
            assert each.stop() == 0
        load.wait_for(10)
        # Back to the former version, and forward again.
        load.servers.clear()
        assert new.stop() == 0
        back = stack.enter_context(old())
        load.servers.append(back)
        load.wait_for(10)
        load.servers.clear()
        assert back.stop() == 0
        last = stack.enter_context(server(project, database_url))
        load.servers.append(last)
        load.wait_for(10)
        load.stop()
        assert "A server of an older version" not in last.log
        eventually(lambda: not last.client.get("/runs?status=running&status=queued").json()["runs"])
        runs = last.all_runs()
        assert {last.show(run_id)["status"] for run_id in load.accepted} <= {"success"}
    assert {*load.ends} <= {"success", "gone", "asked to try again"}, load.ends
    assert {run["status"] for run in runs} <= {"success", "cancelled"}
    assert {run["has_locks"] for run in runs} == {False, True}
