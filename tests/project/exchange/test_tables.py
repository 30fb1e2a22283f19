"""Tables, series and arrays have one JSON form, both ways."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from kedro_flask_server.model.data_exchange import JSON
from kedro_flask_server.model.media_types import ARROW_STREAM, CSV, PARQUET
from kedro_flask_server.project.exchange.codecs import decode, encode, to_json
from kedro_flask_server.project.exchange.data_types import DataType, Kind, type_of_annotation
from kedro_flask_server.project.exchange.problems import InvalidInput
from kedro_flask_server.project.exchange.tables import columns_in, load, with_numbers

NAMES = st.text(min_size=1, max_size=5)
# Whole numbers that both have.
NUMBERS = st.floats() | st.none()
TEXTS = st.text(max_size=5).filter(lambda text: text not in ("NaN", "Infinity", "-Infinity"))
COLUMNS = st.integers(0, 6).flatmap(
    lambda rows: st.dictionaries(
        NAMES,
        st.lists(NUMBERS, min_size=rows, max_size=rows)
        | st.lists(TEXTS | st.none(), min_size=rows, max_size=rows)
        | st.lists(st.integers(-(2**53), 2**53), min_size=rows, max_size=rows)
        | st.lists(st.booleans(), min_size=rows, max_size=rows),
        min_size=1,
        max_size=4,
    )
)


def again(kind: Kind, data: Any) -> Any:
    """Return data that has gone through JSON."""
    path = Path(tempfile.mkdtemp()) / "data"
    path.write_bytes(to_json(data))
    return decode("x", path, JSON, DataType(kind))


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, where what is missing is."""
    missing = (None, pd.NaT, pd.NA)

    def is_missing(value: Any) -> bool:
        is_nan = isinstance(value, float) and math.isnan(value)
        return is_nan or any(value is each for each in missing)

    return is_missing(one) and is_missing(other) if is_missing(one) else bool(one == other)


@given(COLUMNS)
@settings(max_examples=100, deadline=None)
def test_frames_of_pandas_and_polars_come_back(columns: dict[str, list[Any]]) -> None:
    frame = pd.DataFrame(columns)
    found = again(Kind.PANDAS, frame)
    if len(frame):  # no rows have no columns
        assert [*found.columns] == [*frame.columns]
        for name in columns:
            pairs = zip(found[name].tolist(), frame[name].tolist(), strict=True)
            assert all(same(*pair) for pair in pairs), (name, found[name], frame[name])
    polar = pl.DataFrame(columns, strict=False)
    back = again(Kind.POLARS, polar)
    if polar.height:
        for name in columns:
            pairs = zip(back[name].to_list(), polar[name].to_list(), strict=True)
            assert all(same(*pair) for pair in pairs), (name, back[name], polar[name])


@given(st.lists(st.floats(), max_size=5))
@settings(max_examples=50, deadline=None)
def test_series_arrays_and_arrow_come_back(numbers: list[float]) -> None:
    assert all(map(same, again(Kind.SERIES, pd.Series(numbers, dtype=float)), numbers))
    found = again(Kind.NUMPY, np.array(numbers, dtype=float))
    assert np.array_equal(found, np.array(numbers), equal_nan=True)
    if numbers:
        table = again(Kind.ARROW, pa.table({"x": numbers}))
        assert all(map(same, table["x"].to_pylist(), numbers))


@dataclasses.dataclass
class Item:
    day: date
    at: datetime
    price: Decimal
    took: timedelta
    ratio: float


class Basket(BaseModel):
    items: list[Item]
    code: bytes


@given(
    st.builds(
        Item,
        day=st.dates(),
        at=st.datetimes(timezones=st.just(timezone.utc)),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        took=st.timedeltas(timedelta(0), timedelta(days=999)),
        ratio=st.floats(),
    )
)
@settings(max_examples=100, deadline=None)
def test_objects_come_back_by_their_annotation(item: Item) -> None:
    path = Path(tempfile.mkdtemp()) / "data"
    path.write_bytes(to_json(item))
    typed = type_of_annotation(Item)
    assert typed is not None
    assert typed.kind is Kind.OBJECT
    found = decode("x", path, JSON, typed)
    assert isinstance(found, Item)
    for each in dataclasses.fields(Item):
        assert same(getattr(found, each.name), getattr(item, each.name)), each.name


def test_dates_and_missing_values_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "at": pd.to_datetime(["2026-01-01T00:00:00.123456789", None], format="ISO8601"),
            "zone": pd.to_datetime(["2026-01-01", None], utc=True),
            "kind": pd.Categorical(["a", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "took": pd.to_timedelta(["1h", None]),
        }
    )
    rows = [*map(dict, json.loads(to_json(frame)))]
    assert rows[0]["at"].startswith("2026-01-01T00:00:00.123456")
    assert rows[0]["zone"] == "2026-01-01T00:00:00+00:00"
    assert (rows[0]["kind"], rows[0]["count"]) == ("a", 1)
    assert rows[0]["took"] == "P0DT1H0M0S"
    assert {*rows[1].values()} == {None}


def test_index_with_a_name_is_a_column_and_doubled_names_are_lists() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key"))
    assert to_json(frame) == b'[{"key":"x","a":1}]'
    doubled = pd.DataFrame([[1, 2]], columns=["a", "a"])
    labelled = pd.DataFrame({"a": [1]}, index=["mean"])
    assert to_json(labelled) == b'[{"index":"mean","a":1}]'
    assert to_json(doubled) == b'{"columns":["a","a"],"data":[[1,2]]}'


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1],
        "x",
        {"columns": ["a"]},
        {"columns": ["a", "a"], "data": []},
        {"columns": ["a"], "data": [[1, 2]]},
        {"columns": [1], "data": []},
    ],
)
def test_what_is_no_table_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match=r"table|row|columns|data"):
        columns_in(content)


def test_rows_may_lack_columns() -> None:
    assert columns_in([{"a": 1}, {"b": 2}, {}]) == {"a": [1, None, None], "b": [None, 2, None]}


def test_texts_stay_where_one_is_no_number() -> None:
    assert with_numbers(["NaN", "x"]) == ["NaN", "x"]
    assert with_numbers(["Infinity", 1, None]) == [math.inf, 1, None]
    assert with_numbers([["-Infinity"], [2]]) == [[-math.inf], [2]]


def test_types_and_dates_of_the_catalog_count_for_json() -> None:
    rows = [{"zip": "01", "n": "NaN", "day": "2026-01-01"}, {"zip": None, "n": "x", "day": None}]
    load_args = {"dtype": {"zip": str, "n": "str"}, "parse_dates": ["day"], "index_col": "zip"}
    frame = load(Kind.PANDAS, rows, load_args)
    assert frame.index.name == "zip"
    assert frame["n"].tolist() == ["NaN", "x"]
    assert frame["day"].dtype.kind == "M"


@pytest.mark.parametrize("media_type", [CSV, PARQUET, ARROW_STREAM])
@pytest.mark.parametrize("kind", [Kind.PANDAS, Kind.POLARS, Kind.ARROW])
def test_tables_have_files_of_each_format(tmp_path: Path, media_type: str, kind: Kind) -> None:
    data = {"a": [1, 2], "b": ["x", "y"]}
    make = {Kind.PANDAS: pd.DataFrame, Kind.POLARS: pl.DataFrame, Kind.ARROW: pa.table}[kind]
    path = tmp_path / "data"
    encode(make(data), media_type, path)
    found = decode("x", path, media_type, DataType(kind))
    assert type(found) is type(make(data))
    rows = json.loads(to_json(found))
    assert rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize("media_type", [JSON, PARQUET, ARROW_STREAM])
def test_what_cannot_be_read_says_so(tmp_path: Path, media_type: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\x00nonsense")
    with pytest.raises(InvalidInput, match="'x'"):
        decode("x", path, media_type, DataType(Kind.PANDAS))
