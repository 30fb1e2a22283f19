"""Kedro's side of the server: no other package imports Kedro to run or inspect a project."""

from __future__ import annotations

from kedro_flask_server.project.kedro_project import KedroProject, watched_paths
from kedro_flask_server.project.warmup import warm_up

__all__ = ["KedroProject", "warm_up", "watched_paths"]
