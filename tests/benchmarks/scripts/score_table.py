"""A linear model over ten columns."""

import numpy as np
import pandas as pd

WEIGHTS = np.linspace(-1, 1, 10)


def run(mini_batch: pd.DataFrame) -> list[str]:
    return [f"{score:.6f}" for score in mini_batch.to_numpy() @ WEIGHTS]
