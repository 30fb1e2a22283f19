"""What Kedro does in the first run of a process alone, done before there is a run.

A process that is forked afterwards need not do it again. Nothing of the project's is called.
It comes last: whatever changes the filters of warnings has every warning given again.
"""

from __future__ import annotations

import importlib
import tempfile
from contextlib import suppress
from pathlib import Path

from kedro.config import OmegaConfigLoader

from kedro_flask_server.project.config_loader import isolated

# MemoryDataset looks for pandas, and the parameters for pydantic, whether the project uses them
# or not.
_IMPORTED_BY_KEDRO = ("pandas", "pydantic.main")

# OmegaConf's parser learns its grammar from what it reads.
_CONFIGURATION = {
    "globals": "word: text\nnested: {number: 1}\n",
    "parameters": "{}",
    "credentials": "key: ${oc.env:PATH}\n",
    "catalog": """
_folder: data/${globals:word}
_type: pickle.PickleDataset
one:
  type: ${_type}
  filepath: ${_folder}/${runtime_params:tag, ${globals:nested.number}}/one-${globals:word}.pkl
  save_args: {key: "${globals:missing, null}", path: "${..filepath}"}
"{name}#csv":
  type: pandas.CSVDataset
  filepath: data/{name}.csv
""",
}


def warm_up() -> None:
    """Import what Kedro imports later on, and have it read a configuration."""
    for name in _IMPORTED_BY_KEDRO:
        with suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        base.mkdir()
        for name, text in _CONFIGURATION.items():
            (base / f"{name}.yml").write_text(text)
        loader = isolated(OmegaConfigLoader)(
            folder, base_env="base", default_run_env="base", runtime_params={"tag": "a-1"}
        )
        with suppress(Exception):  # another Kedro, which reads it in another way
            for name in _CONFIGURATION:
                loader[name]
