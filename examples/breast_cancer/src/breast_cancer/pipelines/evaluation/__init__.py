"""Scores the models and picks the better one."""

from breast_cancer.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
