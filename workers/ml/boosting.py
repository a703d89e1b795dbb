"""scikit-learn's histogram gradient boosting, with early stopping on given rows."""

from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier

from workers.ml.estimator import Effort, Estimator, Weighted

ROUNDS = 300  # at most: early stopping decides


class Boosting(HistGradientBoostingClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """Finds its bins without the rows' weights.

    scikit-learn 1.9 computes weighted quantiles one by one in Python, which takes longer than all the trees;
    weights belong into the loss and gain nothing in the bins. Should the private name change, this is merely
    slow.
    """

    def _bin_data(self, X: Any, _weights: Any, is_training_data: bool) -> Any:  # noqa: N803 - the name there
        return super()._bin_data(X, None, is_training_data)


def fit(rows: Weighted, stop: Weighted, hyperparameters: Any, effort: Effort) -> Estimator:
    model: Estimator = Boosting(
        max_iter=ROUNDS,
        early_stopping=True,
        n_iter_no_change=effort.patience,
        random_state=effort.seed,
        **hyperparameters,
    ).fit(
        rows.features,
        rows.classes,
        rows.weights,
        X_val=stop.features,
        y_val=stop.classes,
        sample_weight_val=stop.weights,
    )
    return model
