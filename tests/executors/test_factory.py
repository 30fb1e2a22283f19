"""Which executor the settings name, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.executors.factory import ExecutorParts, create_executor
from kedro_flask_server.executors.processes import ProcessExecutor
from kedro_flask_server.executors.threads import ThreadExecutor
from kedro_flask_server.model.executors import EXECUTORS, PROCESSES, THREADS
from kedro_flask_server.workers.protocol import WorkerSettings
from tests.workers.fakes import SETTINGS


class FakeProject:
    """A project that takes down for what it is prepared."""

    def __init__(self) -> None:
        self.log_formats: list[str] = []

    def prepare_for_threads(self, *, log_format: str, revision: str | None) -> None:
        self.log_formats.append(log_format)

    def safe_text(self, text: str) -> str:
        return text


class Asked:
    """Says what workers have to know, and counts how often it is asked."""

    times = 0

    def __call__(self) -> WorkerSettings:
        self.times += 1
        return SETTINGS


def parts(executor: str, project: FakeProject, settings: Asked) -> ExecutorParts:
    config = ServerConfig(project_path=Path(), executor=executor, log_format="json")
    return ExecutorParts(project=project, config=config, worker_settings=settings)


def test_threads_are_made_of_the_project_alone() -> None:
    project, settings = FakeProject(), Asked()
    executor = create_executor(parts(THREADS.name, project, settings))
    assert isinstance(executor, ThreadExecutor)
    assert (project.log_formats, settings.times) == (["json"], 0)


def test_processes_are_given_the_settings_and_leave_the_project_alone() -> None:
    project, settings = FakeProject(), Asked()
    executor = create_executor(parts(PROCESSES.name, project, settings))
    assert isinstance(executor, ProcessExecutor)
    assert (project.log_formats, settings.times) == ([], 1)


@pytest.mark.parametrize("name", [each.name for each in EXECUTORS])
def test_every_executor_that_can_be_set_can_be_made(name: str) -> None:
    made = create_executor(parts(name, FakeProject(), Asked()))
    assert isinstance(made, (ProcessExecutor, ThreadExecutor))
