"""Data that a request gives to a run, and that the run returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kedro_flask_server.model.media_types import JSON

MAX_VALUE_BYTES = 16_384
"""The size of a JSON object that is kept of every run."""


MAX_CONTENT_BYTES = 65_536
"""The size of JSON that a call of a served pipeline gives or returns without a file."""


def file_name(dataset: str) -> str:
    """Return the name of the file with a dataset's data: short, and no path."""
    return hashlib.sha256(dataset.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenData:
    """The data that a request gives for a dataset.

    Attributes:
        media_type: Its media type, without parameters.
        size_bytes: Its size.
        sha256: Its SHA-256, in hexadecimal.
        content: The data itself, where it is JSON without a file.
    """

    media_type: str
    size_bytes: int
    sha256: str
    content: str | None = None

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """What a request says of data.

    Attributes:
        inputs: The data given, by dataset.
        outputs: The datasets to return.
        accept: The media type in which to return them. Of JSON, what has no such form is returned
            in another.
        saves: Whether datasets are saved as the catalog says; otherwise what the run makes is
            passed on in memory.
        folder: The folder of the given data, below that of all data (`run_files`).
    """

    inputs: Mapping[str, GivenData] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    accept: str = JSON
    saves: bool = True
    folder: str | None = None

    @property
    def size_bytes(self) -> int:
        """The size of the given data."""
        return sum(each.size_bytes for each in self.inputs.values())

    @property
    def contents(self) -> dict[str, str]:
        """The given data that has no file."""
        found = ((name, each.content) for name, each in self.inputs.items())
        return {name: content for name, content in found if content is not None}

    def without_contents(self) -> DataRequest:
        """Return the same, all of whose data has a file."""
        inputs = {name: replace(each, content=None) for name, each in self.inputs.items()}
        return replace(self, inputs=inputs)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "inputs": {name: each.dump() for name, each in self.inputs.items()},
            "outputs": [*self.outputs],
            "accept": self.accept,
            "save": self.saves,
            "folder": self.folder,
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> DataRequest:
        """Return what `dump` has returned."""
        return cls(
            inputs={name: GivenData(**each) for name, each in data["inputs"].items()},
            outputs=tuple(data["outputs"]),
            accept=data["accept"],
            saves=data["save"],
            folder=data["folder"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A dataset that a run has made, as it was when a node saved it.

    Attributes:
        media_type: The media type of its data; None where it cannot be returned.
        size_bytes: The size of its data.
        sha256: The SHA-256 of its data, in hexadecimal; of a version, another text that differs if
            the data may differ.
        is_table: Whether it is a table.
        is_returned: Whether the request asked for it.
        file: The name of the file with its data, in the run's folder; None where it has none.
        place: The path of its own file, where it is a version that the run has saved.
        value: The JSON object that it is, where that is small.
        content: The data itself, where it is JSON without a file.
        reason: Why it cannot be returned.
    """

    media_type: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    is_table: bool = False
    is_returned: bool = True
    file: str | None = None
    place: str | None = None
    value: dict[str, Any] | None = None
    content: str | None = None
    reason: str | None = None

    @property
    def has_data(self) -> bool:
        """Whether its data is there, in a file or itself."""
        return self.file is not None or self.content is not None

    def dump(self) -> dict[str, Any]:
        """Return it as JSON data."""
        dumped = asdict(self)
        if self.content is None:
            del dumped["content"]
        return dumped

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Output:
        """Return what `dump` has returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            output = cls(**{name: data[name] for name in cls.__slots__ if name != "content"})
            content = data.get("content")  # which earlier versions do not have
        except KeyError as error:
            raise ValueError(f"not an output: {error!r}") from error
        if output.file is not None and not output.file.isalnum():  # it becomes a part of a path
            raise ValueError("not an output: its file is a path")
        return output if content is None else replace(output, content=str(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutputs:
    """What is kept of the data of a run.

    Attributes:
        folder: The folder of the data that it returned; None where it returned none.
        outputs: The datasets that it has made, by name.
        deleted_at: When its data was deleted, in milliseconds since 1970-01-01T00:00:00Z.
    """

    folder: str | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)
    deleted_at: int | None = None

    @property
    def has_files(self) -> bool:
        """Whether data of it has a file."""
        return any(each.file is not None for each in self.outputs.values())
