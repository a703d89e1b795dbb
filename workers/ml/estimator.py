"""What every kind of estimator takes and gives, whatever library it comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workers.ml.classes import Indices, Matrix


class NotConverged(Exception):
    """Training learnt nothing: the loss is not finite, or never below that of a constant answer."""


class Estimator(Protocol):
    """Fitted. Probabilities (n, k) of features (n, width), in the order of the classes 0 … k-1."""

    def predict_proba(self, features: Matrix) -> npt.NDArray[np.floating]: ...


@dataclass(frozen=True)
class Weighted:
    """Rows with their classes, all of which occur, and the weight that each row has in the loss."""

    features: Matrix
    classes: Indices
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """How long and in which portions to train. `accumulation` parts of a batch make one optimizer step."""

    epochs: int
    patience: int
    batch_size: int
    accumulation: int
    seed: int
    on_epoch: Callable[[int, float, float], None] = lambda _epoch, _training_loss, _stopping_loss: None
