"""What a training is likely to cost and to stumble over, for a dry run: no fit, no torch, no scikit-learn."""

import numpy as np

from workers.ml import encoding
from workers.ml.classes import ClassWeight, Resampling
from workers.ml.tabular import Examples, Prepared, constant_columns

# Measured on one core in November 2026.
START_SECONDS, FIT_SECONDS, ROW_SECONDS, START_MIB = 4.0, 0.05, 2e-5, 550


def cost(examples: Examples, fits: int) -> dict[str, int]:
    """`estimated_seconds` and `estimated_peak_mib` of that many fits.

    Each fit takes 0.05 s + rows · 20 µs · (1 + width / 64) on one core, where width counts the encoded
    columns; to start and to export take 4 s. At the peak, four float32 copies of the encoded rows lie beside
    550 MiB for the libraries.
    """
    rows, width = len(examples), encoding.fit(examples.batch).width
    fit_seconds = FIT_SECONDS + rows * ROW_SECONDS * (1 + width / 64)
    return {
        "estimated_seconds": round(START_SECONDS + fits * fit_seconds),
        "estimated_peak_mib": round(START_MIB + 4 * 4 * rows * width / 2**20),
    }


def doubts(prepared: Prepared, class_weight: ClassWeight, resampling: Resampling) -> list[str]:
    """What does not stop a training and yet may spoil it."""
    counts = np.bincount(prepared.train.classes)
    found = []
    if counts.min() < 0.05 * counts.sum() and class_weight == resampling == "none":
        found.append("a class has under 5 % of the rows, and neither class weights nor SMOTE make up for it")
    if empty := constant_columns(prepared.train, prepared.schema):
        found.append(f"columns with one value or none in the training rows: {', '.join(empty)}")
    return found
