"""A dataset that tells which run its configuration came from."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset


class TaggedDataset(AbstractDataset[dict, dict]):
    """Saves what it is given with the tags of its own arguments and credentials."""

    def __init__(self, filepath: str, tag: str, credentials: dict[str, str]) -> None:
        self._filepath = Path(filepath)
        self._tag = tag
        self._credentials = credentials

    def load(self) -> dict:
        return json.loads(self._filepath.read_text())

    def save(self, data: dict) -> None:
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        tags = {"argument": self._tag, "credential": self._credentials["tag"]}
        with self._filepath.open("x") as file:  # a run that writes twice, or to another's, fails
            json.dump({**data, **tags}, file)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
