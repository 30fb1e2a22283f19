"""Kedro's side of the server: no other package imports Kedro to run or inspect a project."""

from __future__ import annotations

from kedro_flask_server.project.kedro_project import KedroProject, watched_paths
from kedro_flask_server.project.prepared_pipeline import PreparedPipeline
from kedro_flask_server.project.warmup import warm_up

__all__ = ["KedroProject", "PreparedPipeline", "warm_up", "watched_paths"]
