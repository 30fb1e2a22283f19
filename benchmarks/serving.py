"""Measures served pipelines beside BentoML, MLflow, a Flask view by hand, and Kedro's own server.

All answer one row with one model (scikit-learn, logistic regression, 30 features). Ours and BentoML
have two workers, MLflow one, as by default; Kedro's own server takes no data, and reads row and
model from files.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.load import Load, Outcome, Request
from tests.servers import RunningServer, environment, free_port, kedro_own_server, start_command

WORKERS = 2
VERSION = "2026-01-01T00.00.00.000Z"

_PYPROJECT = """
[tool.kedro]
package_name = "answers"
project_name = "answers"
kedro_init_version = "1.6.0"
source_dir = "src"
"""

_REGISTRY = '''
"""One model that answers, and what goes on beside it."""

import time
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Pipeline, node


def predict(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"benign": model.predict(rows)})


def burn(seconds: float) -> int:
    ends_at, count = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        count += 1
    return count


def grow(megabytes: int) -> Any:
    return np.random.default_rng().random(megabytes * 131_072)


def sum_first(big: Any, rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"sum": [float(big[:10].sum())]})


def register_pipelines() -> dict[str, Pipeline]:
    return {
        "__default__": Pipeline([node(predict, ["model", "stored"], "kept", name="stored")]),
        "answer": Pipeline([node(predict, ["model", "rows"], "answers", name="predict")]),
        "burn": Pipeline([node(burn, "params:seconds", "burnt", name="burn")]),
        "grow": Pipeline([node(grow, "params:megabytes", "big", name="grow")]),
        "big": Pipeline([node(sum_first, ["big", "rows"], "sums", name="sum_first")]),
    }
'''

_CATALOG = """
model: {type: pickle.PickleDataset, filepath: data/model.pkl, versioned: true}
big: {type: pickle.PickleDataset, filepath: data/big.pkl, versioned: true}
stored: {type: json.JSONDataset, filepath: data/rows.json}
stored_rows: {type: pandas.JSONDataset, filepath: data/rows.json}
rows:
  type: MemoryDataset
  metadata: {kedro-flask-server: {example: ROWS}}
"""

_BY_HAND = """
import pickle, sys
import pandas as pd
from flask import Flask, jsonify, request
from waitress import serve

model = pickle.load(open(sys.argv[1], "rb"))
app = Flask(__name__)


@app.post("/invocations")
def answer():
    rows = pd.DataFrame(request.get_json()["rows"])
    return jsonify(answers=[int(each) for each in model.predict(rows)])


serve(app, port=int(sys.argv[2]), threads=8)
"""

_BENTO = """
import pickle
import bentoml
import pandas as pd


@bentoml.service(workers={workers})
class Answers:
    def __init__(self) -> None:
        self.model = pickle.load(open({model!r}, "rb"))

    @bentoml.api
    def invocations(self, rows: list[dict]) -> list[int]:
        return [int(each) for each in self.model.predict(pd.DataFrame(rows))]
"""


def write_project(folder: Path) -> Path:
    """Write the project with its model, and return its folder."""
    data = load_breast_cancer(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, data.target)
    rows = json.loads(data.data[:1].to_json(orient="records"))
    project = folder / "answers"
    for name, text in {
        "pyproject.toml": _PYPROJECT,
        "src/answers/__init__.py": "",
        "src/answers/settings.py": "",
        "src/answers/pipeline_registry.py": _REGISTRY.replace(
            '"stored"], "kept"', '"stored_rows"], "kept"'
        ),
        "conf/base/catalog.yml": _CATALOG.replace("ROWS", json.dumps(rows)),
        "conf/base/parameters.yml": "{seconds: 1.0, megabytes: 1}",
        "conf/local/.gitkeep": "",
        "data/rows.json": json.dumps(rows),
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    file = project / "data/model.pkl" / VERSION / "model.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(model))
    return project


@contextmanager
def started(command: list[str], cwd: Path, port: int, path: str) -> Iterator[str]:
    """Run a server of another make, and yield its address once it answers."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}
    env = environment(PATH=programs, **quiet)
    with (cwd / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            ends_at = time.monotonic() + 120
            while True:
                try:
                    httpx.get(url + path)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < ends_at, (cwd / f"{port}.log").read_text()[-2000:]
                    time.sleep(0.2)
            yield url
        finally:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.terminate()
            process.wait(20)


def serve(project: Path, **settings: dict[str, Any]) -> RunningServer:
    """Return ours, with served pipelines."""
    env = {"KEDRO_SERVER_SERVED_PIPELINES": json.dumps(settings)}
    return RunningServer(start_command("--workers", str(WORKERS)), cwd=project, env=env)


def wait_for(server: RunningServer, pipeline: str, generation: int = 1) -> None:
    """Wait until a generation of a served pipeline answers."""
    ends_at = time.monotonic() + 300
    while True:
        served = server.client.get(f"/pipelines/{pipeline}").json()["served"]
        if (served["generation"] or 0) >= generation:
            return
        assert time.monotonic() < ends_at, served
        time.sleep(0.1)


@contextmanager
def contenders(project: Path, folder: Path) -> Iterator[dict[str, tuple[str, Request]]]:
    """Start all servers, and yield for each its address and its request."""
    rows = json.loads((project / "data/rows.json").read_text())
    model = str(next((project / "data/model.pkl").glob("*/model.pkl")))
    own = Request(
        line="POST /pipelines/answer/run",
        body=json.dumps({"inputs": {"rows": rows}}),
        success='"status": ?"success"',
    )
    (folder / "by_hand.py").write_text(_BY_HAND)
    (folder / "bento.py").write_text(_BENTO.format(workers=WORKERS, model=model))
    import mlflow.sklearn

    saved = str(folder / "mlflow_model")
    mlflow.sklearn.save_model(pickle.loads(Path(model).read_bytes()), saved)
    ports = {name: free_port() for name in ("by hand", "mlflow", "bentoml")}
    python, bin_folder = sys.executable, Path(sys.executable).parent
    mlflow_command = [str(bin_folder / "mlflow"), "models", "serve", "-m", saved]
    bento_command = [str(bin_folder / "bentoml"), "serve", "bento:Answers"]
    commands = {
        "by hand": [python, "by_hand.py", model, str(ports["by hand"])],
        "mlflow": [*mlflow_command, "--env-manager", "local", "--port", str(ports["mlflow"])],
        "bentoml": [*bento_command, "--port", str(ports["bentoml"])],
    }
    bodies = {name: json.dumps({"rows": rows}) for name in commands}
    bodies["mlflow"] = json.dumps({"dataframe_records": rows})
    with ExitStack() as stack:
        found: dict[str, tuple[str, Request]] = {}
        for name, command in commands.items():
            path = "/ping" if name == "mlflow" else "/healthz"
            url = stack.enter_context(started(command, folder, ports[name], path))
            found[name] = (url, Request(line="POST /invocations", body=bodies[name]))
        for name, record in (("ours", "failures"), ("ours, record all", "all")):
            settings = {"preload": ["model"], "workers": WORKERS, "record": record}
            copy = write_project(folder / record)
            server = stack.enter_context(serve(copy, answer=settings))
            wait_for(server, "answer")
            found[name] = (server.url, own)
        kedro = stack.enter_context(kedro_own_server(write_project(folder / "kedro")))
        found["kedro"] = (kedro.url, Request(line="POST /run", body="{}"))
        yield found


@contextmanager
def busy(found: dict[str, tuple[str, Request]], name: str, seconds: float) -> Iterator[None]:
    """Keep as many processors busy as there are slots of batch runs: ours by runs."""
    url = found[name][0]
    if name.startswith("ours"):
        body = {"pipeline_names": ["burn"], "params": {"seconds": seconds}}
        for _ in range(WORKERS):
            headers = {"Prefer": "respond-async"}
            httpx.post(f"{url}/run", json=body, headers=headers).raise_for_status()
        time.sleep(1)
        yield
        while httpx.get(f"{url}/runs?status=running").json()["runs"]:
            time.sleep(0.2)
        return
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    burning = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(WORKERS)]
    time.sleep(0.5)
    yield
    for each in burning:
        each.wait()


def compare(seconds: float, rounds: int) -> None:
    """Print what each takes, and how ours compares."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contenders(write_project(folder), folder) as found:
            results: dict[tuple[str, str], list[Outcome]] = {}
            for _ in range(rounds):
                for name, (url, request) in found.items():
                    for clients in (1, 8):
                        with Load(url, request, clients) as load:
                            outcome = load.measure(seconds, warm_up=100)
                        results.setdefault((name, f"{clients} alone"), []).append(outcome)
                    if name != "kedro":
                        with busy(found, name, seconds + 4), Load(url, request, 1) as load:
                            outcome = load.measure(seconds, warm_up=20)
                        results.setdefault((name, "1 beside"), []).append(outcome)
            _print(found, results)


def _print(
    found: dict[str, tuple[str, Request]], results: dict[tuple[str, str], list[Outcome]]
) -> None:
    def middle(name: str, load: str, value: Callable[[Outcome], float]) -> float:
        return float(np.median([value(each) for each in results[name, load]]))

    print(f"{'':18}{'1 client':>22}{'8 clients':>22}{'1, beside batch runs':>26}")
    for name in found:
        one = [middle(name, "1 alone", lambda o: o.median_ms)]
        one.append(middle(name, "1 alone", lambda o: o.p99_ms))
        line = f"{name:18}{one[0]:9.2f} ms, p99 {one[1]:5.1f}"
        line += f"{middle(name, '8 alone', lambda o: o.rate):18.0f} /s "
        if (name, "1 beside") in results:
            beside = middle(name, "1 beside", lambda o: o.median_ms)
            line += f"{beside:12.2f} ms, p99 {middle(name, '1 beside', lambda o: o.p99_ms):5.1f}"
        print(line)

    def ratio(one: str, other: str, load: str, value: Callable[[Outcome], float]) -> float:
        return middle(one, load, value) / middle(other, load, value)

    def median(outcome: Outcome) -> float:
        return outcome.median_ms

    def rate(outcome: Outcome) -> float:
        return outcome.rate

    added_ms = middle("ours, record all", "1 alone", median) - middle("ours", "1 alone", median)
    for text, value, goal in (
        ("median, times MLflow's", ratio("ours", "mlflow", "1 alone", median), "at most 1.5"),
        ("median, times BentoML's", ratio("ours", "bentoml", "1 alone", median), "below 1"),
        ("median, times by hand", ratio("ours", "by hand", "1 alone", median), "none"),
        ("requests/s, times MLflow's", ratio("ours", "mlflow", "8 alone", rate), "at least 0.8"),
        ("requests/s, times BentoML's", ratio("ours", "bentoml", "8 alone", rate), "above 1"),
        ("median, times Kedro's own", ratio("ours", "kedro", "1 alone", median), "none"),
        ("record all adds, ms", added_ms, "at most 1.5"),
        (
            "p99 beside batch runs, times the median",
            middle("ours", "1 beside", lambda o: o.p99_ms) / middle("ours", "1 beside", median),
            "below 10",
        ),
    ):
        print(f"{text:42}{value:8.2f}   goal: {goal}")


def reload_big(megabytes: int) -> None:
    """Print the longest call while a large dataset is loaded anew."""
    with tempfile.TemporaryDirectory() as temporary:
        project = write_project(Path(temporary))
        rows = json.loads((project / "data/rows.json").read_text())
        request = Request(
            line="POST /pipelines/big/run",
            body=json.dumps({"inputs": {"rows": rows}}),
            success='"status": ?"success"',
        )
        settings = {"preload": ["big"], "workers": WORKERS, "record": "failures", "poll_s": 1}
        with serve(project, big=settings) as server:
            body = {"pipeline_names": ["grow"], "params": {"megabytes": megabytes}}
            server.run(**body)
            wait_for(server, "big")
            with Load(server.url, request, 1) as load:
                before = load.measure(10, warm_up=200)
            server.run(**body)
            with Load(server.url, request, 1) as load:
                during = load.measure(20, warm_up=0)
            generation = server.client.get("/pipelines/big").json()["served"]["generation"]
            times = during.longest_ms / before.median_ms
            print(
                f"{megabytes} MB loaded anew (generation {generation}): median "
                f"{before.median_ms:.2f} ms; meanwhile {during.median_ms:.2f}, longest "
                f"{during.longest_ms:.2f} = {times:.1f} times the median; goal: at most 3"
            )
        load_beside_view(project, rows)


def load_beside_view(project: Path, rows: list[dict[str, float]]) -> None:
    """Print the longest call of a view by hand while a plain process loads the same file.

    It is what the machine does to a server whose processors are busy for as long.
    """
    model, big = (
        str(next((project / f"data/{name}.pkl").glob(f"*/{name}.pkl"))) for name in ("model", "big")
    )
    (project / "by_hand.py").write_text(_BY_HAND)
    port = free_port()
    request = Request(line="POST /invocations", body=json.dumps({"rows": rows}))
    code = (
        "import pickle, sys, kedro.framework.session, pandas, sklearn.linear_model\n"
        "pickle.load(open(sys.argv[1], 'rb'))"
    )
    command = [sys.executable, "by_hand.py", model, str(port)]
    with started(command, project, port, "/healthz") as url, Load(url, request, 1) as load:
        before = load.measure(10, warm_up=200)
        with subprocess.Popen([sys.executable, "-c", code, big], stdout=subprocess.DEVNULL):
            during = load.measure(10, warm_up=0)
    print(
        f"a view by hand beside a process that loads the same: median {before.median_ms:.2f} ms; "
        f"meanwhile {during.median_ms:.2f}, longest {during.longest_ms:.2f} = "
        f"{during.longest_ms / before.median_ms:.1f} times the median"
    )


LIBRARIES = {
    "scikit-learn": ("sklearn.ensemble", "RandomForestClassifier(n_estimators=300)"),
    "lightgbm": ("lightgbm", "LGBMClassifier(n_estimators=300, verbose=-1)"),
    "xgboost": ("xgboost", "XGBClassifier(n_estimators=300)"),
    "pytorch": ("", ""),
}


def share_memory(name: str) -> None:
    """Print whether four workers answer rightly with a library's model, and what they take."""
    if name == "pytorch" and find_spec("torch") is None:
        print(f"{name:14}is not installed")
        return
    data = load_breast_cancer(as_frame=True)
    if name == "pytorch":
        import torch

        model: Any = torch.nn.Sequential(
            torch.nn.Linear(30, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 4096),
            torch.nn.ReLU(), torch.nn.Linear(4096, 2),
        )  # fmt: skip
    else:
        module, expression = LIBRARIES[name]
        namespace: dict[str, Any] = {}
        exec(f"from {module} import *\nmodel = {expression}", namespace)
        model = namespace["model"].fit(data.data, data.target)
    with tempfile.TemporaryDirectory() as temporary:
        project = write_project(Path(temporary))
        file = project / "data/model.pkl" / VERSION / "model.pkl"
        file.write_bytes(pickle.dumps(model))
        registry = project / "src/answers/pipeline_registry.py"
        rows = data.data[:8]
        if name == "pytorch":
            text = registry.read_text()
            what = '    return pd.DataFrame({"benign": model.predict(rows)})'
            instead = (
                "    import torch\n\n    with torch.no_grad():\n"
                "        found = model(torch.tensor(rows.to_numpy(), dtype=torch.float32))\n"
                '    return pd.DataFrame({"benign": found.argmax(1).numpy()})'
            )
            assert what in text
            registry.write_text(text.replace(what, instead))
            wanted = model(torch.tensor(rows.to_numpy(), dtype=torch.float32)).argmax(1).tolist()
        else:
            wanted = [int(each) for each in model.predict(rows)]
        settings = {"preload": ["model"], "workers": 4, "record": "failures"}
        with serve(project, answer=settings) as server:
            wait_for(server, "answer")
            body = {"inputs": {"rows": json.loads(rows.to_json(orient="records"))}}
            answers = []
            for _ in range(40):
                answer = server.client.post("/pipelines/answer/run", json=body, timeout=60).json()
                answers.append([each["benign"] for each in answer["outputs"]["answers"]])
            below = psutil.Process(server.process.pid).children()
            [template] = [each for each in below if each.nice() == 0]
            processes = [template, *template.children()]
            pss = [each.memory_full_info().pss / 1e6 for each in processes]
            alone = psutil.Process(processes[-1].pid).memory_info().rss / 1e6
            method = "each loads" if "it runs the threads" in server.log else "fork"
            print(
                f"{name:14}right answers: {all(each == wanted for each in answers)}; {method}; "
                f"model {file.stat().st_size / 1e6:.0f} MB; PSS of 4 workers and template "
                f"{sum(pss):.0f} MB, RSS of one {alone:.0f} MB"
            )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--only", choices=["compare", "reload", *LIBRARIES])
    options = parser.parse_args()
    if options.only in (None, "compare"):
        compare(options.seconds, options.rounds)
    if options.only in (None, "reload"):
        reload_big(options.megabytes)
    for name in LIBRARIES:
        if options.only in (None, name):
            share_memory(name)


if __name__ == "__main__":
    main()
