"""Functions of the inference."""

from typing import Any

import pandas as pd


def predict(model: Any, samples: pd.DataFrame) -> pd.DataFrame:
    """Return which tumours are benign, and how likely that is."""
    probability = model.predict_proba(samples[model.feature_names_in_])[:, 1]
    return pd.DataFrame({"benign": probability > 0.5, "probability": probability.round(3)})
