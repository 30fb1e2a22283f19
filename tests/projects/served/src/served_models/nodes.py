"""Nodes that train, and that answer in the ways that a request asks for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def scale(tag: int) -> dict[str, int]:
    """Return the scaler of a training."""
    return {"tag": tag}


def fit(scaler: dict[str, int], seconds: float, fails: bool) -> dict[str, Any]:
    """Return the model of a training, some time after its scaler."""
    time.sleep(seconds)
    if fails:
        raise ValueError("the training failed")
    return {"tag": scaler["tag"], "seen": []}


def predict(model: dict[str, Any], scaler: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """Answer with the tags of both, as the first row asks."""
    wanted = rows[0] if rows else {}
    act(wanted, model)
    answer = [{**row, "model": model["tag"], "scaler": scaler["tag"]} for row in rows]
    if wanted.get("large"):
        answer[0]["text"] = "x" * int(wanted["large"])
    return answer


def weigh(bias: float, rows: list[dict[str, Any]]) -> Any:
    """Answer with a parameter."""
    return [{**row, "bias": bias, "pid": os.getpid()} for row in rows]


def look_up(lookup: Any, rows: list[dict[str, Any]]) -> Any:
    """Answer with what a table says of each row."""
    found = lookup.set_index("x")["name"].to_dict()
    return [{**row, "name": found[row["x"]]} for row in rows]


def act(wanted: dict[str, Any], model: dict[str, Any]) -> None:
    """Do what a row asks for."""
    what = wanted.get("do")
    if what == "crash":
        os._exit(3)
    elif what == "fail":
        raise ValueError("no")
    elif what == "fail_once" and not Path("data/failed").exists():
        Path("data/failed").touch()
        raise ValueError("not yet")
    elif what == "sleep":
        Path("data/sleeping").touch()
        time.sleep(float(wanted["seconds"]))
        Path("data/slept").touch()
    elif what == "change":
        model["seen"].append(1)
