"""Pipelines for pages: a training that stops half-way, namespaces, text that looks like markup."""

import logging
import time
from itertools import pairwise
from pathlib import Path

from kedro.pipeline import Node, Pipeline

logger = logging.getLogger(__name__)

MARKUP = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"


def load(rows):
    return list(range(rows))


def split(rows, options):
    logger.info("splitting %d rows", len(rows))
    if not 0 < options["share"] < 1:
        raise ValueError(f"share is {options['share']}, and should be between 0 and 1")
    at = int(len(rows) * options["share"])
    return rows[:at], rows[at:]


def train(rows, gate):
    logger.info("training on %d rows", len(rows))
    while gate and not Path(gate).exists():  # a test lets it go on
        time.sleep(0.01)
    return {"weight": sum(rows)}


def score(model, rows):
    return {"score": model["weight"] / max(len(rows), 1)}


def log_markup(text):
    logger.warning("%s and %s and \x1b[31mred\x1b[0m", MARKUP, text)
    raise ValueError(MARKUP)


def step(value):
    return value


def _namespaced(name: str, nodes: int) -> Pipeline:
    names = [f"step_{number}" for number in range(nodes + 1)]
    chain = [Node(step, *pair, name=pair[1]) for pair in pairwise(names)]
    return Pipeline(chain, namespace=name, inputs={"step_0": "params:tag"})


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    training = Pipeline(
        [
            Node(load, "params:rows", "rows", name="load"),
            Node(split, ["rows", "params:options"], ["fitted", "held_out"], name="split", tags="a"),
            Node(train, ["fitted", "params:gate"], "model", name="train"),
            Node(score, ["model", "held_out"], "score", name="score"),
        ]
    )
    namespaced = sum((_namespaced(f"part_{n}", 60) for n in range(4)), Pipeline([]))
    return {
        "__default__": training,
        "training": training,
        "scoring": Pipeline([Node(score, ["model", "given_rows"], "score", name="score")]),
        "markup": Pipeline([Node(log_markup, "params:text", None, name="log_markup")]),
        "namespaced": namespaced,
    }
