"""Says which cultivar each wine was made from, and how sure that is."""

import argparse
from pathlib import Path

import joblib
import pandas as pd


def init():
    """Load the model, once in each worker process."""
    global model
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="the model's file, in the folder of this script")
    options, _ = parser.parse_known_args()
    model = joblib.load(Path(__file__).parent / options.model)


def run(mini_batch):
    """Score some wines; ``mini_batch`` is a pandas DataFrame with a column for each measurement."""
    measurements = mini_batch[list(model.feature_names_in_)]
    return pd.DataFrame(
        {
            "wine": mini_batch["wine"],
            "cultivar": model.predict(measurements),
            "probability": model.predict_proba(measurements).max(axis=1).round(3),
        }
    )
