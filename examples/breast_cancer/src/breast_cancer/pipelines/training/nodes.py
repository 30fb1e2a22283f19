"""Functions of the training."""

from typing import Any

import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def train_forest(
    features: pd.DataFrame, target: pd.DataFrame, trees: int, seed: int
) -> RandomForestClassifier:
    """Return a random forest."""
    model = RandomForestClassifier(n_estimators=trees, random_state=seed)
    return model.fit(features, target["target"])


def train_linear(features: pd.DataFrame, target: pd.DataFrame, strength: float) -> Any:
    """Return a logistic regression on scaled features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return model.fit(features, target["target"])
