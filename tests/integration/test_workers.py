"""Runs in processes of their own: what they are kept from, and what is left of them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from kedro_flask_server.workers.pool import WorkerPool
from tests.servers import PROJECTS, RunningServer, copy_project, eventually, kedro_flask_server
from tests.workers.fakes import SETTINGS

GRACE_S = 2.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[RunningServer]:
    """Return a server that tests share which leave it as it was."""
    with serve(copy_project(PROJECTS / "probe", folder), "--workers", "2") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(PROJECTS / "probe", tmp_path)


def serve(project: Path, *options: str, **env: str) -> RunningServer:
    marks = project.parent / "marks"
    marks.mkdir(exist_ok=True)
    env = {
        "PROBE_MARKS": str(marks),
        "KEDRO_LOGGING_CONFIG": str(PROJECTS / "plain_logging.yml"),
        "KEDRO_SERVER_CANCEL_GRACE_S": str(GRACE_S),
        **env,
    }
    return kedro_flask_server(project, *options, **env)


def marks_of(server: RunningServer) -> Path:
    return Path(server.env["PROBE_MARKS"])


def descendants(server: RunningServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def commands_below(server: RunningServer) -> list[str]:
    commands = []
    for each in descendants(server):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by now
            commands.append(" ".join(each.cmdline()))
    return commands


def template_of(server: RunningServer) -> psutil.Process:
    [template] = psutil.Process(server.process.pid).children()
    return template


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def log_of(server: RunningServer, run_id: object) -> str:
    return server.client.get(f"/runs/{run_id}/logs").text


def echo_of(project: Path, tag: str) -> dict:
    found: dict = json.loads((project / "data" / "echo" / f"{tag}.json").read_text())
    return found


@pytest.mark.parametrize(
    ("how", "says"),
    [("exit", "exit code 3"), ("segfault", "SIGSEGV"), ("kill", "signal 9 (SIGKILL)")],
)
def test_crash_is_one_failed_run_that_says_how(served: RunningServer, how: str, says: str) -> None:
    other = served.submit(pipeline_names=["sleep"], params={"seconds": 1})
    failed = served.run(pipeline_names=["crash"], params={"what": how})
    assert failed["status"] == "failure"
    assert failed["error"]["type"] == "WorkerCrashed"
    assert says in failed["error"]["message"]
    shown = served.show(failed["run_id"])
    assert shown["error"]["node"] == "crash"
    events = served.client.get(f"/runs/{failed['run_id']}/events").json()["events"]
    assert events[-1]["type"] == "run.finished"
    assert any(event["type"] == "node.started" for event in events)
    log = log_of(served, failed["run_id"])
    assert f"about to end by {how}" in log
    assert ("Segmentation fault" in log) == (how == "segfault")
    assert served.show(other, wait=10)["status"] == "success"
    assert served.run(pipeline_names=["one"])["status"] == "success"


def test_second_run_finds_nothing_that_the_first_has_left(served: RunningServer) -> None:
    found = []
    for tag in ("first", "second", "third"):
        assert served.run(pipeline_names=["leave"], params={"tag": tag})["status"] == "success"
        found.append(echo_of(served.cwd, tag))
    for each in found:
        assert each["environ"] is None
        assert each["folder"] == str(served.cwd)
        assert each["module"] is None
        assert each["hooks"] == []
    for name in ("pid", "random", "numpy"):
        assert len({each[name] for each in found}) == 3, name


@pytest.mark.parametrize("ways", [[], ["ignore"], ["hold"], ["leave"]])
def test_nothing_is_left_of_a_run_that_has_ended(served: RunningServer, ways: list[str]) -> None:
    tag = "-".join(["left", *ways])
    run_id = served.submit(pipeline_names=["cling"], params={"tag": tag, "ways": ways})
    mark = marks_of(served) / tag
    eventually(lambda: mark.exists() and mark.read_text())
    pid, group = map(int, mark.read_text().split())
    assert pid == group
    left = [pid]
    with contextlib.suppress(psutil.NoSuchProcess):  # one that leaves has ended by now
        left += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    if "leave" in ways:
        run = served.show(run_id, wait=10)
        assert run["status"] == "success"
    else:
        assert len(left) >= 4
        asked_at = time.monotonic()
        assert served.client.post(f"/runs/{run_id}/cancel").status_code == 202
        run = served.show(run_id, wait=10)
        taken_s = time.monotonic() - asked_at
        assert (run["status"], run["error"]["type"]) == ("cancelled", "RunCancelled")
        # One that obeys need not wait for the grace to end; what it leaves behind is killed.
        assert taken_s < GRACE_S + 2 if ways else taken_s < GRACE_S
    assert [pid for pid in left if not is_gone(pid)] == []
    assert mark.with_suffix(".finally").exists() == (ways in ([], ["leave"]))
    assert not any("sleep" in command for command in commands_below(served))


def test_hooks_are_told_of_a_run_that_is_interrupted(served: RunningServer) -> None:
    told = marks_of(served) / "on_pipeline_error"
    told.unlink(missing_ok=True)
    run_id = served.submit(pipeline_names=["sleep"], params={"seconds": 100})
    eventually(lambda: served.show(run_id)["progress"])
    served.client.post(f"/runs/{run_id}/cancel")
    assert served.show(run_id, wait=10)["status"] == "cancelled"
    assert told.read_text() == "RunStopped"


@pytest.mark.once
@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])
def test_timeout_ends_a_node_that_would_go_on(project: Path, runner: str) -> None:
    with serve(project, KEDRO_SERVER_RUN_TIMEOUT_S="1") as server:
        eventually(lambda: server.client.get("/health/ready").status_code == 200)
        failed = server.run(
            pipeline_names=["cling"], params={"tag": "t", "ways": ["hold"]}, runner=runner
        )
        assert failed["error"]["type"] == "RunTimeout"
        assert 900 < failed["duration_ms"] < (1 + GRACE_S + 2) * 1000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_processes_go_with_the_server(project: Path, number: signal.Signals) -> None:
    with serve(project, "--workers", "2", KEDRO_SERVER_DRAIN_TIMEOUT_S="0.1") as server:
        for tag, ways in (("a", ["ignore"]), ("b", ["hold"])):
            server.submit(pipeline_names=["cling"], params={"tag": tag, "ways": ways})
            mark = marks_of(server) / tag
            eventually(lambda mark=mark: mark.exists() and mark.read_text())
        left = descendants(server)
        assert len(left) >= 9
        server.stop(number)
        ended_at = time.monotonic()
        with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            pass
        while alive := [each for each in left if not is_gone(each.pid)]:
            assert time.monotonic() - ended_at < 1, alive
            time.sleep(0.01)


@pytest.mark.once
def test_server_that_is_killed_while_it_starts_leaves_nothing(project: Path) -> None:
    mark = project / "mark"
    wait = project / "wait.py"
    wait.write_text(f"import time; Path({str(mark)!r}).touch(); time.sleep(30)")
    with serve(project, PROBE_BROKEN=str(wait)) as server:
        template = template_of(server)
        eventually(mark.exists)
        server.stop(signal.SIGKILL)
        eventually(lambda: is_gone(template.pid), timeout_s=1)


@pytest.mark.once
def test_template_that_dies_is_replaced_and_its_runs_fail(project: Path) -> None:
    with serve(project, "--workers", "1") as server:
        run_id = server.submit(pipeline_names=["cling"], params={"tag": "a", "ways": []})
        eventually((marks_of(server) / "a").exists)
        workers = template_of(server).children()
        template_of(server).kill()
        run = server.show(run_id, wait=10)
        assert run["error"]["type"] == "WorkerCrashed"
        eventually(lambda: all(is_gone(each.pid) for each in workers))
        assert server.run(pipeline_names=["one"])["status"] == "success"
        eventually(lambda: server.client.get("/health/ready").status_code == 200)


def execute(server: RunningServer, code: str) -> dict:
    """Run some code in a node, and return the answer."""
    return server.run(pipeline_names=["execute"], params={"what": code})


# A process that holds all that the run has, and has left its group.
FORK_AND_LEAVE = """
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(1000)
Path(os.environ["PROBE_MARKS"], "left").write_text(str(child))
time.sleep(1000)
"""


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_template_that_does_nothing_more_is_replaced(project: Path, number: signal.Signals) -> None:
    with serve(project, "--workers", "1") as server:
        run_id = server.submit(pipeline_names=["execute"], params={"what": FORK_AND_LEAVE})
        mark = marks_of(server) / "left"
        eventually(lambda: mark.exists() and mark.read_text())
        template_of(server).send_signal(number)
        if number is signal.SIGSTOP:
            server.client.post(f"/runs/{run_id}/cancel")
        run = server.show(run_id, wait=15)
        assert run["error"]["type"] == (
            "RunCancelled" if number is signal.SIGSTOP else "WorkerCrashed"
        )
        assert is_gone(int(mark.read_text()))
        assert server.run(pipeline_names=["one"])["status"] == "success"


@pytest.mark.once
def test_worker_that_leaves_its_group_is_stopped_all_the_same(served: RunningServer) -> None:
    code = "os.setpgid(0, os.getpgid(os.getppid())); time.sleep(1000)"
    run_id = served.submit(pipeline_names=["execute"], params={"what": code})
    eventually(lambda: served.show(run_id)["progress"])
    served.client.post(f"/runs/{run_id}/cancel")
    assert served.show(run_id, wait=10)["status"] == "cancelled"


@pytest.mark.once
def test_worker_may_close_what_it_writes_to(served: RunningServer) -> None:
    before = sum(psutil.Process(served.process.pid).cpu_times()[:2])
    assert execute(served, "os.close(1); os.close(2); time.sleep(1)")["status"] == "success"
    assert sum(psutil.Process(served.process.pid).cpu_times()[:2]) - before < 0.5


def test_what_is_not_flushed_is_written_at_the_end(served: RunningServer) -> None:
    path = marks_of(served) / "unflushed"
    code = f"kept = open({str(path)!r}, 'w'); kept.write('all')"
    assert execute(served, code)["status"] == "success"
    assert path.read_text() == "all"


def test_child_that_comes_back_from_a_fork_is_no_second_run(served: RunningServer) -> None:
    answer = execute(served, "os.fork()")
    assert answer["status"] == "success"
    events = served.client.get(f"/runs/{answer['run_id']}/events").json()["events"]
    ends = [event["data"] for event in events if event["type"] == "node.finished"]
    assert [(end["done"], end["total"]) for end in ends] == [(1, 1)]


@pytest.mark.once
def test_run_cannot_spoil_what_others_or_it_tell(served: RunningServer) -> None:
    code = """
import stat
for descriptor in range(3, 100):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            os.write(descriptor, b'\\xff\\n["event", {"type": "log"}]\\n["none", {}]\\n')
            os.write(descriptor, b'["log", {"time": 1e18, "level": "x", "logger": "y", "message":')
            os.write(descriptor, b' "z"}]\\n["cut off')
    except OSError:
        pass
"""
    answer = execute(served, code)
    assert answer["status"] == "success"
    events = served.client.get(f"/runs/{answer['run_id']}/events").json()["events"]
    assert "node.finished" in {event["type"] for event in events}


@pytest.mark.once
def test_idle_workers_that_die_together_are_soon_replaced(project: Path) -> None:
    with serve(project, "--workers", "8") as server:
        server.run(pipeline_names=["one"])
        eventually(lambda: len(template_of(server).children()) == 9)
        for worker in template_of(server).children():
            worker.kill()
        began = time.monotonic()
        eventually(lambda: len(template_of(server).children()) == 9)
        eventually(lambda: server.client.get("/health/ready").status_code == 200)
        assert time.monotonic() - began < 3


@pytest.mark.once
def test_cancelled_run_of_a_worker_costs_the_next_one_nothing(project: Path) -> None:
    with (
        serve(project, "--workers", "2", KEDRO_SERVER_MAX_RUNS_PER_WORKER="1000") as server,
        ThreadPoolExecutor(4) as clients,
    ):

        def submit(number: int) -> str:
            run_id = server.submit(pipeline_names=["one"], params={"tag": str(number)})
            if number % 2:
                time.sleep(0.03)
                server.client.post(f"/runs/{run_id}/cancel")
            return run_id

        for run_id in clients.map(submit, range(100)):
            run = server.show(run_id, wait=30)
            assert run["status"] in ("success", "cancelled"), run


@pytest.mark.once
def test_server_that_ends_while_its_template_looks_around_leaves_nothing(project: Path) -> None:
    with serve(project, PROBE_LOADER="SlowLoader") as server:
        eventually(lambda: template_of(server).children())
        left = descendants(server)
        server.stop(signal.SIGKILL)
        eventually(lambda: all(is_gone(each.pid) for each in left), timeout_s=1)


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_worker_that_dies_idle_costs_nobody_a_run(project: Path, number: signal.Signals) -> None:
    with serve(project, "--workers", "1") as server:
        server.run(pipeline_names=["one"])
        for _ in range(5):
            for worker in template_of(server).children():
                worker.send_signal(number)
            assert server.run(pipeline_names=["one"])["status"] == "success"
        killed = template_of(server).children()
        for worker in killed:
            worker.kill()
        eventually(lambda: len({*template_of(server).children()}.difference(killed)) == 2)
        eventually(lambda: server.client.get("/health/ready").status_code == 200, timeout_s=3)


@pytest.mark.once
def test_workers_that_die_while_their_template_is_stopped_cost_nobody_a_run(project: Path) -> None:
    with serve(project, "--workers", "1") as server:
        server.run(pipeline_names=["one"])
        eventually(lambda: len(template_of(server).children()) == 2)
        template = template_of(server)
        template.suspend()
        for worker in template.children():
            worker.kill()
        assert server.run(pipeline_names=["one"])["status"] == "success"
        assert is_gone(template.pid)


@pytest.mark.once
def test_template_that_is_paused_while_it_starts_costs_nobody_a_run(project: Path) -> None:
    slow = project / "slow.py"
    slow.write_text("import time; time.sleep(3)")  # or the template might be ready by then
    with serve(project, "--workers", "1", PROBE_BROKEN=str(slow)) as server:
        assert server.client.get("/health/ready").status_code == 503
        template_of(server).suspend()
        assert server.run(pipeline_names=["one"])["status"] == "success"


@pytest.mark.once
def test_server_that_is_paused_loses_no_run(project: Path) -> None:
    with serve(project, "--workers", "2") as server:
        left = server.submit(pipeline_names=["sleep"], params={"seconds": 6})
        ended = server.submit(pipeline_names=["sleep"], params={"seconds": 100})
        eventually(lambda: server.show(ended)["progress"])
        server.client.post(f"/runs/{ended}/cancel")
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        server.process.send_signal(signal.SIGCONT)
        assert server.show(left, wait=10)["status"] == "success"
        assert server.show(ended, wait=10)["status"] == "cancelled"


@pytest.mark.once
@pytest.mark.parametrize("method", ["auto", "spawn"])
def test_project_may_start_processes_at_import(project: Path, method: str) -> None:
    manager = project / "manager.py"
    manager.write_text("import multiprocessing, sys; sys.kept = multiprocessing.Manager()")
    env = {"PROBE_BROKEN": str(manager), "KEDRO_SERVER_WORKER_START_METHOD": method}
    with serve(project, "--workers", "1", **env) as server:
        assert server.run(pipeline_names=["one"])["status"] == "success"
        left = descendants(server)
        template_of(server).kill()
        eventually(lambda: all(is_gone(each.pid) for each in left), timeout_s=5)
        assert server.run(pipeline_names=["one"])["status"] == "success"


@pytest.mark.once
def test_processes_that_a_run_has_left_say_nothing_in_the_next(project: Path) -> None:
    code = """
if os.fork() == 0:
    time.sleep(1)
    print("ghost")
    raise ValueError("ghost")
"""
    with serve(project, "--workers", "1", KEDRO_SERVER_MAX_RUNS_PER_WORKER="9") as server:
        execute(server, code)
        run_id = server.run(pipeline_names=["sleep"], params={"seconds": 1.5})["run_id"]
        assert "ghost" not in log_of(server, run_id)


@pytest.mark.once
def test_template_that_is_busy_keeps_nobody_waiting_who_limits_it(project: Path) -> None:
    settings = replace(
        SETTINGS, project_path=str(project), start_method="auto", python_path=sys.path
    )
    pool = WorkerPool(settings, size=1, secrets=set())
    pool.start()
    for _ in range(10_000):  # the template still imports Kedro
        pool.renew_lease(60)
    assert "being started" in pool.faults()["workers"]
    pool.close()


@pytest.mark.once
def test_workers_that_cannot_start_are_started_with_pauses_until_they_can(project: Path) -> None:
    broken = project / "broken.py"
    broken.write_text("import os; os._exit(7)")
    with serve(project, PROBE_BROKEN=str(broken)) as server:
        failed = server.run(pipeline_names=["one"])
        assert failed["error"]["type"] == "WorkerCrashed"
        assert "exit code 7" in failed["error"]["message"]
        not_ready = server.client.get("/health/ready")
        assert not_ready.status_code == 503
        assert "exit code 7" in not_ready.json()["faults"]["workers"]
        pauses = [float(s) for s in re.findall(r"The next is started in ([\d.]+) s", server.log)]
        assert pauses[:3] == [0.2, 0.4, 0.8]
        broken.unlink()
        assert server.run(pipeline_names=["one"])["status"] == "success"
        assert server.client.get("/health/ready").status_code == 200


def test_what_is_printed_is_in_the_log_in_its_order(served: RunningServer) -> None:
    run_id = served.run(pipeline_names=["speak"], params={"tag": "x"})["run_id"]
    log = log_of(served, run_id)
    lines = [line.partition("INFO     ")[2] for line in log.splitlines()]
    said = [line for line in lines if line.startswith(("output: ", "probe."))]
    assert said[said.index("output: printed x") :] == [
        "output: printed x",
        "probe.nodes: logged x",
        "output: half a line",
        r"output: https://<redacted>@example.invalid/ \x1b[2J",
        "output: 100%",
        "output: from a thread",
        "output: with no end",
    ]
    # It is a record of the run, and no line of the server's.
    assert "printed x" not in served.log
    assert "logged x" in served.log


def test_what_is_written_past_python_is_in_the_log(served: RunningServer) -> None:
    run_id = served.run(pipeline_names=["shout"], params={"tag": "x"})["run_id"]
    log = log_of(served, run_id)
    for line in ("from a program x", "gone wrong", "written to descriptor 1"):
        assert f"output: {line}\n" in log + "\n"


@pytest.mark.once
def test_secrets_of_the_server_are_not_in_its_workers(project: Path) -> None:
    url = f"sqlite:///{project.parent / 'secret.db'}"
    with serve(project, KEDRO_SERVER_DATABASE_URL=url, KEDRO_SERVER_API_KEY="canary") as server:
        server.run(pipeline_names=["leave"], params={"tag": "x"})
        assert echo_of(project, "x")["secrets"] == []
        for process in descendants(server):
            assert "KEDRO_SERVER_API_KEY" not in process.environ()


@pytest.mark.once
def test_server_does_not_import_what_the_pipelines_need(project: Path) -> None:
    with serve(project) as server:
        server.run(pipeline_names=["one"])
        assert server.client.get("/snapshot").json()["status"] == "success"
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "numpy" not in loaded
        assert "numpy" in Path(f"/proc/{template_of(server).pid}/maps").read_text()


@pytest.mark.once
def test_worker_may_execute_several_runs(project: Path) -> None:
    with serve(project, "--workers", "1", KEDRO_SERVER_MAX_RUNS_PER_WORKER="3") as server:
        found = []
        for number in range(7):
            run_id = server.run(pipeline_names=["leave"], params={"tag": f"t{number}"})["run_id"]
            assert "t" in log_of(server, run_id)
            found.append(echo_of(project, f"t{number}"))
        pids = [each["pid"] for each in found]
        assert pids == [pids[0]] * 3 + [pids[3]] * 3 + [pids[6]]
        assert len(set(pids)) == 3
        assert [each["environ"] for each in found[:4]] == [None, "t0", "t1", None]


@pytest.mark.once
def test_worker_that_has_grown_too_large_is_replaced(project: Path) -> None:
    limits = {"KEDRO_SERVER_MAX_RUNS_PER_WORKER": "9", "KEDRO_SERVER_MAX_WORKER_RSS_MB": "1"}
    with serve(project, "--workers", "1", **limits) as server:
        for tag in ("a", "b"):
            server.run(pipeline_names=["leave"], params={"tag": tag})
        assert echo_of(project, "a")["pid"] != echo_of(project, "b")["pid"]


@pytest.mark.once
def test_memory_of_a_worker_can_be_limited(project: Path) -> None:
    with serve(project, KEDRO_SERVER_WORKER_MEMORY_LIMIT_MB="800") as server:
        failed = server.run(pipeline_names=["memory"], params={"megabytes": 1000})
        assert failed["error"]["type"] == "MemoryError"
        enough = server.run(pipeline_names=["memory"], params={"megabytes": 10})
        assert enough["status"] == "success"


def test_run_ends_as_a_program_does(served: RunningServer) -> None:
    answer = served.run(pipeline_names=["linger"], params={"tag": "l", "seconds": 0.5})
    assert answer["status"] == "success"
    assert (marks_of(served) / "l.thread").exists()
    assert (marks_of(served) / "l.exit").exists()


@pytest.mark.once
def test_snapshots_outlive_the_process_that_makes_them(project: Path) -> None:
    with serve(project, "--workers", "1") as server:
        first = server.client.get("/snapshot").json()
        for worker in template_of(server).children():
            worker.kill()
        assert server.client.get("/snapshot").json() == first
        answers = []
        with ThreadPoolExecutor(8) as clients:
            answers = [*clients.map(lambda _: server.client.get("/snapshot").json(), range(16))]
        assert all(answer == first for answer in answers)


@pytest.mark.once
def test_workers_may_be_started_anew(project: Path) -> None:
    with serve(project, "--workers", "1", KEDRO_SERVER_WORKER_START_METHOD="spawn") as server:
        for tag in ("a", "b"):
            run_id = server.run(pipeline_names=["leave"], params={"tag": tag})["run_id"]
            assert "Completed node: leave" in log_of(server, run_id)
        assert echo_of(project, "a")["pid"] != echo_of(project, "b")["pid"]
        crashed = server.run(pipeline_names=["crash"], params={"what": "segfault"})
        assert "SIGSEGV" in crashed["error"]["message"]
        left = descendants(server)
        server.stop(signal.SIGKILL)
        eventually(lambda: all(is_gone(each.pid) for each in left), timeout_s=1)


@pytest.mark.once
def test_project_that_runs_threads_is_not_forked(project: Path) -> None:
    threads = project / "threads.py"
    threads.write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True, name='mine').start()"
    )
    with serve(project, "--workers", "1", PROBE_BROKEN=str(threads)) as server:
        assert server.run(pipeline_names=["one"])["status"] == "success"
        server.wait_for_line("runs the threads ['mine']")


def test_print_follows_a_descriptor_that_is_redirected_and_back(served: RunningServer) -> None:
    path = marks_of(served) / "captured"
    code = f"""
print("before")
saved = os.dup(1)
with open({str(path)!r}, "w") as file:
    os.dup2(file.fileno(), 1)
    print("from Python", flush=True)
    logging.StreamHandler(sys.stdout).handle(logging.makeLogRecord({{"msg": "from a handler"}}))
    os.system("echo from a program")
    os.dup2(saved, 1)
print("after")
"""
    answer = execute(served, code)
    assert answer["status"] == "success"
    assert path.read_text().splitlines() == ["from Python", "from a handler", "from a program"]
    log = log_of(served, answer["run_id"])
    printed = [line.rpartition(" ")[2] for line in log.splitlines() if "output" in line]
    assert printed == ["before", "after"]
