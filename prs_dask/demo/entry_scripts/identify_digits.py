"""Says which digit is on each scanned image."""

import argparse
from pathlib import Path

import joblib
import numpy as np
from PIL import Image


def init():
    """Load the model, once in each worker process."""
    global model
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="the model's file, in the folder of this script")
    options, _ = parser.parse_known_args()
    model = joblib.load(Path(__file__).parent / options.model)


def run(mini_batch):
    """Identify a few images; ``mini_batch`` is a list of their paths."""
    results = []
    for path in mini_batch:
        with Image.open(path) as image:
            pixels = np.asarray(image, dtype=float).reshape(1, -1) / 255
        (digit,) = model.predict(pixels)
        results.append(f"{Path(path).name}: {digit}")
    return results
