"""A dataset that is in parts while it is written, and one of which nobody knows where it lies."""

from __future__ import annotations

import json
import time
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, AbstractVersionedDataset
from kedro.io.core import Version

_PAUSE_S = 0.01


class SlowJSONDataset(AbstractVersionedDataset[Any, Any]):
    """JSON, of which the second half comes later than the first."""

    def __init__(self, filepath: str, version: Version | None = None, **_: Any) -> None:
        super().__init__(PurePosixPath(filepath), version)

    def load(self) -> Any:
        return json.loads(Path(self._get_load_path()).read_text())

    def save(self, data: Any) -> None:
        path, text = Path(self._get_save_path()), json.dumps(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            time.sleep(_PAUSE_S)
            file.write(text[len(text) // 2 :])

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


class SomewhereDataset(AbstractDataset[Any, Any]):
    """Data that comes from a place which the catalog does not name."""

    def __init__(self, query: str) -> None:
        self._query = query

    def load(self) -> Any:
        return self._query

    def save(self, data: Any) -> None:
        pass

    def _describe(self) -> dict[str, Any]:
        return {}
