"""The pipelines: trainings of versioned and of plain files, and what answers with them."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node

from served_models import nodes

TAG, SECONDS, FAILS = "params:tag", "params:seconds", "params:fails"


def register_pipelines() -> dict[str, Pipeline]:
    made = {}
    for prefix in ("", "plain_"):
        model, scaler = f"{prefix}model", f"{prefix}scaler"
        made[f"{prefix}training"] = Pipeline(
            [
                node(nodes.scale, TAG, scaler, name="scale"),
                node(nodes.fit, [scaler, SECONDS, FAILS], model, name="fit"),
            ]
        )
        made[f"{prefix}inference"] = Pipeline(
            [node(nodes.predict, [model, scaler, "rows"], "answer", name="predict")]
        )
    made["weighing"] = Pipeline(
        [node(nodes.weigh, ["params:bias", "rows"], "weighed", name="weigh")]
    )
    made["looking_up"] = Pipeline(
        [node(nodes.look_up, ["lookup", "rows"], "named", name="look_up")]
    )
    made["__default__"] = made["training"]
    return made
