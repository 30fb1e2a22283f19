"""The settings of the project."""

from served_models.hooks import Recorder

HOOKS = (Recorder(),)
