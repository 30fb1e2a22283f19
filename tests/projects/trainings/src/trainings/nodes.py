"""Trainings that make pairs which belong together, and an evaluation that insists on that."""

from __future__ import annotations

import time
from typing import Any


def seed() -> tuple[dict[str, Any], ...]:
    return ({"tag": "seed"},) * 4


def train(tag: str, seconds: float, model: Any, scaler: Any) -> tuple[dict[str, Any], ...]:
    check(model, scaler)
    time.sleep(seconds)
    return {"tag": tag, "from": model["tag"]}, {"tag": tag, "from": model["tag"]}


def evaluate(a_model: Any, a_scaler: Any, b_model: Any, b_scaler: Any) -> list[str]:
    check(a_model, a_scaler)
    check(b_model, b_scaler)
    return [a_model["tag"], b_model["tag"]]


def check(model: Any, scaler: Any) -> None:
    if model["tag"] != scaler["tag"]:
        raise ValueError(f"mixed: the model of {model['tag']}, the scaler of {scaler['tag']}")


def summarize(reports: Any) -> int:
    return len([load() for load in reports.values()])


def pass_on(data: Any) -> Any:
    return data


def sleep(seconds: float, tag: str) -> str:
    time.sleep(seconds)
    return tag


def preprocess(seconds: float) -> list[dict[str, int]]:
    time.sleep(seconds)
    return [{"id": number, "price": number * 7 % 11} for number in range(200)]


def join(companies: list[dict[str, int]], shuttles: list[dict[str, int]]) -> list[dict[str, int]]:
    prices = {row["id"]: row["price"] for row in companies}
    return [{**row, "capacity": prices[row["id"]]} for row in shuttles]


def fit(table: list[dict[str, int]]) -> dict[str, float]:
    return {"mean": sum(row["price"] for row in table) / len(table)}


def score(regressor: dict[str, float], table: list[dict[str, int]]) -> float:
    return max(abs(row["price"] - regressor["mean"]) for row in table)
