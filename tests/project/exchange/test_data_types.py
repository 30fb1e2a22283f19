"""What annotations, classes and metadata say of data."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import numpy as np
import pandas as pd
import pytest
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset
from kedro_datasets.pickle import PickleDataset

from kedro_flask_server.project.exchange.data_types import (
    Kind,
    annotations_of,
    type_of_annotation,
    type_of_class,
)
from kedro_flask_server.project.exchange.interface import DatasetTypes, describe_interface


class Subclassed(pd.DataFrame):
    """As pandera's data frames are."""


class Opaque:
    """What has no form."""


class Made(TypedDict):
    """What a node returns."""

    left: int
    right: str


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (pd.DataFrame, Kind.PANDAS),
        (Subclassed, Kind.PANDAS),
        (pd.DataFrame | None, Kind.PANDAS),
        (Annotated[pd.Series, "x"], Kind.SERIES),
        (np.ndarray, Kind.NUMPY),
        (str, Kind.TEXT),
        (bytes, Kind.BYTES),
        (dict[str, int], Kind.OBJECT),
        (int | str, Kind.OBJECT),
        (Opaque, Kind.OPAQUE),
    ],
)
def test_kind_of_an_annotation(annotation: Any, kind: Kind) -> None:
    found = type_of_annotation(annotation)
    assert found is not None
    assert found.kind is kind


def test_nothing_is_known_of_any() -> None:
    assert type_of_annotation(Any) is None
    assert type_of_annotation(None) is None


def test_kind_of_a_class() -> None:
    assert type_of_class(CSVDataset).kind is Kind.PANDAS
    assert type_of_class(JSONDataset).kind is Kind.ANY
    assert type_of_class(PickleDataset).kind is Kind.OPAQUE
    assert type_of_class(None).kind is Kind.ANY


def positional(a: int, *, b: str) -> tuple[int, str]:
    return a, b


def typed(a: int) -> Made:
    return Made(left=a, right="")


def generate(a: int) -> Iterator[str]:
    yield str(a)


def partly(a: int, b: float) -> float:
    return a * b


def unresolved(a: NotImported) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


def test_annotations_of_all_forms_of_nodes() -> None:
    pipeline = Pipeline(
        [
            node(positional, {"a": "one", "b": "two"}, ["three", "four"], name="a"),
            node(typed, "three", {"left": "five", "right": "six"}, name="b"),
            node(generate, ["five"], "seven", name="c"),
            node(functools.partial(partly, b=2.0), "five", "eight", name="d"),
            node(lambda x: x, "eight", "nine", name="e"),
            node(unresolved, "nine", "ten", name="f"),
        ]
    )
    assert annotations_of(pipeline) == {
        **{"one": int, "two": str, "three": int, "four": str, "five": int, "six": str},
        **{"seven": str, "eight": float},
    }


def test_transcodings_are_one_input_and_private_ones_are_not_shown() -> None:
    pipeline = Pipeline(
        [
            node(lambda a, b, c, p: 1, ["a@x", "a@y", "secret", "params:p"], "made", name="n"),
            node(lambda made: made, "made", "returned", name="m"),
        ]
    )
    private = {"kedro-flask-server": {"private": True}}
    catalog = {
        "a@x": {"type": "pandas.CSVDataset", "filepath": "a.csv"},
        "a@y": {"type": "json.JSONDataset", "filepath": "a.csv"},
        "secret": {
            "type": "CachedDataset",
            "dataset": {"type": "json.JSONDataset", "filepath": "s.json", "metadata": private},
        },
        "made": {"type": "json.JSONDataset", "filepath": "m.json", "metadata": private},
    }
    found = describe_interface(
        "p",
        pipeline,
        DatasetTypes(pipeline, catalog.get),
        lambda name: name in catalog,
        {"p": 3},
    )
    assert found["inputs"].keys() == {"a"}
    assert found["inputs"]["a"]["names"] == ["a@x", "a@y"]
    assert not found["inputs"]["a"]["is_required"]
    assert found["outputs"].keys() == {"returned"}
    assert found["intermediates"] == {}
    assert found["parameters"] == {"p": {"schema": {}, "value": 3}}
    assert found["nodes"] == [each.name for each in pipeline.nodes]
