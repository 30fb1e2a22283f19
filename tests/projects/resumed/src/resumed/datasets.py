"""A dataset that may end its process right after it has saved."""

from pathlib import Path

from kedro_datasets.json import JSONDataset

from resumed.ends import obey


class EndingJSONDataset(JSONDataset):
    """A JSON file."""

    def save(self, data):
        """Save, and obey."""
        super().save(data)
        obey(f"save:{self._filepath.stem}")


class AppendedDataset(EndingJSONDataset):
    """A text to which each save adds a line."""

    def __init__(self, *, mode, **options):
        super().__init__(**options)
        self._mode = mode

    def save(self, data):
        """Add a line."""
        with Path(self._filepath).open(self._mode) as file:
            file.write(f"{data}\n")
        obey(f"save:{self._filepath.stem}")
