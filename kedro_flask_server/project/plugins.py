"""What is known of plugins: whether their hooks bear several runs in one process."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from kedro.framework.project import settings

logger = logging.getLogger(__name__)

# Their hooks keep what belongs to one run in themselves: seen in kedro-mlflow 2.0, every run of
# which fails after the first, and in kedro-viz 12.5, which writes one run's events into another's.
_WITH_STATE = ("kedro-mlflow", "kedro-viz")


def warn_of_plugins_with_state() -> None:
    """Say in the log which plugins need a process for each run."""
    points = entry_points(group="kedro.hooks")
    found = {point.dist.name.replace("_", "-") for point in points if point.dist}
    found -= {name.replace("_", "-") for name in settings.DISABLE_HOOKS_FOR_PLUGINS}
    for name in sorted(found.intersection(_WITH_STATE)):
        logger.warning(
            "The hooks of %s keep the state of a run, and runs in threads share them: runs fail, "
            "or are mixed up. Use --executor processes, or name it in DISABLE_HOOKS_FOR_PLUGINS "
            "in settings.py.",
            name,
        )
