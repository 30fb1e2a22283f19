"""What surrounds a server: its working directory, its parents, its file systems, its limits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import do_without, require
from tests.servers import (
    ANYONE,
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    eventually,
    free_port,
    kedro_flask_server,
    start_command,
)

PLAIN = {"KEDRO_LOGGING_CONFIG": str(PROJECTS / "plain_logging.yml")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def marks_of(project: Path) -> Path:
    marks = project.parent / "marks"
    marks.mkdir(exist_ok=True)
    return marks


def execute(server: RunningServer, code: str) -> None:
    """Have a node execute some code."""
    answer = server.run(pipeline_names=["execute"], params={"what": code})
    assert answer["status"] == "success", (answer, server.log)


def test_runs_are_in_the_projects_folder_wherever_the_server_is(
    project: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "modules").mkdir(parents=True)
    (elsewhere / "modules" / "beside_the_server.py").touch()
    (elsewhere / "logging.yml").write_text((PROJECTS / "plain_logging.yml").read_text())
    port = free_port()
    application = f"kedro_flask_server:create_http_server({str(project)!r})"
    command = [sys.executable, "-m", "gunicorn", application, "--threads", "8"]
    env = {
        **ANYONE,
        "KEDRO_LOGGING_CONFIG": "logging.yml",
        "PYTHONPATH": "modules",
        "PWD": str(elsewhere),
    }
    code = """
import subprocess, sys
import beside_the_server
assert Path.cwd() == Path(os.environ["PWD"])
Path("relative.txt").write_text(os.environ["PWD"])
subprocess.run([sys.executable, "-c", "import beside_the_server"], check=True)
"""
    with RunningServer(
        [*command, "--bind", f"127.0.0.1:{port}"],
        cwd=elsewhere,
        url=f"http://127.0.0.1:{port}",
        env=env,
    ) as server:
        execute(server, code)
        assert server.client.get("/snapshot").json()["status"] == "success"
    assert (project / "relative.txt").read_text() == str(project)


def kill_server_and_template(server: RunningServer, template: psutil.Process) -> None:
    server.process.kill()
    template.kill()


def stop_template_and_kill_server(server: RunningServer, template: psutil.Process) -> None:
    template.suspend()
    server.process.kill()


@pytest.mark.parametrize("end", [kill_server_and_template, stop_template_and_kill_server])
@pytest.mark.parametrize("runner", ["SequentialRunner", "ParallelRunner"])
def test_nothing_executes_when_its_server_is_dead(
    project: Path, end: Callable[[RunningServer, psutil.Process], None], runner: str
) -> None:
    if sys.platform != "linux":
        do_without("the kernel ends a process with its parent on Linux alone")
    marks = marks_of(project)
    with kedro_flask_server(project, PROBE_MARKS=str(marks), **PLAIN) as server:
        # Nothing of Python's is executed in that process until the node has ended.
        request = {"params": {"tag": "held", "seconds": 60}, "runner": runner}
        server.submit(pipeline_names=["hold"], **request)
        eventually((marks / "held").exists)
        [template] = psutil.Process(server.process.pid).children()
        left = template.children(recursive=True)
        assert left
        end(server, template)
        _, alive = psutil.wait_procs([template, *left], timeout=5)
        assert alive == []
        server.process.wait()


# A program that is in no group and no session of the run's, and that nothing ends with its parent.
LEAVE_A_PROGRAM = """
import subprocess
program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
Path(os.environ["PROBE_MARKS"], "left").write_text(str(program.pid))
time.sleep(1000)
"""


@pytest.mark.once
def test_next_server_ends_what_is_left_before_it_says_that_a_run_is_lost(project: Path) -> None:
    marks = marks_of(project)
    with kedro_flask_server(project, PROBE_MARKS=str(marks), **PLAIN) as server:
        run_id = server.submit(pipeline_names=["execute"], params={"what": LEAVE_A_PROGRAM})
        eventually(lambda: (marks / "left").exists() and (marks / "left").read_text())
        program = psutil.Process(int((marks / "left").read_text()))
        [template] = psutil.Process(server.process.pid).children()
        workers = template.children()
        for each in (template, *workers):
            each.suspend()
        kill_server_and_template(server, template)
        for each in workers:
            each.kill()
        server.process.wait()
        assert program.is_running()
    with kedro_flask_server(project, **PLAIN) as server:
        eventually(lambda: server.show(run_id)["status"] == "lost")
        assert not program.is_running() or program.status() == psutil.STATUS_ZOMBIE


@pytest.mark.once
def test_signals_that_are_ignored_or_blocked_by_the_parent_come(project: Path) -> None:
    chosen = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
    command = [sys.executable, "-c", chosen, *start_command()[1:]]
    with RunningServer(command, cwd=project, env=PLAIN) as server:
        code = "import subprocess; assert subprocess.run(['false']).returncode == 1"
        execute(server, code)
        run_id = server.submit(pipeline_names=["sleep"], params={"seconds": 100})
        eventually(lambda: server.show(run_id)["progress"])
        server.client.post(f"/runs/{run_id}/cancel")
        assert server.show(run_id, wait=10)["status"] == "cancelled"
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.once
@pytest.mark.parametrize("limit", [1, 12])
def test_start_that_gets_no_more_threads_says_so_in_one_line(project: Path, limit: int) -> None:
    command = start_command()
    if os.geteuid() == 0:  # whom no limit holds: be another user, who may read what root may
        user = str(54_321 + limit)  # its own, for tests beside this one count towards the limit
        capability = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        # Without which access(2) says that such a user may not.
        kept = ("--securebits", "+no_setuid_fixup")
        identity = ("--reuid", user, "--regid", user, "--clear-groups", *kept)
        command = [require("setpriv"), *identity, *capability, *command]
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(**PLAIN, KEDRO_SERVER_STATE_DIR=str(project / "state")),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("The system gives no more threads") == 1, done.stderr
    assert "Traceback" not in done.stderr


# All file systems read-only, but for one of a few megabytes.
READ_ONLY = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=16m tmpfs "$1"
for mounted in $(awk '{print $5}' /proc/self/mountinfo | sort -u); do
    case $mounted in "$1"|/proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$mounted" ;; esac
done
if touch /tmp/written 2>/dev/null; then exit 99; fi
shift
exec "$@"
"""


FORKING_NODE = """
import multiprocessing

def leave():
    process = multiprocessing.get_context("fork").Process(target=print, args=["from a child"])
    process.start()
    process.join()
    return process.exitcode
"""


@pytest.mark.once
def test_server_needs_no_folder_for_temporary_files(tmp_path: Path) -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        do_without("file systems can be mounted by root alone")
    project = copy_project(PROJECTS / "unended", tmp_path)
    (project / "src" / "unended" / "nodes.py").write_text(FORKING_NODE)
    (project / "src" / "unended" / "settings.py").write_text("")
    state = tmp_path / "state"
    state.mkdir()
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(state), *start_command()]
    env = {"KEDRO_SERVER_STATE_DIR": str(state), "PYTHONDONTWRITEBYTECODE": "1", **PLAIN}
    with RunningServer(command, cwd=project, env=env) as server:
        answer = server.run(params={"large": "x" * 1_000_000})  # more than waitress keeps at once
        assert answer["status"] == "success", server.log
        assert "from a child" in server.client.get(f"/runs/{answer['run_id']}/logs").text
        assert server.show(answer["run_id"])["request"]["params"]["large"]
        assert "temporary" not in server.log
