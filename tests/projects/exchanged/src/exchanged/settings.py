"""Settings of the project."""

from exchanged.hooks import Recorded

HOOKS = (Recorded(),)
