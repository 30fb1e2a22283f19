"""What ``kedro server run`` takes is what the installed Kedro's ``kedro run`` takes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.servers import RunningServer, call

KEDRO = [sys.executable, "-m", "kedro", "server"]


def test_kedro_server_run_takes_the_options_of_kedro_run(ours: RunningServer, probe: Path) -> None:
    done = call(
        ours,
        *("run", "--pipelines", "twenty,slow", "--to-nodes", "step_1,slow_1"),
        *("--params", "tag=1,nested.tag=x,seconds=0", "-r", "ThreadRunner", "--json"),
        program=KEDRO,
        cwd=probe,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout.splitlines()[-1])
    assert run["status"] == "success"
    assert run["progress"] == {"done": 4, "total": 4}
    assert sorted(run["request"].pop("pipeline_names")) == ["slow", "twenty"]
    assert run["request"] == {
        "to_nodes": ["step_1", "slow_1"],
        "runner": "ThreadRunner",
        "params": {"tag": 1, "nested": {"tag": "x"}, "seconds": 0},
    }
    assert run["created_at"] == ours.show(run["run_id"])["created_at"]


def test_every_option_of_kedro_run_is_one_of_ours() -> None:
    from kedro.framework.cli.project import run

    shown = call("http://127.0.0.1:1", "run", "--help").stdout
    for option in run.params:
        for name in option.opts:
            assert re.search(rf"(^|[ ,]){name}\b", shown, re.MULTILINE), name
