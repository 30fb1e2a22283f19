"""Tells which tumours are malignant, by the trained forest."""

from breast_cancer.pipelines.inference.pipeline import create_pipeline

__all__ = ["create_pipeline"]
