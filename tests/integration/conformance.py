"""Requests whose answers must be those of Kedro's own server, and where they are not."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request, and what is special about its answer."""

    name: str
    method: str = "POST"
    path: str = "/run"
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An answer that is not Kedro's, on purpose."""

    reason: str
    status: int
    says: str


def _run(name: str, body: Any, **headers: str) -> Exchange:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(name=f"run {name}", body=content, headers=JSON | headers)


def _get(name: str, path: str, method: str = "GET") -> Exchange:
    return Exchange(name=name, path=path, method=method)


ROUTING = [
    _get("health", "/health"),
    _get("health with a query", "/health?x=1&x=2"),
    _get("unknown path", "/nope"),
    _get("root", "/"),
    _get("case matters", "/Health"),
    _get("double slash", "//health"),
    _get("deeper", "/run/x"),
    *(_get(f"{method} health", "/health", method) for method in ("POST", "PUT", "DELETE", "PATCH")),
    *(_get(f"{method} run", "/run", method) for method in ("GET", "PUT", "DELETE", "PATCH")),
    _get("DELETE snapshot", "/snapshot", "DELETE"),
    _get("POST docs", "/docs", "POST"),
    _get("POST openapi", "/openapi.json", "POST"),
    _get("health with a slash", "/health/"),
    _get("health with a slash and a query", "/health/?a=b%20c&d"),
    _get("run with a slash", "/run/", "POST"),
    _get("wrong method with a slash", "/run/", "GET"),
    _get("snapshot with a slash", "/snapshot/?params=a=1"),
    _get("unknown path with a slash", "/nope/"),
]

SNAPSHOTS = [
    _get("snapshot", "/snapshot"),
    *(
        _get(f"snapshot {query}", f"/snapshot?{query}")
        for query in (
            "params=",
            "params=,,",
            "params=tag=x",
            "params=tag%3Dx%2Cnested.tag%3Dy",
            "params=version=02,model.lr=0.01",
            "params=foo",
            "params==x",
            "params=a=1,2",
            "params=tag=[1",
            "params=a=b=c",
            "params=foo&params=tag=x",
            "params=tag=x&params=foo",
            "params=tag=%20",
            "params=%ff",
            "params=tag=%F0%9F%98%80",
            "other=1",
            "params",
        )
    ),
]

_LISTS = (
    "from_inputs",
    "to_outputs",
    "from_nodes",
    "to_nodes",
    "node_names",
    "tags",
    "pipeline_names",
    "namespaces",
)
_WRONG_LISTS: list[Any] = [
    "one",
    1,
    10**400,
    1.5,
    True,
    {},
    {"a": 1},
    [1],
    ["a", None],
    [["a"]],
    [True, 2],
]
_BOOLS: list[Any] = [
    *(True, False, 1, 0, 1.0, 0.0, "true", "FALSE", "Yes", "nO", "on", "OFF", "t", "F", "y", "N"),
    *("1", "0", None, [], {}, [True], 1.5, 2, -1, 2.0, -0.0, 2**63 - 1, 2**63, 2**70, -(2**63)),
    *(-(2**64), 1e300, "", " true", "true ", "2", "tru", "\u0131"),
]
_RUNNERS: list[Any] = [
    *(None, "SequentialRunner", "ThreadRunner", "kedro.runner.SequentialRunner"),
    *("kedro.runner.thread_runner.ThreadRunner", "probe.runners.OwnRunner", "NoSuchRunner"),
    *("permitted_runners.Runner", "forbidden_runners.Runner", "probe.nope.Runner", "os.system"),
    *("probe.runners.NoRunner", "probe.runners.instance", "probe.runners.AbstractOwnRunner"),
    *("probe.runners.Nope", "AbstractRunner", "kedro.runnerx.Runner", "kedro.io.MemoryDataset"),
    *("probers.Runner", "", ".", "a.", ".a", "a..b", "1a", "a b", "a-b", "a\n", "Runner()", "é"),
    *("a.b\n", "SequentialRunner\n", "\u0661a", "_", "__import__", 1, 1.5, True, [], {}, ["a"]),
]

FIELDS = [
    *(_run(f"{name} null", {name: None, "tags": ["no_such_tag"]}) for name in _LISTS),
    *(
        _run(f"{name} empty", {"pipeline_names": ["twenty"], "from_nodes": ["nope"], name: []})
        for name in _LISTS
    ),
    *(
        _run(f"{name} {json.dumps(value)}", {name: value})
        for name, value in itertools.product(_LISTS, _WRONG_LISTS)
    ),
    *(
        _run(f"{name} {json.dumps(value)}", {"pipeline_names": ["twenty"], name: value})
        for name, value in itertools.product(("is_async", "only_missing_outputs"), _BOOLS)
    ),
    *(
        _run(f"runner {json.dumps(value)}", {"pipeline_names": ["wide"], "runner": value})
        for value in _RUNNERS
    ),
    *(
        _run(f"load_versions {json.dumps(value)}", {"load_versions": value})
        for value in ("a", 1, [], ["a"], True, {"a": 1}, {"a": None}, {"a": ["b"]}, {"value": 1})
    ),
    *(_run(f"params {json.dumps(value)}", {"params": value}) for value in ("a", 1, [], [1], True)),
    _run("load_versions null", {"pipeline_names": ["twenty"], "load_versions": None}),
    _run("params null", {"pipeline_names": ["twenty"], "params": None}),
    _run("params NaN", b'{"pipeline_names": ["twenty"], "params": {"a": NaN, "b": -Infinity}}'),
    _run("params nested", {"pipeline_names": ["twenty"], "params": {"nested": {"a": [1, None]}}}),
    *(
        _run(f"{name} a number of 401 digits", {name: 10**400})
        for name in ("tags", "is_async", "runner", "load_versions", "params", "nope")
    ),
    _run("unknown field", {"nope": 1}),
    _run("env is no field", {"env": "prod", "conf_source": "conf"}),
    _run("two unknown and one wrong", {"a": 1, "b": [], "tags": 1}),
    _run("a strange unknown name", {"_schema": 1, "": 2, "0": 3}),
    _run("everything wrong", dict.fromkeys(_LISTS, 1.5) | {"runner": 1, "is_async": None}),
]

BODIES = [
    Exchange(name="no body"),
    Exchange(name="empty body", body=b"", headers=JSON),
    Exchange(name="empty body of no type", body=b"", headers={"Content-Type": "text/plain"}),
    _run("null", b"null"),
    _run("a list", []),
    _run("a string", "run"),
    _run("a number", 1),
    _run("true", True),
    _run("white space", b"  \n"),
    _run("broken", b"{"),
    _run("broken later", b'{"tags": ["a", ]}'),
    _run("two values", b"{} {}"),
    _run("single quotes", b"{'tags': []}"),
    _run("not UTF-8", b'{"tags": ["\xff\xfe"]}'),
    _run("a BOM", b'\xef\xbb\xbf{"nope": 1}'),
    _run("UTF-16", '{"nope": 1}'.encode("utf-16")),
    _run("deep", b'{"params":' + b'{"a":' * 3000 + b"1" + b"}" * 3001),
    _run("very deep", b"[" * 100_000),
    _run("5,000 digits", b'{"params":{"a":' + b"1" * 5000 + b"}}"),
    _run("duplicate keys", b'{"tags": 1, "tags": ["no_such_tag"]}'),
    _run("an escaped lone surrogate", b'{"tags": "\\ud800"}'),
    _run("a NUL", {"node_names": ["\0"]}),
    *(
        Exchange(name=f"content type {kind}", body=b'{"nope": 1}', headers={"Content-Type": kind})
        for kind in (
            "application/json; charset=utf-8",
            "APPLICATION/JSON",
            "application/json;charset=latin-1",
            "application/vnd.kedro+json",
            "application/problem+JSON; a=b",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "application/xml",
            "json",
            "*/*",
        )
    ),
]

RUNS = [
    _run("a pipeline", {"pipeline_names": ["twenty"]}),
    _run("two pipelines", {"pipeline_names": ["twenty", "wide"]}),
    _run("an unknown pipeline", {"pipeline_names": ["nope"]}),
    _run("an unknown node", {"node_names": ["nope"]}),
    _run("nodes", {"pipeline_names": ["twenty"], "node_names": ["step_0", "step_1"]}),
    _run("from a node", {"pipeline_names": ["twenty"], "from_nodes": ["step_3"]}),
    _run("to a node", {"pipeline_names": ["twenty"], "to_nodes": ["step_3"]}),
    _run("to an output", {"pipeline_names": ["twenty"], "to_outputs": ["step_2"]}),
    _run("from an input", {"pipeline_names": ["twenty"], "from_inputs": ["step_2"]}),
    _run("from an unknown input", {"from_inputs": ["nope"]}),
    _run("a tag", {"pipeline_names": ["spaced"], "tags": ["spaced"]}),
    _run("an unknown tag", {"tags": ["nope"]}),
    _run("a namespace", {"pipeline_names": ["spaced"], "namespaces": ["space"]}),
    _run("an unknown namespace", {"namespaces": ["nope"]}),
    _run("a run that fails", {"pipeline_names": ["fail"]}),
    _run("a message with a URL", {"pipeline_names": ["fail"], "params": {"what": "url"}}),
    _run("a place with a password", {"pipeline_names": ["secret"]}),
    _run(
        "a chosen type", {"pipeline_names": ["chosen"], "params": {"type": "pickle.PickleDataset"}}
    ),
    _run("a nested run parameter", {"pipeline_names": ["where"], "params": {"where": {"a": 1}}}),
    _run("unreadable interpolation", {"pipeline_names": ["twenty"], "params": {"a": "${"}}),
    _run(
        "a version that is not there",
        {"pipeline_names": ["versioned"], "load_versions": {"versioned": "x"}},
    ),
    _run(
        "a version of an unknown dataset", {"load_versions": {"nope": "2024-01-01T00.00.00.000Z"}}
    ),
    _run("only missing outputs", {"pipeline_names": ["where"], "only_missing_outputs": True}),
    _run("async loading", {"pipeline_names": ["twenty"], "is_async": True}),
]

EXCHANGES = {each.name: each for each in [*ROUTING, *SNAPSHOTS, *FIELDS, *BODIES, *RUNS]}

_RUNNER = "the contract's form of a runner is the whole string; Kedro lets a final line feed pass"

DIFFERENCES = {
    "double slash": Difference(
        reason="waitress takes several leading slashes for one; Kedro answers 404",
        status=200,
        says='"healthy"',
    ),
    "snapshot params=tag=[1": Difference(
        reason="Kedro answers 500", status=200, says='"ValueError"'
    ),
    "run an escaped lone surrogate": Difference(
        reason="Kedro answers 500", status=422, says='"list_type"'
    ),
    "run unreadable interpolation": Difference(
        reason="OmegaConf would resolve it", status=422, says='"params","a"'
    ),
    'run runner "a\\n"': Difference(reason=_RUNNER, status=422, says='"value_error"'),
    'run runner "a.b\\n"': Difference(reason=_RUNNER, status=422, says='"value_error"'),
    'run runner "SequentialRunner\\n"': Difference(
        reason=_RUNNER, status=422, says='"value_error"'
    ),
}
"""By exchange: what ours answers, and why it is not what Kedro answers."""
