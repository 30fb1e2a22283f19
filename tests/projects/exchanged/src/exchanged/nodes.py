"""What the nodes do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from pydantic import BaseModel


@dataclass
class Order:
    """What is ordered."""

    day: date
    price: Decimal
    count: int = 1


class Customer(BaseModel):
    """Who orders."""

    name: str
    age: int


def multiply(rows: pd.DataFrame, factor: int) -> pd.DataFrame:
    """Multiply the numbers of a table."""
    numbers = rows.select_dtypes("number")
    return rows.assign(**{name: numbers[name] * factor for name in numbers})


def summarize(rows: pd.DataFrame) -> dict[str, float]:
    """Return the sums of a table's columns."""
    return {name: float(each) for name, each in rows.select_dtypes("number").sum().items()}


def aggregate(sales: pd.DataFrame):
    """Return the sales by zip code, and what their columns are."""
    by_zip = sales.groupby("zip", as_index=False)["amount"].sum()
    kinds = {name: str(each) for name, each in sales.dtypes.items()}
    return by_zip, {"rows": len(sales), **kinds}


def price(order: Order, customer: Customer) -> dict:
    """Return what an order comes to."""
    assert isinstance(order, Order)
    return {"total": order.price * order.count, "day": order.day, "who": customer.name}


def echo(value):
    """Return what was given."""
    return value


def echo_polars(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table of Polars."""
    assert isinstance(frame, pl.DataFrame)
    return frame


def echo_arrow(table: pa.Table) -> pa.Table:
    """Return a table of Arrow."""
    assert isinstance(table, pa.Table)
    return table


def echo_array(array: np.ndarray) -> np.ndarray:
    """Return an array."""
    assert isinstance(array, np.ndarray)
    return array


def echo_text(text: str) -> str:
    """Return a text."""
    assert isinstance(text, str)
    return text


def echo_octets(octets: bytes) -> bytes:
    """Return octets."""
    assert isinstance(octets, bytes)
    return octets


def invert(picture):
    """Return the size of a picture."""
    return {"width": picture.width, "height": picture.height}


def take_model(model):
    """Return what kind of object a model is."""
    return type(model).__name__


def check(checked: pd.DataFrame) -> int:
    """Return how many rows there are."""
    return len(checked)


def check_positive(data):
    """Validate a table."""
    if (data["amount"] < 0).any():
        raise ValueError("amounts must be positive")
    return data


def fail(rows):
    """Fail after the first node has saved."""
    raise RuntimeError("on purpose")


def wait(seconds: float) -> str:
    """Take some time."""
    time.sleep(seconds)
    return "done"


def scale(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is."""
    return rows


def tell(secret) -> str:
    """Return what is private."""
    return "told"
