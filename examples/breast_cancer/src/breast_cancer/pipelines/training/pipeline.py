"""The training pipeline: a node for each model, in a namespace of its own."""

from kedro.pipeline import Node, Pipeline

from breast_cancer.pipelines.training.nodes import train_forest, train_linear

SHARED = {"train_features", "train_target"}


def create_pipeline() -> Pipeline:
    """Return the pipeline."""
    forest = Pipeline(
        [
            Node(
                train_forest,
                ["train_features", "train_target", "params:forest.trees", "params:seed"],
                "model",
                name="train",
            )
        ],
        namespace="forest",
        inputs=SHARED,
        parameters={"forest.trees", "seed"},
        tags="training",
    )
    linear = Pipeline(
        [
            Node(
                train_linear,
                ["train_features", "train_target", "params:linear.strength"],
                "model",
                name="train",
            )
        ],
        namespace="linear",
        inputs=SHARED,
        parameters={"linear.strength"},
        tags="training",
    )
    return forest + linear
