"""A module with a runner outside the project's package."""

import os
from pathlib import Path

from kedro.runner import SequentialRunner

if os.environ.get("PROBE_IMPORTED"):
    Path(os.environ["PROBE_IMPORTED"], "forbidden_runners").touch()


class Runner(SequentialRunner):
    """A runner."""
