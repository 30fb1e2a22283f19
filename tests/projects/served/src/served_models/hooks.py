"""Records which hooks are called, in a file beside the data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl


class Recorder:
    """Appends a line for each call: its hook, the run, and the process."""

    def _record(self, *words: object) -> None:
        with (Path("data") / "hooks.txt").open("a") as file:
            file.write(" ".join(map(str, (*words, os.getpid()))) + "\n")

    @hook_impl
    def after_context_created(self) -> None:
        self._record("after_context_created")

    @hook_impl
    def after_catalog_created(self) -> None:
        self._record("after_catalog_created")

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        self._record("before_pipeline_run", run_params["run_id"])

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        self._record("after_pipeline_run", run_params["run_id"])

    @hook_impl
    def on_pipeline_error(self, run_params: dict[str, Any]) -> None:
        self._record("on_pipeline_error", run_params["run_id"])

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        self._record("before_node_run", node.name)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str) -> None:
        self._record("after_dataset_loaded", dataset_name)
