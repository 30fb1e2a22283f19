"""The probe's pipelines."""

import os
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from probe import nodes


def _one(function, inputs, outputs, name=None, **options) -> Pipeline:
    return Pipeline([Node(function, inputs, outputs, name=name or function.__name__, **options)])


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    if os.environ.get("PROBE_BROKEN") and Path(os.environ["PROBE_BROKEN"]).exists():
        exec(Path(os.environ["PROBE_BROKEN"]).read_text())
    twenty = [Node(nodes.start, "params:tag", "step_0", name="step_0")]
    twenty += [
        Node(nodes.step, f"step_{i}", f"step_{i + 1}", name=f"step_{i + 1}") for i in range(19)
    ]
    slow = [Node(nodes.start, "params:tag", "slow_0", name="slow_0")]
    slow += [
        Node(
            nodes.sleep_on,
            [f"slow_{i}", "params:seconds"],
            f"slow_{i + 1}",
            name=f"slow_{i + 1}",
        )
        for i in range(9)
    ]
    wide = [
        Node(nodes.tag_with, ["params:tag", f"params:{name}"], f"wide_{name}", name=f"wide_{name}")
        for name in ("where", "what")
    ]
    talk = [Node(nodes.talk, "params:tag", f"talk_{i}", name=f"talk_{i}") for i in range(6)]
    return {
        "__default__": _one(nodes.echo, ["params:tag", "params:nested"], "echo", tags=["one"]),
        "versioned": _one(nodes.start, "params:tag", "versioned", name="save_version"),
        "fail": _one(nodes.fail, "params:what", None),
        "log": _one(nodes.log_strangely, "params:what", "logged"),
        "sleep": _one(nodes.sleep, "params:seconds", None),
        "cpu": _one(nodes.count, "params:loops", "counted"),
        "chosen": _one(nodes.start, "params:tag", "chosen", name="choose"),
        "one": _one(nodes.start, "params:tag", "started", name="start"),
        "where": _one(nodes.write_where, "params:where", "stored_a"),
        "secret": _one(nodes.start, "params:tag", "secret_place", name="save_secretly"),
        "twenty": Pipeline(twenty),
        "slow": Pipeline(slow),
        "mark": _one(nodes.mark, ["params:tag", "params:seconds"], None),
        "hold": _one(nodes.hold_python, ["params:tag", "params:seconds"], None),
        "no_file": _one(nodes.step, "no_such_file", "stepped", name="read_no_file"),
        "wide": Pipeline(wide),
        "talk": Pipeline(talk),
        "chat": _one(nodes.chat, "params:loops", None),
        "forge": _one(nodes.forge, "params:what", None),
        "crash": _one(nodes.crash, "params:what", None),
        "cling": _one(nodes.cling, ["params:tag", "params:ways"], "left_running"),
        "leave": _one(nodes.leave, "params:tag", "echo"),
        "speak": _one(nodes.speak, "params:tag", None),
        "shout": _one(nodes.shout, "params:tag", None),
        "memory": _one(nodes.take_memory, "params:megabytes", "taken"),
        "execute": _one(nodes.execute, "params:what", None),
        "linger": _one(nodes.linger, ["params:tag", "params:seconds"], None),
        "spaced": Pipeline(
            [Node(nodes.start, "tag_in", "stored_b", name="in_space")],
            namespace="space",
            inputs={"tag_in": "params:tag"},
            outputs={"stored_b"},
            tags=["spaced"],
        ),
    }
