"""The data preparation pipeline."""

from kedro.pipeline import Node, Pipeline

from breast_cancer.pipelines.data_preparation.nodes import load_measurements, split


def create_pipeline() -> Pipeline:
    """Return the pipeline."""
    return Pipeline(
        [
            Node(load_measurements, None, "measurements", name="load_measurements", tags="data"),
            Node(
                split,
                ["measurements", "params:test_fraction", "params:seed"],
                ["train_features", "train_target", "test_features", "test_target"],
                name="split",
                tags="data",
            ),
        ]
    )
