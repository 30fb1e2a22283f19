"""Functions of the evaluation."""

from typing import Any

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score


def score(model: Any, features: pd.DataFrame, target: pd.DataFrame) -> dict[str, float]:
    """Return how well a model does on data that it has not seen."""
    predicted = model.predict(features)
    return {
        "accuracy": float(accuracy_score(target["target"], predicted)),
        "f1": float(f1_score(target["target"], predicted)),
    }


def pick(forest: dict[str, float], linear: dict[str, float]) -> dict[str, Any]:
    """Return the name and the scores of the better model."""
    scores = {"forest": forest, "linear": linear}
    name = max(scores, key=lambda model: scores[model]["accuracy"])
    return {"model": name, **scores[name]}
