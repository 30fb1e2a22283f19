"""The evaluation pipeline."""

from kedro.pipeline import Node, Pipeline

from breast_cancer.pipelines.evaluation.nodes import pick, score


def create_pipeline() -> Pipeline:
    """Return the pipeline."""
    score_model = Pipeline(
        [Node(score, ["model", "test_features", "test_target"], "metrics", name="score")]
    )
    scores = [
        Pipeline(
            score_model,
            namespace=name,
            inputs={"test_features", "test_target"},
            outputs={"metrics": f"{name}_metrics"},
            tags="evaluation",
        )
        for name in ("forest", "linear")
    ]
    better = Pipeline(
        [Node(pick, ["forest_metrics", "linear_metrics"], "best_model", name="pick")],
        tags="evaluation",
    )
    return sum(scores, better)
