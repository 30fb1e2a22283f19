"""Functions of the data preparation."""

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def load_measurements() -> pd.DataFrame:
    """Return scikit-learn's breast cancer data: 569 tumours, 30 measurements and the target."""
    return load_breast_cancer(as_frame=True).frame


def split(measurements: pd.DataFrame, test_fraction: float, seed: int) -> tuple:
    """Return the features and the target for training, then both for testing."""
    train, test = train_test_split(
        measurements, test_size=test_fraction, random_state=seed, stratify=measurements["target"]
    )
    parts = []
    for part in (train, test):
        parts += [part.drop(columns="target"), part[["target"]]]
    return tuple(parts)
