"""Writes what a demo works on: input files, and a source folder with entry script and model.

The models learn from one half of the data; the other half is the input. What is returned is the
truth about that half: the right answer for each file name or row.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

__all__ = ["write_digits", "write_wine"]

_ENTRY_SCRIPTS = Path(__file__).parent / "entry_scripts"


def write_digits(home: Path) -> dict[str, str]:
    """1,797 handwritten digits as PNG files: 898 in ``training/``, 899 in ``scans/``.

    Returns
    -------
    dict of str to str
        The digit on each file of ``scans/``.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    digits = load_digits()
    pixels = np.minimum(digits.images * 16, 255).astype(np.uint8)  # 0..16 there, 0..255 in a PNG
    half = len(pixels) // 2
    for folder, numbers in (("training", range(half)), ("scans", range(half, len(pixels)))):
        (home / folder).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(pixels[number]).save(home / folder / f"digit-{number:04}.png")
    model = SVC(gamma=0.25).fit(pixels[:half].reshape(half, -1) / 255, digits.target[:half])
    _write_source(home / "source", "identify_digits.py", model)
    return {f"digit-{number:04}.png": str(digits.target[number]) for number in range(half, len(pixels))}


def write_wine(home: Path) -> dict[str, str]:
    """178 wines with 13 measurements each: every second one in ``wines/wines.csv``.

    Returns
    -------
    dict of str to str
        The cultivar of each wine of that table, by its number.
    """
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wine = load_wine(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data[::2], wine.target[::2])
    (home / "wines").mkdir(parents=True)
    with open(home / "wines" / "wines.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["wine", *wine.data.columns])
        writer.writerows(wine.data[1::2].itertuples())
    _write_source(home / "source", "score_wine.py", model)
    return {str(number): str(cultivar) for number, cultivar in wine.target[1::2].items()}


def _write_source(folder: Path, entry_script: str, model: Any) -> None:
    import joblib

    folder.mkdir(parents=True)
    shutil.copy(_ENTRY_SCRIPTS / entry_script, folder)
    joblib.dump(model, folder / "model.joblib")
