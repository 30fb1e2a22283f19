"""Data goes into runs and comes out of them: over sockets, in every form that is documented."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from kedro_flask_server.client import Client, RequestRefusedError, RunFailedError
from tests.servers import (
    CLIENT,
    EXECUTORS,
    PROJECTS,
    RunningServer,
    copy_project,
    eventually,
    kedro_flask_server,
    refused_start,
)

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"

SALES = [
    {"zip": "01234", "day": "2026-01-31", "amount": 2.5},
    {"zip": "01234", "day": "2026-02-01", "amount": 1},
    {"zip": "99", "day": "2026-02-02", "amount": 4},
]
ROWS = [{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]


@pytest.fixture(scope="module", params=EXECUTORS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Return a server of a project whose pipelines take and return data."""
    folder = tmp_path_factory.mktemp("exchanged")
    project = copy_project(PROJECTS / "exchanged", folder)
    (folder / "calls").mkdir()
    env = {"KEDRO_SERVER_EXECUTOR": request.param, "HOOK_CALLS": str(folder / "calls")}
    with kedro_flask_server(project, KEDRO_SERVER_WORKERS="2", **env) as server:
        yield server


def call(server: RunningServer, pipeline: str, **body: Any) -> httpx.Response:
    """Run a pipeline on data that is sent as JSON."""
    return server.client.post(f"/pipelines/{pipeline}/run", json=body)


def raw(
    server: RunningServer,
    pipeline: str,
    content: bytes,
    kind: str,
    accept: str = "*/*",
    **query: str,
) -> httpx.Response:
    """Run a pipeline on a body that is the data."""
    headers = {"Content-Type": kind, "Accept": accept, "Origin": server.url}
    return server.client.post(
        f"/pipelines/{pipeline}/run", content=content, headers=headers, params=query
    )


def outputs_of(response: httpx.Response) -> Any:
    """Return the outputs of a run that has succeeded."""
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "success"
    return response.json()["outputs"]


def hook_calls(server: RunningServer) -> dict[str, int]:
    """Return how often each hook was called."""
    folder = Path(server.env["HOOK_CALLS"])
    return {path.name: len(path.read_text()) for path in folder.iterdir()}


def test_pipeline_says_what_it_takes_and_returns(served: RunningServer) -> None:
    found = served.client.get("/pipelines/aggregate").json()
    assert found["inputs"].keys() == {"sales"}
    sales = found["inputs"]["sales"]
    assert sales["type"] == "CSVDataset"
    assert not sales["is_required"]
    assert {CSV, "application/json", PARQUET} <= {*sales["media_types"]}
    assert sales["example"][0]["zip"] == "01234"
    assert found["outputs"]["by_zip"]["is_saved"]
    priced = served.client.get("/pipelines/price").json()
    assert priced["inputs"]["order"]["schema"]["properties"]["day"]["format"] == "date"
    assert priced["inputs"]["customer"]["is_required"]
    multiplied = served.client.get("/pipelines/multiply").json()
    assert multiplied["intermediates"].keys() == {"multiplied"}
    assert multiplied["parameters"] == {"factor": {"schema": {"type": "integer"}, "value": 2}}
    unknown = served.client.get("/pipelines/nope")
    assert unknown.status_code == 404
    assert "aggregate" in unknown.json()["detail"]


@pytest.mark.once
def test_private_dataset_is_neither_shown_taken_nor_returned(served: RunningServer) -> None:
    assert "secret" not in served.client.get("/pipelines/tell").json()["inputs"]
    refused = call(served, "tell", inputs={"secret": {"a": 1}})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "inputs", "secret"]


def test_rows_go_in_and_come_out(served: RunningServer) -> None:
    response = call(
        served, "multiply", inputs={"rows": ROWS}, outputs=["multiplied", "sums"], save=False
    )
    assert outputs_of(response) == {
        "multiplied": [{"a": 2, "b": "x"}, {"a": 5, "b": None}],
        "sums": {"a": 7},
    }
    assert response.json()["tables"] == ["multiplied"]
    assert response.headers["Kedro-Run-Id"] == response.json()["run_id"]
    columns = {"columns": ["a", "b"], "data": [[1, "x"], [2.5, None]]}
    assert outputs_of(call(served, "multiply", inputs={"rows": columns})) == {"sums": {"a": 7}}
    three = call(served, "multiply", inputs={"rows": ROWS}, params={"factor": 3})
    assert outputs_of(three) == {"sums": {"a": 10.5}}


def test_catalog_reads_types_and_dates(served: RunningServer) -> None:
    expected = {"rows": 3, "zip": "str", "amount": "float64"}
    sent = "zip,day,amount\n" + "".join(f"{','.join(map(str, row.values()))}\n" for row in SALES)
    # pandas has had another name for texts, and another unit for dates.
    texts = {"str", "object"}
    for response in (
        call(served, "aggregate", inputs={"sales": SALES}, save=False),
        raw(served, "aggregate", sent.encode(), CSV, input="sales"),
    ):
        found = outputs_of(response)
        assert found["by_zip"] == [{"zip": "01234", "amount": 3.5}, {"zip": "99", "amount": 4}]
        metrics = found["metrics"]
        assert metrics.pop("day").startswith("datetime64")
        assert metrics.pop("zip") in texts
        assert metrics == {"rows": expected["rows"], "amount": expected["amount"]}


@pytest.mark.once
def test_nothing_is_saved_unless_asked(served: RunningServer) -> None:
    data = served.cwd / "data"
    before = sorted(data.rglob("*"))
    outputs_of(call(served, "aggregate", inputs={"sales": SALES}, save=False))
    assert sorted(data.rglob("*")) == before
    run = call(served, "aggregate", inputs={"sales": SALES[:1]})
    saved = pd.read_csv(data / "by_zip.csv", dtype={"zip": str})
    assert saved.to_dict("records") == outputs_of(run)["by_zip"]
    assert not (data / "sales.csv").exists()  # what is given replaces no file
    (data / "by_zip.csv").unlink()


@pytest.mark.once
def test_parts_go_in_and_one_output_comes_out_in_its_own_form(served: RunningServer) -> None:
    files = {
        "sales": ("in.csv", b"zip,day,amount\n01234,2026-01-31,2.5\n", OCTETS),
        "request": (None, json.dumps({"save": False, "outputs": ["by_zip"]}), "application/json"),
    }
    headers = {"Accept": CSV, "Origin": served.url}
    response = served.client.post("/pipelines/aggregate/run", files=files, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith(CSV)
    assert response.text == "zip,amount\n01234,2.5\n"
    two = served.client.post("/pipelines/aggregate/run", json={"save": False}, headers=headers)
    assert two.status_code == 406


@pytest.mark.once
def test_tables_of_other_libraries(served: RunningServer) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    body = io.BytesIO()
    frame.write_parquet(body)
    response = raw(served, "polars", body.getvalue(), PARQUET, PARQUET)
    assert response.status_code == 200, response.text
    assert pl.read_parquet(io.BytesIO(response.content)).equals(frame)
    table = pa.table({"x": [1.5, None]})
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    response = raw(served, "arrow", stream.getvalue(), ARROW, ARROW)
    assert response.status_code == 200, response.text
    assert pa.ipc.open_stream(response.content).read_all().equals(table)


@pytest.mark.once
def test_values_of_every_kind(served: RunningServer) -> None:
    order = {"day": "2026-01-01", "price": "2.50", "count": 3}
    priced = call(served, "price", inputs={"order": order, "customer": {"name": "a", "age": 3}})
    assert outputs_of(priced) == {"total": {"total": "7.50", "day": "2026-01-01", "who": "a"}}
    array = call(served, "array", inputs={"array": [[1, "NaN"], ["-Infinity", 4]]})
    assert outputs_of(array) == {"array_again": [[1, "NaN"], ["-Infinity", 4]]}
    assert outputs_of(call(served, "text", inputs={"text": "hé"})) == {"text_again": "hé"}
    octets = raw(served, "octets", b"\x00\xff", OCTETS, OCTETS)
    assert (octets.status_code, octets.content) == (200, b"\x00\xff")
    assert outputs_of(call(served, "octets", inputs={"octets": "AP8="})) == {"octets_again": "AP8="}
    assert outputs_of(call(served, "echo", inputs={"value": False})) == {"echoed": False}
    picture = io.BytesIO()
    Image.new("RGB", (7, 5)).save(picture, "PNG")
    size = raw(served, "picture", picture.getvalue(), "image/png", input="picture")
    assert outputs_of(size) == {"size": {"width": 7, "height": 5}}


@pytest.mark.once
def test_transcodings_are_one_dataset_in_memory(served: RunningServer) -> None:
    response = call(served, "transcode", inputs={"value": [3]}, save=False)
    assert outputs_of(response) == {"echoed": [3]}


@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])
@pytest.mark.parametrize("is_async", [False, True])
def test_outputs_are_kept_by_whatever_process_saves_them(
    served: RunningServer, runner: str, is_async: bool
) -> None:
    body = {"runner": runner, "is_async": is_async, "outputs": ["multiplied", "sums"]}
    response = call(served, "multiply", inputs={"rows": ROWS[:1]}, save=False, **body)
    assert outputs_of(response) == {"multiplied": [{"a": 2, "b": "x"}], "sums": {"a": 2}}


@pytest.mark.once
@pytest.mark.parametrize(
    ("pipeline", "body", "location"),
    [
        ("multiply", {}, ["body", "inputs", "rows"]),
        ("multiply", {"inputs": {"x": 1, "rows": []}}, ["body", "inputs", "x"]),
        ("multiply", {"inputs": {"rows": []}, "outputs": ["y"]}, ["body", "outputs", 0]),
        ("multiply", {"inputs": {"rows": []}, "foo": 1}, ["body", "foo"]),
        ("multiply", {"inputs": []}, ["body", "inputs"]),
        ("multiply", {"inputs": {"rows": []}, "pipeline_names": ["a"]}, ["body", "pipeline_names"]),
        ("model", {"inputs": {"model": 1}}, ["body", "inputs", "model"]),
        (
            "multiply",
            {"inputs": {"rows": []}, "only_missing_outputs": True},
            ["body", "only_missing_outputs"],
        ),
    ],
)
def test_form_is_refused_before_a_run_is_accepted(
    served: RunningServer, pipeline: str, body: dict[str, Any], location: list[Any]
) -> None:
    before = served.client.get("/runs?limit=1").json()["runs"]
    refused = call(served, pipeline, **body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"][0]["loc"] == location
    assert served.client.get("/runs?limit=1").json()["runs"] == before


@pytest.mark.parametrize(
    ("pipeline", "inputs", "location"),
    [
        (
            "price",
            {"order": {"day": "x", "price": 1}, "customer": {"name": "a", "age": 1}},
            ["body", "inputs", "order", "day"],
        ),
        ("check", {"checked": [{"amount": -1}]}, ["body", "inputs", "checked"]),
        ("multiply", {"rows": {"a": 1}}, ["body", "inputs", "rows"]),
    ],
)
def test_content_is_refused_before_the_hooks_of_the_run(
    served: RunningServer, pipeline: str, inputs: dict[str, Any], location: list[Any]
) -> None:
    before = hook_calls(served)
    for headers in ({}, {"Prefer": "handling=lenient"}):
        refused = served.client.post(
            f"/pipelines/{pipeline}/run", json={"inputs": inputs}, headers=headers
        )
        assert refused.status_code == 422, refused.text
        assert refused.json()["detail"][0]["loc"] == location
    after = hook_calls(served)
    assert after.pop("after_catalog_created") > before.pop("after_catalog_created", 0)
    assert after == before
    run = served.show(refused.headers["Kedro-Run-Id"])
    assert (run["status"], run["error"]["type"]) == ("failure", "InvalidInput")  # type: ignore[index]


@pytest.mark.once
def test_run_that_fails_is_an_error_unless_that_is_preferred(served: RunningServer) -> None:
    failed = call(served, "fail", inputs={"rows": ROWS})
    assert failed.status_code == 500
    assert failed.json()["error"] == {"type": "RuntimeError", "message": "on purpose"}
    headers = {"Prefer": "handling=lenient"}
    lenient = served.client.post(
        "/pipelines/fail/run", json={"inputs": {"rows": ROWS}}, headers=headers
    )
    assert (lenient.status_code, lenient.json()["status"]) == (200, "failure")
    assert lenient.headers["Preference-Applied"] == "handling=lenient"


@pytest.mark.once
def test_outputs_are_there_later_in_ranges_until_they_are_deleted(served: RunningServer) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": f"later-{served.url}"}
    body = {"inputs": {"rows": ROWS}, "outputs": ["multiplied"], "save": False}

    def send() -> httpx.Response:
        return served.client.post("/pipelines/multiply/run", json=body, headers=headers)

    state = served.cwd / ".kedro_server" / "data"
    before = {path.name for path in state.iterdir()} if state.exists() else set()
    accepted = send()
    assert accepted.status_code == 202
    run_id = accepted.json()["run_id"]
    assert served.show(run_id, wait=30)["status"] == "success"
    assert outputs_of(send()) == {"multiplied": [{"a": 2, "b": "x"}, {"a": 5, "b": None}]}
    listed = served.client.get(f"/runs/{run_id}/outputs").json()["outputs"]["multiplied"]
    whole = served.client.get(listed["href"])
    assert whole.headers["Content-Disposition"] == "attachment; filename=multiplied.json"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert len(whole.content) == listed["size"]
    part = served.client.get(listed["href"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, whole.content[2:5])
    same = served.client.get(listed["href"], headers={"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304
    assert served.client.get(f"/runs/{run_id}/outputs/nope").status_code == 404
    assert served.client.delete(f"/runs/{run_id}/outputs").status_code == 204
    assert served.client.get(listed["href"]).status_code == 410
    assert send().status_code == 410
    assert {path.name for path in state.iterdir()} <= before


@pytest.mark.once
def test_large_output_is_returned_by_its_address(served: RunningServer) -> None:
    text = "x" * 1_100_000
    large = outputs_of(call(served, "text", inputs={"text": text}))["text_again"]
    assert large["media_type"] == "application/json"
    assert served.client.get(large["href"]).json() == text


@pytest.mark.once
def test_small_objects_of_every_run_are_kept_and_compared(served: RunningServer) -> None:
    (served.cwd / "data" / "sales.csv").write_text("zip,day,amount\n1,2026-01-01,2\n")
    one = served.run(pipeline_names=["aggregate"])["run_id"]
    (served.cwd / "data" / "sales.csv").write_text(
        "zip,day,amount\n1,2026-01-01,2\n2,2026-01-01,2\n"
    )
    other = served.run(pipeline_names=["aggregate"])["run_id"]
    (served.cwd / "data" / "sales.csv").unlink()
    compared = served.client.get(f"/runs/{one}/compare/{other}").json()
    assert compared["outputs"] == {"metrics.rows": {"a": 1, "b": 2}}
    kept = served.client.get(f"/runs/{one}/outputs").json()["outputs"]
    versioned = served.client.get(kept["metrics"]["href"])  # of that run, and not the latest
    assert versioned.json()["rows"] == 1
    assert kept["metrics"]["value"]["rows"] == 1
    assert "by_zip" not in kept


@pytest.mark.once
def test_call_is_retried_from_its_start_with_its_data(served: RunningServer) -> None:
    failed = call(served, "fail", inputs={"rows": ROWS})
    retried = served.client.post(
        f"/runs/{failed.headers['Kedro-Run-Id']}/retry", headers={"Prefer": "wait=30"}
    )
    assert retried.status_code == 201, retried.text
    run = served.show(retried.json()["run_id"], wait=30)
    assert run["error"]["type"] == "RuntimeError"  # type: ignore[index]
    served.client.delete(f"/runs/{run['run_id']}/outputs")
    refused = served.client.post(f"/runs/{run['run_id']}/retry")
    assert refused.status_code == 409
    assert [each["type"] for each in refused.json()["detail"]] == ["data_gone"]


@pytest.mark.once
def test_client_and_shell(served: RunningServer, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, 2.5], "day": pd.to_datetime(["2026-01-01", None])})
    with Client(served.url) as client:
        called = client.call("multiply", {"rows": frame}, outputs=["multiplied"], save=False)
        assert called.outputs["multiplied"]["a"].tolist() == [3, 5]
        assert client.outputs(called.run_id)["multiplied"]["a"].tolist() == [3, 5]
        assert client.call("echo", value={"a": 1}).outputs == {"echoed": {"a": 1}}
        assert client.call("echo", value=[math.nan, np.inf]).outputs == {
            "echoed": ["NaN", "Infinity"]
        }
        same = client.call("scale", rows=frame, save=False).outputs["scaled"]
        assert same["day"].dtype.kind == "M"
        mixed = pd.DataFrame({"a": [1, "x"]})
        assert client.call("scale", rows=mixed).outputs["scaled"]["a"].tolist() == [1, "x"]
        with pytest.raises(RequestRefusedError, match="day"):
            client.call("price", order={"day": "x", "price": 1}, customer={"name": "a", "age": 1})
        with pytest.raises(RunFailedError, match="on purpose"):
            client.call("fail", rows=frame)
    given, returned = tmp_path / "in.csv", tmp_path / "out.csv"
    given.write_text("zip,day,amount\n01234,2026-01-31,2.5\n")
    options = ["--input", f"sales={given}", "--output", f"by_zip={returned}", "--no-save"]
    command = [*CLIENT, "run", "--url", served.url, "--pipelines", "aggregate", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert returned.read_text() == "zip,amount\n01234,2.5\n"


@pytest.mark.once
def test_forms_of_other_sites_are_refused(served: RunningServer) -> None:
    url = "/pipelines/multiply/run"
    for kind in ("text/plain", "multipart/form-data; boundary=x", ""):
        headers = {"Content-Type": kind} if kind else {}
        content = b"--x--\r\n"
        refused = served.client.post(url, content=content, headers=headers)
        assert refused.status_code == 403, (kind, refused.text)
        other = {**headers, "Origin": "https://evil.example"}
        assert served.client.post(url, content=content, headers=other).status_code == 403
        own = {**headers, "Origin": served.url}
        assert served.client.post(url, content=content, headers=own).status_code == 422


@pytest.mark.once
def test_nothing_that_is_sent_is_executed(served: RunningServer, tmp_path: Path) -> None:
    canary = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    bomb = pickle.dumps(Bomb())
    for pipeline, name in (("model", "model"), ("echo", "value"), ("octets", "octets")):
        for kind in (OCTETS, "application/x-pickle", "text/csv", PARQUET, ARROW):
            raw(served, pipeline, bomb, kind, input=name)
    yaml_bomb = {"type": "pickle.PickleDataset", "filepath": str(canary)}
    assert call(served, "echo", inputs={"value": yaml_bomb}).status_code == 200
    assert not canary.exists()


@pytest.mark.once
def test_hundreds_of_calls_at_once_get_their_own_data(served: RunningServer) -> None:
    def send(number: int) -> tuple[int, Any]:
        while True:
            response = httpx.post(
                f"{served.url}/pipelines/echo/run",
                json={"inputs": {"value": {"number": number}}, "save": False},
                timeout=60,
            )
            if response.status_code != 503:
                return number, outputs_of(response)

    with ThreadPoolExecutor(32) as pool:
        for number, found in pool.map(send, range(200)):
            assert found == {"echoed": {"number": number}}


KEYS = {name: create_secret() for name in ("one", "other", "admin")}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server with keys, and little room."""
    folder = tmp_path_factory.mktemp("guarded")
    scopes = {"one": ["run", "read"], "other": ["run", "read"], "admin": ["admin"]}
    entries = [
        {"name": name, "sha256": hash_secret(key.encode()), "scopes": scopes[name]}
        for name, key in KEYS.items()
    ]
    entries[1]["pipelines"] = ["echo", "text"]
    (folder / "keys.yml").write_text(yaml.safe_dump(entries))
    env = {
        "API_KEYS_FILE": str(folder / "keys.yml"),
        "MAX_DATA_BYTES": "3000000",
        "MAX_STORED_DATA_BYTES": "6000000",
        "RECEIVE_TIMEOUT_S": "1",
    }
    project = copy_project(PROJECTS / "exchanged", folder)
    variables = {f"KEDRO_SERVER_{name}": value for name, value in env.items()}
    with kedro_flask_server(project, **variables) as server:
        yield server


def with_key(name: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.mark.once
def test_data_is_seen_by_its_submitter_and_the_admin(guarded: RunningServer) -> None:
    body = {"inputs": {"value": {"a": 1}}}
    run = guarded.client.post("/pipelines/echo/run", json=body, headers=with_key("one"))
    path = f"/runs/{run.json()['run_id']}/outputs"
    for name, status in (("one", 200), ("other", 403), ("admin", 200)):
        assert guarded.client.get(path, headers=with_key(name)).status_code == status
        found = guarded.client.get(f"{path}/echoed", headers=with_key(name))
        assert found.status_code == status
    assert guarded.client.delete(path, headers=with_key("other")).status_code == 403
    forbidden = guarded.client.post("/pipelines/multiply/run", json={}, headers=with_key("other"))
    assert forbidden.status_code == 403
    seen = guarded.client.get("/openapi.json", headers=with_key("other")).json()["paths"]
    assert "/pipelines/echo/run" in seen
    assert "/pipelines/multiply/run" not in seen
    multipart = guarded.client.post(
        "/pipelines/echo/run", files={"value": ("a.json", b"[1]")}, headers=with_key("one")
    )
    assert outputs_of(multipart) == {"echoed": [1]}


@pytest.mark.once
def test_data_of_another_is_neither_run_again_nor_told(guarded: RunningServer) -> None:
    one, other = with_key("one"), with_key("other")
    sent = {"inputs": {"text": 1}}  # no text
    refused = guarded.client.post("/pipelines/text/run", json=sent, headers=one)
    assert refused.status_code == 422
    path = f"/runs/{refused.headers['Kedro-Run-Id']}"
    assert guarded.client.get(path, headers=one).json()["error"]["problems"]
    seen = guarded.client.get(path, headers=other).json()
    assert (seen["error"]["type"], seen["error"]["problems"]) == ("InvalidInput", None)
    assert seen["request"]["data"]["folder"] is None
    for method in ("GET", "POST"):
        retry = guarded.client.request(method, f"{path}/retry", headers=other)
        assert retry.status_code == 403, retry.text
    assert guarded.client.post(f"{path}/retry", headers=one).status_code == 201


@pytest.mark.once
def test_what_is_no_data_is_bounded_as_in_other_requests(guarded: RunningServer) -> None:
    def send(content: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
        sent = {**with_key("one"), "Content-Type": kind, **headers}
        return guarded.client.post("/pipelines/echo/run", content=content, headers=sent)

    data = guarded.cwd / ".kedro_server" / "data"
    before = {*data.rglob("*")}
    params = json.dumps({"params": {"x": "x" * 1_100_000}, "inputs": {"value": 1}})
    assert send(params.encode()).status_code == 413
    names = json.dumps({"inputs": {f"n{at}": 1 for at in range(100_000)}})
    refused = send(names.encode())
    assert refused.status_code == 422
    assert len(refused.content) < 5_000
    multipart = "multipart/form-data; boundary=x"
    head = b"--x\r\nContent-Disposition: form-data; name=value\r\nX: " + b"a" * 1_000_000
    assert send(head + b"\r\n\r\n1\r\n--x--\r\n", multipart).status_code == 413
    twice = b"--x\r\nContent-Disposition: form-data; name=value\r\n\r\n1\r\n"
    assert send(twice + twice + b"--x--\r\n", multipart).status_code == 422
    assert send(twice, multipart).status_code == 422  # it has no end
    assert send(b"{}", **{"Content-Encoding": "gzip"}).status_code == 415
    assert {*data.rglob("*")} == before


@pytest.mark.once
def test_data_that_explodes_fails_its_run_alone(guarded: RunningServer) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000), ["x" * 1_000_000])
    stored, stream = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"a": texts}), stored, compression="zstd", store_schema=False)
    assert len(stored.getvalue()) < 100_000
    zeros = pa.table({"a": np.zeros(100_000_000, dtype="int8")})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(stream, zeros.schema, options=options) as writer:
        writer.write_table(zeros)
    wide = ",".join(f"c{at}" for at in range(20_000)) + "\n"
    for content, kind in (
        (stored.getvalue(), PARQUET),
        (wide.encode(), CSV),
        (json.dumps([{f"c{at}": 1 for at in range(20_000)}]).encode(), "application/json"),
    ):
        headers = {**with_key("one"), "Content-Type": kind}
        url = "/pipelines/scale/run?input=rows"
        refused = guarded.client.post(url, content=content, headers=headers)
        assert refused.status_code == 422, (kind, refused.text)
        assert "more than" in refused.text or "larger than" in refused.text
    headers = {**with_key("one"), "Content-Type": ARROW}
    bomb = guarded.client.post("/pipelines/arrow/run", content=stream.getvalue(), headers=headers)
    assert bomb.status_code == 200, bomb.text
    assert "another media type" in bomb.json()["not_returned"]["table_again"]
    assert guarded.client.get("/health").status_code == 200


@pytest.mark.once
def test_data_is_bounded(guarded: RunningServer) -> None:
    headers = {**with_key("one"), "Content-Type": OCTETS}
    url = f"{guarded.url}/pipelines/octets/run"
    large = guarded.client.post(url, content=b"x" * 2_900_000, headers=headers)
    assert large.status_code == 200, large.text  # larger than max_body_bytes
    too_large = guarded.client.post(url, content=b"x" * 3_100_000, headers=headers)
    assert too_large.status_code == 413
    assert "max_data_bytes" in too_large.json()["detail"]
    # What is stored is looked up once a second.
    eventually(
        lambda: guarded.client.post(url, content=b"x" * 9, headers=headers).status_code == 507
    )
    run = guarded.client.post("/run", json={"pipeline_names": ["wait"]}, headers=with_key("one"))
    assert run.json()["status"] == "success"  # runs go on
    guarded.client.delete(f"/runs/{large.headers['Kedro-Run-Id']}/outputs", headers=with_key("one"))
    eventually(
        lambda: guarded.client.post(url, content=b"x", headers=headers).status_code == 200, 10
    )


@pytest.mark.once
def test_slow_upload_goes_on_and_a_stalled_one_is_cut_off(guarded: RunningServer) -> None:
    head = (
        f"POST /pipelines/octets/run HTTP/1.1\r\nHost: {guarded.url.removeprefix('http://')}\r\n"
        f"Authorization: Bearer {KEYS['one']}\r\nContent-Type: {OCTETS}\r\n"
        "Connection: close\r\nContent-Length: 90000\r\n\r\n"
    ).encode()
    address = ("127.0.0.1", int(guarded.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head)
        for _ in range(15):  # 30 kB/s, for 3 s with a limit of 1 s
            connection.sendall(b"x" * 6_000)
            time.sleep(0.2)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head + b"x")
        assert connection.recv(1000) == b""


@pytest.mark.once
def test_queued_call_outlives_the_server_with_its_data(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "exchanged", tmp_path)
    with kedro_flask_server(project, KEDRO_SERVER_WORKERS="1") as server:
        server.submit(pipeline_names=["wait"], params={"seconds": 100})
        headers = {"Prefer": "respond-async"}
        body = {"inputs": {"value": {"a": 1}}}
        accepted = server.client.post("/pipelines/echo/run", json=body, headers=headers)
        assert accepted.json()["status"] == "queued"
        server.stop(signal.SIGKILL)
    with kedro_flask_server(project, KEDRO_SERVER_WORKERS="1") as server:
        run_id = accepted.json()["run_id"]
        assert server.show(run_id, wait=60)["status"] == "success"
        assert server.client.get(f"/runs/{run_id}/outputs/echoed").json() == {"a": 1}


@pytest.mark.once
def test_data_elsewhere_goes_in_and_out(tmp_path: Path) -> None:
    project = copy_project(PROJECTS / "exchanged", tmp_path)
    refused = refused_start(project, KEDRO_SERVER_DATA_URL="memory://data")
    assert refused.returncode == 1
    assert "data_url" in refused.stderr
    env = {"KEDRO_SERVER_DATA_URL": "memory://data", "KEDRO_SERVER_EXECUTOR": "threads"}
    with kedro_flask_server(project, **env) as server:
        sent = b"zip,day,amount\n01234,2026-01-31,2.5\n"
        found = outputs_of(raw(server, "aggregate", sent, CSV, input="sales"))
        assert found["by_zip"] == [{"zip": "01234", "amount": 2.5}]
        [run] = server.all_runs()
        listed = server.client.get(f"/runs/{run['run_id']}/outputs").json()["outputs"]
        part = server.client.get(listed["by_zip"]["href"], headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, b"[{")
        assert not (project / ".kedro_server" / "data").exists()
