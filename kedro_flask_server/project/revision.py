"""The revision of a project's code, and the versions of what executes it."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points, version
from pathlib import Path

import kedro

from kedro_flask_server.model.provenance import Provenance, Revision

_TIMEOUT_S = 3.0

# In a template or a server, which does not wait for it before it has loaded the project.
_GIT = ("git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", ".")

# The first part of the groups of entry points that Kedro looks for.
_KEDRO = "kedro."


def begin_to_read_revision(
    project_path: Path, given: str | None = None
) -> Callable[[], Revision | None]:
    """Begin to ask git for the revision of a project, and return what waits for the answer.

    Git is asked for no URL: that of a remote may hold a password.

    Args:
        project_path: The project's folder. Files elsewhere in the repository do not count.
        given: The revision, if git need not be asked.

    Returns:
        A function that returns the revision; None where there is no git, or no commit, or it takes
        too long.
    """
    if given is not None:
        return lambda: Revision(id=given)
    environ = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        git = subprocess.Popen(
            _GIT,
            cwd=project_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return lambda: None

    def finish() -> Revision | None:
        with git:
            try:
                answer, _ = git.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                git.kill()
                return None
        return _parsed(answer.decode("utf-8", "replace")) if git.returncode == 0 else None

    return finish


def _parsed(status: str) -> Revision | None:
    headers = dict(
        line[2:].split(" ", 1) for line in status.splitlines() if line.startswith("# branch.")
    )
    commit, branch = headers.get("branch.oid", ""), headers.get("branch.head", "")
    if not commit.isalnum():  # "(initial)"
        return None
    is_clean = all(line.startswith("#") for line in status.splitlines())
    return Revision(id=commit, branch=None if branch.startswith("(") else branch, is_clean=is_clean)


def plugin_versions() -> dict[str, str]:
    """Return the versions of the distributions that extend Kedro, by their names."""
    found = entry_points()
    extending = (
        each
        for group in found.groups
        if group.startswith(_KEDRO)
        for each in found.select(group=group)
    )
    plugins = {each.dist.name: each.dist.version for each in extending if each.dist is not None}
    return dict(sorted(plugins.items()))


def made_with(revision: Revision | None, plugins: dict[str, str]) -> Provenance:
    """Return what all runs of a process are made of.

    Args:
        revision: The revision of the project, where it is known.
        plugins: The versions of Kedro's plugins.
    """
    versions = {"python": platform.python_version(), "kedro": kedro.__version__}
    with suppress(ModuleNotFoundError):  # not installed, but on the path
        versions["kedro-flask-server"] = version("kedro-flask-server")
    return Provenance(
        versions={**versions, **plugins}, revision=revision, machine=socket.gethostname()
    )
