"""The commands that use a server, from a shell and in a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.servers import (
    CLIENT,
    PROJECTS,
    RunningServer,
    call,
    copy_project,
    environment,
    eventually,
    free_port,
    kedro_flask_server,
    start_command,
)

pytestmark = pytest.mark.once

SLOW = ["run", "--pipelines", "slow", "--params"]


def test_options_in_a_file_count(ours: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "run.yml"
    file.write_text("run:\n  pipelines: one\n  params: {what: from the file}\n  tags: ''\n")
    done = call(ours, "run", "--config", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["request"] == {
        "pipeline_names": ["one"],
        "params": {"what": "from the file"},
    }


def test_lines_tell_of_the_nodes_where_there_is_no_terminal(ours: RunningServer) -> None:
    done = call(ours, *SLOW, "seconds=0.01")
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr.count("Error")) == (0, 0)
    assert lines[:3] == ["run queued", "run started", "[0/10] slow_0 started"]
    assert re.fullmatch(r"\[10/10\] slow_9 finished after [\d,]+ ms", lines[-2])
    assert re.fullmatch(r"Run \S+ succeeded after .+ s\.", done.stdout.splitlines()[-1])
    assert "Completed" not in done.stdout


def test_follow_shows_the_log_too(ours: RunningServer) -> None:
    done = call(ours, *SLOW, "seconds=0", "--follow")
    assert done.stdout.count("Completed node: slow_") == 10
    events = call(ours, *SLOW, "seconds=0", "--follow", "--json").stdout.splitlines()
    told = [json.loads(line) for line in events]
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert (told[0]["type"], told[-1]["type"]) == ("run.queued", "run.finished")


def test_failed_run_ends_with_1_and_says_where_and_why(ours: RunningServer) -> None:
    done = call(ours, "run", "-p", "fail", "--params", "what=it")
    assert done.returncode == 1
    assert "ValueError: failed: it (node fail)" in done.stderr
    assert "More of it: python -m kedro_flask_server show " in done.stderr
    run_id = re.search(r"Run (\S+) failed", done.stderr)
    assert run_id
    shown = call(ours, "show", run_id[1]).stdout
    assert re.search(r"^status: +failure$", shown, re.MULTILINE)
    assert re.search(r"^node: +fail$", shown, re.MULTILINE)
    assert "Traceback (most recent call last)" in shown


def test_detached_run_is_shown_followed_and_cancelled_by_its_id(ours: RunningServer) -> None:
    run_id = call(ours, *SLOW, "seconds=1.5", "--detach").stdout.strip()
    assert json.loads(call(ours, "show", run_id, "--json").stdout)["run_id"] == run_id
    following = subprocess.Popen(
        [*CLIENT, "logs", run_id, "--follow", "--url", ours.url],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert following.stdout is not None
    assert "Kedro project" in following.stdout.readline()
    assert call(ours, "cancel", run_id).stdout == f"Run {run_id} is being cancelled.\n"
    text, _ = following.communicate(timeout=30)
    assert following.returncode == 3
    assert "was cancelled" in text.splitlines()[-1]
    refused = call(ours, "cancel", call(ours, "run", "-p", "one", "--detach").stdout.strip())
    assert refused.returncode in (0, 5)
    log = call(ours, "logs", run_id).stdout
    assert log.endswith("was cancelled\n")
    records = [
        json.loads(line) for line in call(ours, "logs", run_id, "--json").stdout.split("\n") if line
    ]
    assert {record["type"] for record in records} == {"log"}


def test_runs_are_listed_as_a_table_and_as_json(ours: RunningServer) -> None:
    ours.run(pipeline_names=["one"])
    strange = {"what": "[bold]\x1b[2J\n\u202eboom"}
    run_id = ours.run(pipeline_names=["fail"], params=strange)["run_id"]
    table = call(ours, "runs", "--limit", "2").stdout.splitlines()
    assert table[0].split() == ["RUN", "STATUS", "PIPELINES", "NODES", "TOOK", "ERROR"]
    assert len(table) == 3
    assert not any(line.endswith(" ") for line in table)
    assert table[1].startswith(f"{run_id}  failure ")
    assert r"ValueError: failed: [bold]\x1b[2J" in table[1]
    shown = call(ours, "show", str(run_id)).stdout
    assert r"ValueError: failed: [bold]\x1b[2J" in shown
    assert not set("\x1b\u202e") & set(shown)
    listed = json.loads(call(ours, "runs", "--status", "failure", "-n", "1", "--json").stdout)
    assert [run["status"] for run in listed] == ["failure"]
    assert listed == [ours.show(listed[0]["run_id"])]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--env", "prod"], 2, "--env is the server's"),
        (["run", "--follow", "--detach"], 2, "cannot be used together"),
        (["run", "-p", "a", "--pipelines", "b"], 2, "cannot be used together"),
        (["run", "--params", "nope"], 2, "params"),
        (["run", "--runner", "not a name"], 5, "body.runner"),
        (["run", "--url", "nope"], 2, "KEDRO_SERVER_URL"),
        (["show", "2020-01-01T00.00.00.000Z"], 5, "There is no run"),
        (["logs", "nope", "--follow"], 5, "There is no run"),
        (["runs", "--status", "nope"], 2, "nope"),
        (["run", "--config", __file__], 2, "Error"),
    ],
)
def test_what_cannot_be_done_is_said_and_has_a_code(
    ours: RunningServer, arguments: list[str], code: int, message: str
) -> None:
    done = call(ours, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_server_that_is_not_there_is_said_at_once() -> None:
    done = call(f"http://127.0.0.1:{free_port()}", "runs")
    assert (done.returncode, done.stdout) == (5, "")
    assert "cannot be reached" in done.stderr


def test_without_httpx_the_commands_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise ModuleNotFoundError(name='httpx')\n")
    done = subprocess.run(
        [*CLIENT, "runs"],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "pip install 'kedro-flask-server[client]'" in done.stderr


def test_lost_run_ends_with_4(tmp_path: Path) -> None:
    project, port = copy_project(PROJECTS / "probe", tmp_path), free_port()
    url = f"http://127.0.0.1:{port}"

    def server() -> RunningServer:
        return RunningServer(start_command("--port", str(port)), cwd=project, url=url)

    with server() as first:
        following = subprocess.Popen(
            [*CLIENT, *SLOW, "seconds=0.5", "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert following.stdout is not None
        while "slow_1 started" not in following.stdout.readline():
            pass
        first.stop(signal.SIGKILL)
    with server():
        _, stderr = following.communicate(timeout=60)
    assert following.returncode == 4
    assert "is lost: RunLost" in stderr


def test_output_that_nobody_reads_is_no_failed_run(ours: RunningServer) -> None:
    for command in ("run -p slow --params seconds=0.01 --follow", "runs -n 500"):
        line = f"{' '.join(CLIENT)} {command} --url {ours.url} | head -n 1; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line], env=environment(), capture_output=True, text=True
        )
        assert done.returncode in (0, 141)  # 0, where all was written before
        assert "Traceback" not in done.stderr


def terminal(server: RunningServer, *arguments: str, width: int = 120, **env: str) -> pexpect.spawn:
    size = {"TERM": "xterm", "COLUMNS": str(width)}
    return pexpect.spawn(
        CLIENT[0],
        [*CLIENT[1:], *arguments],
        env=environment(KEDRO_SERVER_URL=server.url) | size | env,
        encoding="utf-8",
        timeout=30,
        dimensions=(24, width),
    )


def code_of(shell: pexpect.spawn) -> int:
    shell.expect(pexpect.EOF)
    shell.close()
    return int(shell.exitstatus)


def test_terminal_shows_a_bar_with_the_node_that_runs(ours: RunningServer) -> None:
    shell = terminal(ours, *SLOW, "seconds=0.5")
    shell.expect(r"slow_3.*3/10")
    shell.expect(r"slow_8.*8/10")
    shell.expect(r"succeeded after")
    assert code_of(shell) == 0


def test_table_fits_a_terminal_and_keeps_what_tells_runs_apart(ours: RunningServer) -> None:
    run_id = str(ours.run(pipeline_names=["fail"], params={"what": "x" * 500})["run_id"])
    shell = terminal(ours, "runs", "-n", "1", width=70)
    shell.expect(pexpect.EOF)
    header, row = re.sub(r"\x1b\[[\d;]*m", "", shell.before or "").splitlines()[:2]
    assert row.startswith(f"{run_id}  ")
    assert "failure" in row
    assert header.split()[:5] == ["RUN", "STATUS", "PIPELINES", "NODES", "TOOK"]
    assert code_of(shell) == 0


def test_terminal_that_knows_ascii_alone_is_shown_what_it_can(ours: RunningServer) -> None:
    shell = terminal(ours, *SLOW, "seconds=0.1", "--follow", PYTHONIOENCODING="ascii")
    shell.expect(r"succeeded after")
    assert code_of(shell) == 0


def test_ctrl_c_asks_whether_to_cancel(ours: RunningServer) -> None:
    shell = terminal(ours, *SLOW, "seconds=0.5")
    shell.expect(r"[1-9]/10")
    shell.sendintr()
    shell.expect(r"Cancel the run\?")
    shell.sendline("y")
    shell.expect("is cancelled")
    assert code_of(shell) == 3


@pytest.mark.parametrize("answer", ["n\r", "\x03", "\x04"])
def test_who_does_not_want_to_cancel_leaves_the_run_alone(ours: RunningServer, answer: str) -> None:
    shell = terminal(ours, *SLOW, "seconds=0.4")
    shell.expect(r"[1-9]/10")
    shell.sendintr()
    shell.expect(r"Cancel the run\?")
    shell.send(answer)
    shell.expect(r"Run (\S+) goes on: python -m kedro_flask_server logs")
    assert shell.match is not None
    run_id = shell.match[1]
    assert code_of(shell) == 130
    eventually(lambda: ours.show(run_id)["status"] == "success")


def test_ctrl_c_without_a_terminal_leaves_the_run_alone(ours: RunningServer) -> None:
    following = subprocess.Popen(
        [*CLIENT, *SLOW, "seconds=0.4", "--url", ours.url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert following.stdout is not None
    while "slow_1 started" not in following.stdout.readline():
        pass
    os.kill(following.pid, signal.SIGINT)
    _, stderr = following.communicate(timeout=30)
    assert following.returncode == 130
    run_id = re.search(r"Run (\S+) goes on", stderr)
    assert run_id
    eventually(lambda: ours.show(run_id[1])["status"] == "success")


def test_clients_variables_are_no_unknown_settings_of_the_server(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "probe", tmp_path)
    env = {"KEDRO_SERVER_URL": "http://elsewhere", "KEDRO_SERVER_API_KEY": "canary"}
    with kedro_flask_server(project, **env) as server:
        assert server.run(pipeline_names=["one"])["status"] == "success"
        assert "canary" not in server.log
