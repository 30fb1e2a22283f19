"""The revision of a project, by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kedro_flask_server.model.provenance import Revision
from kedro_flask_server.project.revision import begin_to_read_revision, plugin_versions


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    git(tmp_path, "init", "-q", "-b", "work")
    return tmp_path


def git(folder: Path, *command: str) -> str:
    options = ["-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    done = subprocess.run(
        ["git", *options, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def read(folder: Path, given: str | None = None) -> Revision | None:
    return begin_to_read_revision(folder, given)()


def test_revision_is_the_commit_and_whether_the_projects_folder_differs(repository: Path) -> None:
    project = repository / "project"
    assert read(project) is None  # no commit yet
    (project / "a").write_text("1")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "first")
    commit = git(repository, "rev-parse", "HEAD")
    assert read(project) == Revision(id=commit, branch="work", is_clean=True)
    (repository / "elsewhere").write_text("not the project's")
    assert read(project) == Revision(id=commit, branch="work", is_clean=True)
    (project / "a").write_text("2")
    assert read(project) == Revision(id=commit, branch="work", is_clean=False)
    git(repository, "checkout", "-q", "--detach")
    assert read(project) == Revision(id=commit, branch=None, is_clean=False)


def test_revision_is_not_known_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tmp_path) is None
    assert read(tmp_path, "v1") == Revision(id="v1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read(tmp_path) is None


def test_plugins_are_those_that_extend_kedro() -> None:
    assert "kedro-flask-server" in plugin_versions()
    assert "flask" not in plugin_versions()
