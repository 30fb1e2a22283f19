"""Trains a forest and a linear model."""

from breast_cancer.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
