"""The pipelines: each training and evaluation once with files, once with versions."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node

from trainings import nodes

TAG, SECONDS = "params:tag", "params:seconds"


def register_pipelines() -> dict[str, Pipeline]:
    made = {}
    for name, suffix in (("", ""), ("versioned_", "_versions")):
        a, b = ([f"{side}_{part}{suffix}" for part in ("model", "scaler")] for side in "ab")
        made |= {
            f"{name}seed": Pipeline([node(nodes.seed, None, [*a, *b], name="seed")]),
            f"{name}train_a": Pipeline([node(nodes.train, [TAG, SECONDS, *b], a, name="train_a")]),
            f"{name}train_b": Pipeline([node(nodes.train, [TAG, SECONDS, *a], b, name="train_b")]),
            f"{name}evaluate": Pipeline(
                [node(nodes.evaluate, [*a, *b], "outcome", name="evaluate")]
            ),
        }
    # Reads in a second node what the first has written.
    made["versioned_both"] = Pipeline(
        [
            node(nodes.train, [TAG, SECONDS, *b], a, name="train"),
            node(nodes.evaluate, [*a, *b], "outcome", name="evaluate"),
        ]
    )
    made["report"] = Pipeline([node(nodes.sleep, [SECONDS, TAG], "report", name="report")])
    made["summarize"] = Pipeline([node(nodes.summarize, "reports", "summary", name="summarize")])
    made["move"] = Pipeline([node(nodes.sleep, [SECONDS, TAG], "moved", name="move")])
    made["query"] = Pipeline([node(nodes.pass_on, "queried", "answer", name="query")])
    made["idle"] = Pipeline([node(nodes.sleep, [SECONDS, TAG], "nothing", name="idle")])
    made["flights"] = Pipeline(
        [
            node(nodes.preprocess, SECONDS, "companies_table", name="companies"),
            node(nodes.preprocess, SECONDS, "shuttles_table", name="shuttles"),
            node(nodes.join, ["companies_table", "shuttles_table"], "input_table", name="join"),
            node(nodes.fit, "input_table", "regressor", name="fit"),
            node(nodes.score, ["regressor", "input_table"], "error", name="score"),
        ]
    )
    made["__default__"] = made["flights"]
    return made
