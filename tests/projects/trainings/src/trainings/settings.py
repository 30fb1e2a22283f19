"""The settings of the project."""

from trainings.hooks import Mover

HOOKS = (Mover(),)
