"""The inference pipeline: its samples come with a request."""

from kedro.pipeline import Node, Pipeline

from breast_cancer.pipelines.inference.nodes import predict


def create_pipeline() -> Pipeline:
    """Return the pipeline."""
    return Pipeline(
        [Node(predict, ["model", "samples"], "predictions", name="predict")],
        namespace="forest",
        inputs={"samples"},
        outputs={"predictions"},
    )
