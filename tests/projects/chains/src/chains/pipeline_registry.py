"""Long chains of nodes that do nothing, and nodes that say much."""

import logging
from itertools import pairwise

from kedro.pipeline import Node, Pipeline

LENGTHS = (1, 20, 100, 1000)

logger = logging.getLogger(__name__)


def step(value):
    return value


def log_lines(tag, lines):
    for number in range(int(lines)):
        logger.info("line %06d of %s", number, tag)


def print_lines(tag, lines):
    for number in range(int(lines)):
        print(f"line {number:06d} of {tag}")


def _chain(length: int) -> Pipeline:
    names = ["params:tag", *(f"step_{number}" for number in range(length))]
    return Pipeline([Node(step, *pair, name=pair[1]) for pair in pairwise(names)])


def _one(function) -> Pipeline:
    return Pipeline([Node(function, ["params:tag", "params:lines"], None, name=function.__name__)])


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    chains = {f"chain_{length}": _chain(length) for length in LENGTHS}
    return chains | {"log": _one(log_lines), "print": _one(print_lines), "__default__": _chain(1)}
