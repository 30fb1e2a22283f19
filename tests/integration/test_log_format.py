"""How a server writes what it and its runs log: plainly, as JSON, or drawn for a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pexpect
import pytest

from tests.servers import (
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    environment,
    eventually,
    kedro_flask_server,
    refused_start,
    start_command,
)

PLAIN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) +"

LAST = "succeeded in"
"""Of a run that succeeds, what its last line says."""

pytestmark = pytest.mark.once


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def started(project: Path, executor: str, **env: str) -> RunningServer:
    return kedro_flask_server(project, "--executor", executor, "--workers", "1", **env)


def logged_by_a_run(server: RunningServer) -> tuple[str, list[str]]:
    """Return a run's id, and the lines that the server has written of it."""
    run_id = str(server.run(pipeline_names=["one"], params={"tag": "a"})["run_id"])
    server.wait_for_line(LAST)
    return run_id, [line for line in server.lines if run_id in line]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_line_of_a_run_is_plain_where_there_is_no_terminal(project: Path, executor: str) -> None:
    with started(project, executor) as server:
        run_id, lines = logged_by_a_run(server)
        assert server.stop() == 0
    assert all(re.match(rf"{PLAIN}{run_id} [\w.]+: .", line) for line in lines)
    texts = [line.partition(": ")[2] for line in lines]
    begun = [text for text in texts if text.startswith(("Loading data", "Running node", "Saving"))]
    assert begun == [
        "Loading data from params:tag (MemoryDataset)...\n",
        "Running node: start: start([params:tag]) -> [started]\n",
        "Saving data to started (MemoryDataset)...\n",
    ]
    assert LAST in texts[-1]
    assert "\x1b" not in server.log


def test_process_that_is_used_again_has_written_all_of_a_run_when_it_ends(project: Path) -> None:
    with started(project, "processes", KEDRO_SERVER_MAX_RUNS_PER_WORKER="20") as server:
        run_ids = [str(server.run(pipeline_names=["one"])["run_id"]) for _ in range(10)]
        assert server.stop() == 0
    lines = [line for line in server.lines if any(run_id in line for run_id in run_ids)]
    ends = [line for line in lines if LAST in line]
    assert [run_id for run_id in run_ids for line in ends if run_id in line] == run_ids
    for run_id in run_ids:
        of_run = [line for line in lines if run_id in line]
        assert LAST in of_run[-1]
        assert len(of_run) == len(lines) / len(run_ids)


def test_process_that_is_used_again_writes_while_a_run_goes_on(project: Path) -> None:
    with started(project, "processes", KEDRO_SERVER_MAX_RUNS_PER_WORKER="20") as server:
        run_id = str(server.submit(pipeline_names=["sleep"], params={"seconds": 30}))
        eventually(lambda: f"{run_id} kedro.pipeline.node: Running node" in server.log, 10)
        assert server.client.post(f"/runs/{run_id}/cancel").status_code == 202
        server.show(run_id, wait=10)
        kept = server.client.get(f"/runs/{run_id}/logs").text
        assert kept.count("Running node") == 1, kept
        assert " output: " not in kept


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_line_is_json_where_that_is_asked_for(project: Path, executor: str) -> None:
    with started(project, executor, KEDRO_SERVER_LOG_FORMAT="json") as server:
        run_id, lines = logged_by_a_run(server)
        server.run(pipeline_names=["fail"], params={"what": "error"})
        eventually(lambda: "Traceback" in server.log)
        assert server.stop() == 0
    records = [json.loads(line) for line in lines]
    first = next(n for n, line in enumerate(server.lines) if line.startswith("{"))
    # Kedro's command logs one record before it loads this package.
    assert "logging configuration" in " ".join("".join(server.lines[:first]).split())
    assert all(json.loads(line) for line in server.lines[first:])
    assert {record["run_id"] for record in records} == {run_id}
    assert {"time", "level", "logger", "message"} <= set(records[0])
    failed = [json.loads(line) for line in server.lines if "Traceback" in line]
    assert {(each["level"], each["run_id"] != run_id) for each in failed} == {("ERROR", True)}


QUIET = """
version: 1
disable_existing_loggers: False
handlers:
  console: {class: logging.StreamHandler, stream: "ext://sys.stdout"}
loggers:
  kedro.framework.project: {level: WARNING}
  probe: {level: INFO}
root: {level: INFO, handlers: [console]}
"""


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_line_is_json_from_the_first_where_kedro_is_quiet(
    project: Path, executor: str
) -> None:
    (project / "conf/logging.yml").write_text(QUIET)
    with started(project, executor, KEDRO_SERVER_LOG_FORMAT="json") as server:
        logged_by_a_run(server)
        server.run(pipeline_names=["fail"], params={"what": "error"})
        eventually(lambda: "Traceback" in server.log)
        assert server.stop() == 0
    records = [json.loads(line) for line in server.lines]
    assert "Address: " in records[0]["message"] or "Address: " in records[1]["message"]
    assert "Stopped" in records[-1]["message"]


FORGED = "x\n2026-01-01T00:00:00.000Z INFO     kedro: forged\r\n\x1b[2J\x1b]0;title\x07\u2028\u202e"


@pytest.mark.parametrize("configuration", ["", QUIET])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_record_is_one_line_whatever_its_text_holds(
    project: Path, executor: str, configuration: str
) -> None:
    if configuration:
        (project / "conf/logging.yml").write_text(configuration)
    with started(project, executor) as server:
        for request in (
            {"pipeline_names": [FORGED]},
            {"pipeline_names": ["one"], "node_names": [FORGED]},
            {"pipeline_names": ["one"], "runner": "ThreadRunner", "tags": [FORGED]},
            {"pipeline_names": ["fail"], "params": {"what": FORGED}},
        ):
            assert server.run(**request)["status"] == "failure"
        logged_by_a_run(server)
        assert server.stop() == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", server.log)
    forged = [line for line in server.lines if "forged" in line]
    assert forged
    assert not [line for line in forged if re.match(r"\s*2026-01-01T00:00:00.000Z", line)]
    if not configuration:
        begun = server.log.index("Stop with Ctrl-C.\n") + len("Stop with Ctrl-C.\n")
        lines = server.log[begun:].splitlines()
        assert all(re.match(PLAIN, line) for line in lines[:-1]), server.log


@pytest.mark.parametrize(
    ("executor", "log_format", "drawn"),
    [("processes", "auto", True), ("threads", "auto", True), ("processes", "plain", False)],
)
def test_line_is_drawn_on_a_terminal_unless_a_plain_one_is_asked_for(
    project: Path, executor: str, log_format: str, drawn: bool
) -> None:
    variables = {"TERM": "xterm-256color", "KEDRO_SERVER_LOG_FORMAT": log_format}
    program, *arguments = start_command("--executor", executor, "--workers", "1")
    terminal = pexpect.spawn(
        program,
        arguments,
        cwd=str(project),
        env=environment(**variables),
        encoding="utf-8",
        timeout=60,
        dimensions=(50, 200),
    )
    try:
        terminal.expect(r"Address: +(http://\S+)")
        url = terminal.match[1]
        body = {"pipeline_names": ["one"], "params": {"tag": "a"}}
        run_id = httpx.post(f"{url}/run", json=body, timeout=60).json()["run_id"]
        terminal.expect("Running node(.*)Completed node(.*)" + LAST)
        text = terminal.after
        assert ("\x1b[" in text) is drawn
        plain = re.search(rf"(?m){PLAIN}{run_id} .*: Saving data to started", text)
        assert (plain is None) is drawn
        shown = re.sub("\x1b\\[[\\d;]*m", "", text)
        of_run = re.findall(rf"((?:{run_id} )+)Completed", shown)
        # Lines of runs at the same time are told apart.
        assert {*of_run} == ({f"{run_id} "} if drawn else set())
    finally:
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize("executor", EXECUTORS)
def test_logging_configuration_of_the_project_is_honoured(project: Path, executor: str) -> None:
    own = (PROJECTS / "plain_logging.yml").read_text().replace("%(name)s", "%(name)s <%(run_id)s>")
    (project / "conf/logging.yml").write_text(own)
    path = str(project / "conf/logging.yml")
    with started(
        project, executor, KEDRO_LOGGING_CONFIG=path, KEDRO_SERVER_LOG_FORMAT="plain"
    ) as server:
        run_id, lines = logged_by_a_run(server)
        assert server.stop() == 0
    assert f"INFO kedro.io.data_catalog <{run_id}> Saving data to started (MemoryDataset)...\n" in (
        lines
    )
    assert all(re.match(rf"INFO [\w.]+ <{run_id}> ", line) for line in lines if "Run " not in line)


def test_level_of_the_project_s_logging_configuration_is_honoured(project: Path) -> None:
    quiet = "loggers:\n  kedro:\n    level: WARNING\n"
    path = project / "conf/logging.yml"
    path.write_text((PROJECTS / "plain_logging.yml").read_text() + quiet)
    with started(project, "threads", KEDRO_LOGGING_CONFIG=str(path)) as server:
        logged_by_a_run(server)
        assert server.stop() == 0
    assert "Running node" not in server.log


def test_format_that_does_not_exist_is_refused(project: Path) -> None:
    ended = refused_start(project, KEDRO_SERVER_LOG_FORMAT="xml")
    assert ended.returncode == 1
    assert "'xml'" in ended.stderr
    assert "json" in ended.stderr
