"""Takes the data from scikit-learn and splits it."""

from breast_cancer.pipelines.data_preparation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
