"""What data a pipeline takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kedro.io.core import AbstractDataset, is_parameter, parse_dataset_definition
from kedro.pipeline import Pipeline

from kedro_flask_server.project.datasets import arguments_of, bare_name
from kedro_flask_server.project.exchange.data_types import (
    DataType,
    Kind,
    annotations_of,
    type_of_annotation,
    type_of_class,
)
from kedro_flask_server.project.exchange.native import Format, format_of
from kedro_flask_server.project.failures import safe_name

METADATA = "kedro-flask-server"
"""The key of the catalog's ``metadata`` with what is said of data here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangedDataset:
    """A dataset, as far as its data is exchanged.

    Attributes:
        name: Its name.
        data_type: The type of its data, for the standard codecs.
        dataset_class: Its class; None for one that the catalog does not name.
        arguments: The arguments that the catalog gives the class.
        native: The format in which the class reads and writes; None for none that may be used.
        said: What the catalog's metadata says of it.
    """

    name: str
    data_type: DataType
    dataset_class: type | None
    arguments: Mapping[str, Any]
    native: Format | None
    said: Mapping[str, Any]

    @property
    def is_private(self) -> bool:
        """Whether it is never taken, returned or shown."""
        return bool(self.said.get("private"))

    @property
    def accepts(self) -> list[str]:
        """The media types that it may be given in."""
        own = self.native.media_types if self.native and self.native.may_read else ()
        return [*dict.fromkeys((*self.data_type.media_types, *own))]

    @property
    def offers(self) -> list[str]:
        """The media types that it may be returned in."""
        own = self.native.media_types if self.native else ()
        standard = self.data_type.media_types
        if self.data_type.kind is Kind.OPAQUE:  # what it is turns out in the run
            standard = DataType(Kind.ANY).media_types if not own else ()
        return [*dict.fromkeys((*standard, *own))]

    def describe(self, media_types: list[str]) -> dict[str, Any]:
        """Return the description of it."""
        described: dict[str, Any] = {
            "type": None if self.dataset_class is None else self.dataset_class.__qualname__,
            "media_types": media_types,
            "schema": self.said.get("schema") or self.data_type.schema(),
        }
        if "example" in self.said:
            described["example"] = self.said["example"]
        return described


class DatasetTypes:
    """Finds what is known of the data of a pipeline's datasets."""

    def __init__(
        self,
        pipeline: Pipeline,
        config_of: Callable[[str], Mapping[str, Any] | None],
        *,
        allows_excel: bool = False,
    ) -> None:
        """Prepare.

        Args:
            pipeline: The pipeline.
            config_of: Returns the configuration of a dataset; None for one in memory.
            allows_excel: Whether workbooks are read.
        """
        self._pipeline = pipeline
        self._config_of = config_of
        self._allows_excel = allows_excel
        self._annotations: dict[str, Any] | None = None
        self._found: dict[str, ExchangedDataset] = {}
        self._private: dict[str, bool] = {}

    def annotation_of(self, name: str) -> Any:
        """Return the annotation of a dataset or parameter; None where it has none."""
        if self._annotations is None:
            self._annotations = annotations_of(self._pipeline)
        return self._annotations.get(name)

    def find(self, name: str) -> ExchangedDataset:
        """Return what is known of a dataset."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> ExchangedDataset:
        config = self._config_of(name)
        dataset_class, arguments = _class_of(config)
        typed = type_of_annotation(self.annotation_of(name)) or type_of_class(dataset_class)
        return ExchangedDataset(
            name=name,
            data_type=typed,
            dataset_class=dataset_class,
            arguments=arguments,
            native=format_of(dataset_class, arguments, allows_excel=self._allows_excel),
            said=_said(config),
        )

    def is_private(self, name: str) -> bool:
        """Return whether a dataset is never taken, returned or shown."""
        if name not in self._private:
            self._private[name] = bool(_said(self._config_of(name)).get("private"))
        return self._private[name]


def _said(config: Any) -> dict[str, Any]:
    """Return what the metadata of a dataset says, and that of one which it wraps."""
    if isinstance(config, AbstractDataset):
        config = arguments_of(config)
    if not isinstance(config, Mapping):
        return {}
    said = (config.get("metadata") or {}).get(METADATA) or {}
    own = dict(said) if isinstance(said, Mapping) else {}
    return {**_said(config.get("dataset")), **own}


def _class_of(config: Mapping[str, Any] | None) -> tuple[type | None, Mapping[str, Any]]:
    """Return a dataset's class and arguments; of one that is cached, those of what is cached."""
    if config is None:
        return None, {}
    wanted = {key: each for key, each in config.items() if key != "validator"}
    if not isinstance(config.get("type"), str):
        return wanted.pop("type"), wanted
    try:
        found, arguments = parse_dataset_definition(wanted)
    except Exception:  # as the run does that needs it
        return None, {}
    inner = arguments.get("dataset")
    if found.__qualname__ == "CachedDataset" and isinstance(inner, Mapping):
        return _class_of(inner)
    return found, arguments


def free_inputs(pipeline: Pipeline) -> list[str]:
    """Return the datasets that a pipeline takes and no node of it makes, without parameters."""
    return sorted(name for name in pipeline.inputs() if not is_parameter(name))


def describe_interface(
    name: str,
    pipeline: Pipeline,
    types: DatasetTypes,
    is_known: Callable[[str], bool],
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a pipeline takes and returns, as JSON data.

    Args:
        name: Its name.
        pipeline: The nodes that are to run.
        types: What is known of its datasets.
        is_known: Returns whether the catalog has a dataset.
        values: The values of its parameters, by their names, without secrets.
    """
    inputs: dict[str, dict[str, Any]] = {}
    for each in map(types.find, free_inputs(pipeline)):
        if not each.is_private:
            bare = bare_name(each.name)  # a@x and a@y are one
            described = each.describe(each.accepts) | {"is_required": not is_known(each.name)}
            inputs.setdefault(bare, {**described, "names": []})["names"].append(each.name)
    made = {*pipeline.outputs()}
    others = pipeline.all_outputs() - made
    return {
        "name": name,
        "nodes": [safe_name(node.name) for node in pipeline.nodes],
        "inputs": inputs,
        "outputs": {
            each.name: each.describe(each.offers) | {"is_saved": is_known(each.name)}
            for each in map(types.find, sorted(made))
            if not each.is_private
        },
        "intermediates": {
            each.name: each.describe(each.offers)
            for each in map(types.find, sorted(others))
            if not each.is_private
        },
        "parameters": {
            _bare(each): {
                "schema": _schema_of(types.annotation_of(each)),
                "value": values if each == "parameters" else values.get(_bare(each)),
            }
            for each in sorted(filter(is_parameter, pipeline.inputs()))
        },
    }


def _bare(parameter: str) -> str:
    return parameter.removeprefix("params:")


def _schema_of(annotation: Any) -> dict[str, Any]:
    typed = type_of_annotation(annotation)
    return {} if typed is None else typed.schema()
