"""Runners of the project's own, and things that are none."""

from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner


class OwnRunner(SequentialRunner):
    """A runner of the project's own."""


class OwnParallelRunner(ParallelRunner):
    """A parallel runner of the project's own."""


class AbstractOwnRunner(AbstractRunner):
    """A runner that leaves out what a runner must do."""


class NoRunner:
    """No runner at all."""


instance = SequentialRunner()
