"""What kind of data a dataset has, by the annotations of its nodes and by its class."""

from __future__ import annotations

import inspect
import logging
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from kedro_flask_server.model.media_types import JSON, OCTETS, TEXT, tables

logger = logging.getLogger(__name__)


class Kind(Enum):
    """The kinds of data that have a standard form."""

    PANDAS = "pandas.DataFrame"
    POLARS = "polars.DataFrame"
    ARROW = "pyarrow.Table"
    SERIES = "pandas.Series"
    NUMPY = "numpy.ndarray"
    TEXT = "builtins.str"
    BYTES = "builtins.bytes"
    OBJECT = "object"
    """What pydantic validates by its annotation."""
    ANY = "any"
    """Nothing is known of it."""
    OPAQUE = "opaque"
    """An object of which no standard form is known, such as a model."""


_BY_NAME = {kind.value: kind for kind in Kind}
_TABLES = (Kind.PANDAS, Kind.POLARS, Kind.ARROW)

# Where the classes of kedro-datasets are that load the kind.
_BY_PACKAGE = {
    "kedro_datasets.pandas": Kind.PANDAS,
    "kedro_datasets.polars": Kind.POLARS,
    "kedro_datasets.text": Kind.TEXT,
    "kedro_datasets.json": Kind.ANY,
    "kedro_datasets.yaml": Kind.ANY,
}
# They load another kind.
_LAZY = ("LazyPolarsDataset",)
_IN_MEMORY = ("kedro.io.memory_dataset", "kedro.io.shared_memory_dataset")

_ROWS = {"type": "array", "items": {"type": "object"}}
_SCHEMAS: Mapping[Kind, dict[str, Any]] = {
    **dict.fromkeys(_TABLES, _ROWS),
    Kind.SERIES: {"type": "array"},
    Kind.NUMPY: {"type": "array"},
    Kind.TEXT: {"type": "string"},
    Kind.BYTES: {"type": "string", "contentEncoding": "base64"},
}


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of a dataset's data.

    Attributes:
        kind: Its kind.
        annotation: The annotation, of `Kind.OBJECT`.
    """

    kind: Kind
    annotation: Any = None

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types that its standard codecs have."""
        if self.kind in _TABLES:
            return tables()
        if self.kind is Kind.ANY:
            return (*tables(), TEXT, OCTETS)
        if self.kind is Kind.OPAQUE:
            return ()
        own = {Kind.TEXT: (TEXT,), Kind.BYTES: (OCTETS,)}.get(self.kind, ())
        return (JSON, *own)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its JSON form; empty where nothing is known."""
        if self.kind is Kind.OBJECT:
            try:
                found: dict[str, Any] = adapter_of(self.annotation).json_schema()
            except Exception as error:  # of types that can be read and not described
                logger.debug("No JSON schema of %r: %s", self.annotation, error)
                return {}
            return found
        return dict(_SCHEMAS.get(self.kind, {}))


def adapter_of(annotation: Any) -> Any:
    """Return pydantic's adapter of a type.

    Raises:
        Exception: Where pydantic does not know it.
    """
    from pydantic import TypeAdapter  # not needed in runs without data

    return TypeAdapter(annotation)


def type_of_annotation(annotation: Any) -> DataType | None:
    """Return the type that an annotation says; None where it says nothing."""
    annotation = _bare(annotation)
    if annotation in (None, Any, object, inspect.Parameter.empty):
        return None
    for each in getattr(typing.get_origin(annotation) or annotation, "__mro__", ()):
        kind = _BY_NAME.get(f"{each.__module__.partition('.')[0]}.{each.__qualname__}")
        if kind is not None:
            return DataType(kind)
    try:
        adapter_of(annotation)
    except Exception:  # a class of a library, or of the project's own
        return DataType(Kind.OPAQUE)
    return DataType(Kind.OBJECT, annotation)


def type_of_class(dataset_class: type | None) -> DataType:
    """Return the type of what a dataset's class loads."""
    if dataset_class is None or dataset_class.__module__ in _IN_MEMORY:
        return DataType(Kind.ANY)
    if dataset_class.__qualname__ in _LAZY:
        return DataType(Kind.OPAQUE)
    for package, kind in _BY_PACKAGE.items():
        if dataset_class.__module__.startswith(f"{package}."):
            return DataType(kind)
    return DataType(Kind.OPAQUE)


def _bare(annotation: Any) -> Any:
    """Return an annotation without what allows None, and without what is said beside it."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        others = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        return _bare(others[0]) if len(others) == 1 else annotation
    return annotation


def annotations_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return the annotations of a pipeline's datasets and parameters.

    Where several nodes have the same, the node that makes it counts, or the first that takes it.
    """
    found: dict[str, Any] = {}
    for node in pipeline.nodes:
        hints = _hints_of(node)
        made = dict(_outputs_of(node, hints.pop("return", None)))
        found = {**dict(_inputs_of(node, hints)), **found, **made}
    return {name: each for name, each in found.items() if each is not None}


def _hints_of(node: Node) -> dict[str, Any]:
    function = inspect.unwrap(node.func)
    function = getattr(function, "func", function)  # of functools.partial
    try:
        return typing.get_type_hints(function)
    except Exception as error:  # names that are not imported at runtime
        logger.debug("The annotations of node %s cannot be read: %s", node.name, error)
        return {}


def _inputs_of(node: Node, hints: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    inputs = node._inputs
    try:
        signature = inspect.signature(node.func)
    except (TypeError, ValueError):  # of a builtin
        return []
    try:
        if isinstance(inputs, dict):
            bound = signature.bind(**inputs)
        else:
            bound = signature.bind(*([inputs] if isinstance(inputs, str) else inputs or []))
    except TypeError:  # it fails in the run, too
        return []
    return [
        (name, hints.get(argument))
        for argument, name in bound.arguments.items()
        if isinstance(name, str)
    ]


def _outputs_of(node: Node, returned: Any) -> Iterable[tuple[str, Any]]:
    outputs = node._outputs
    if inspect.isgeneratorfunction(node.func):
        arguments = typing.get_args(returned)
        returned = arguments[0] if arguments else None
    if isinstance(outputs, str):
        return [(outputs, returned)]
    if isinstance(outputs, dict):
        by_key = typing.get_type_hints(returned) if typing.is_typeddict(returned) else {}
        return [(name, by_key.get(key)) for key, name in outputs.items()]
    parts = typing.get_args(returned)
    is_tuple = typing.get_origin(returned) is tuple and len(parts) == len(outputs or [])
    return zip(outputs or [], parts if is_tuple else [None] * len(outputs or []), strict=True)
