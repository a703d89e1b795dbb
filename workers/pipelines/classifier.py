"""The model type `classifier`: rows of numbers and names → the probability of each label. Runbook 002.

Optuna chooses between gradient boosting, logistic regression and a small neural network by stratified
cross-validation on the training rows; the best is fitted once more on all of them. The validation rows only
choose the threshold and supply figures. What is left is one ONNX file with the preprocessing inside.

An incremental training searches nothing: it goes on from the active version's parameters, and the validation rows also
say when to stop.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
from pydantic import Field

from workers.ml import memory, tabular
from workers.pipeline import Candidate, Params, Pipeline, PipelineError, Run

if TYPE_CHECKING:
    from app.runtimes.schema import InputSchema
    from workers.ml.estimator import Effort
    from workers.ml.families import Family
    from workers.ml.fitting import Model, Recipe
    from workers.ml.incremental import Start
    from workers.ml.search import Choice, Trial
    from workers.ml.tabular import Examples, Prepared

FamilyName = Literal["hist_gradient_boosting", "logistic_regression", "mlp"]


class ClassifierParams(Params):
    """The defaults are the runbook's where it names one."""

    optuna_trials: int = Field(5, ge=1, le=500, description="choices of family and hyperparameters that are tried")
    epochs: int = Field(30, ge=1, le=10_000, description="of the MLP, at most; early stopping may end sooner")
    early_stopping_patience: int = Field(
        5,
        ge=1,
        le=1_000,
        description="epochs (MLP) or rounds (boosting) without a better loss before training stops",
    )
    cv_folds: int = Field(5, ge=2, le=20, description="folds of the stratified cross-validation that scores a trial")
    class_weight: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: every class counts alike in the loss, however rare"
    )
    resampling: Literal["none", "smote"] = Field(
        "none", description="smote: grow the rarer classes with synthetic training rows"
    )
    families: list[FamilyName] = Field(
        ["hist_gradient_boosting", "logistic_regression", "mlp"],
        min_length=1,
        description="the kinds of model to choose from; the first trials are their defaults, in this order",
    )
    batch_size: int = Field(512, ge=8, le=65_536, description="rows in one optimizer step of the MLP")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="of the MLP; unset: searched between 0.0003 and 0.01"
    )


@memory.named_when_exhausted()
def train(run: Run) -> Candidate:
    """Raises PipelineError: unsupported_column, insufficient_data, data_imbalance, not_converged,
    out_of_memory, export_mismatch."""
    with run.stage("prepare"):
        prepared = tabular.prepare(run.data, run.log)
        run.log(_described(prepared))

    start = _start(run, prepared)
    if start is not None and not isinstance(start, str):
        return _go_on(run, prepared, start)

    with run.stage("search"):
        trials = _search(run, prepared.train)
        chosen, score = _best_of(trials)

    with run.stage("fit"):
        model = _fit(run, prepared.train, chosen)

    with run.stage("threshold"):
        schema = _with_threshold(run, prepared, model)

    with run.stage("export"):
        metrics = _export(run, prepared, model, schema)

    return Candidate("onnx", run.folder, {**metrics, "cv_auc_roc": score}, _details(chosen, trials), start)


def plan(run: Run) -> dict[str, Any]:
    """What a training would do, for a dry run: counts, effective parameters, a rough estimate of the cost.

    Trains nothing. Raises the same PipelineErrors as the stage `prepare`.
    """
    from workers.ml import forecast

    warnings: list[str] = []
    prepared = tabular.prepare(run.data, warnings.append)
    schema, folds = prepared.schema, _fold_count(run, prepared.train, warnings.append)
    start = _start(run, prepared)
    searches = start is None or isinstance(start, str)
    fits = run.params.optuna_trials * folds + 1 if searches else 1
    return {
        "rows": run.data.counts(),
        "labels": tabular.shares(prepared.train, prepared.head.labels),
        "columns": {"numeric": len(schema.numeric), "categorical": len(schema.categorical)},
        "stages": list(PIPELINE.stages),
        "parameters": run.params.model_dump(mode="json"),
        "fits": fits,
        **forecast.cost(prepared.train, fits),
        "warnings": warnings + forecast.doubts(prepared, run.params.class_weight, run.params.resampling),
    }


def _start(run: Run, prepared: "Prepared") -> "Start | str | None":
    """What to start from; None where nobody asked for it, or why it cannot be."""
    from workers.ml.incremental import start_of

    if run.base is None:
        return None
    start = start_of(run.base, prepared.schema, _families(run))
    if isinstance(start, str):
        run.log(f"trains in full, and not from version {run.base.version}: {start}")
    return start


def _go_on(run: Run, prepared: "Prepared", start: "Start") -> Candidate:
    """The family and the hyperparameters of the active version, from its parameters: nothing is searched."""
    with run.stage("search"):
        assert run.base is not None
        run.log(f"starts from version {run.base.version}: {start.choice}")

    with run.stage("fit"):
        model = _learn_on(run, prepared, start)

    with run.stage("threshold"):
        schema = _with_threshold(run, prepared, model)

    with run.stage("export"):
        metrics = _export(run, prepared, model, schema)

    return Candidate("onnx", run.folder, metrics, _details(start.choice, []))


def _learn_on(run: Run, prepared: "Prepared", start: "Start") -> "Model":
    from dataclasses import replace

    from workers.ml.estimator import NotConverged
    from workers.ml.fitting import go_on
    from workers.ml.incremental import EPOCHS

    recipe = _recipe(run, start.choice, report_epochs=True)
    short = replace(recipe, effort=replace(recipe.effort, epochs=min(EPOCHS, recipe.effort.epochs)))
    try:
        return go_on(prepared.train, prepared.validation, short, start.encoding, start.parameters)
    except NotConverged as error:
        raise PipelineError(
            "not_converged",
            f"Training did not settle from the active version: {error}.",
            "Trigger it once with strategy full, or set another training.learning_rate.",
        ) from error


def _search(run: Run, examples: "Examples") -> "list[Trial]":
    from workers.ml.estimator import NotConverged
    from workers.ml.fitting import cross_validate, folds
    from workers.ml.search import Checkpoint, search

    families, count = _families(run), run.params.optuna_trials
    splits = list(folds(examples, _fold_count(run, examples, run.log), run.seed, run.data.time_ordered))
    checkpoint = Checkpoint(run.checkpoints / "trials.json", _fingerprint(run))
    if done := len(checkpoint.load()):
        run.log(f"{done} trials of an earlier attempt are taken over")

    def evaluate(number: int, choice: "Choice") -> float | None:
        name = f"trial {number + 1}/{count}: {choice.family}"

        def on_fold(fold: int) -> None:
            run.progress((number + fold / len(splits)) / count, f"{name}, fold {fold + 1}/{len(splits)}")

        try:
            score = cross_validate(examples, _recipe(run, choice), splits, on_fold)
        except NotConverged as error:
            run.log(f"{name} did not converge: {error}")
            return None
        run.metric("cv_auc_roc", score, number)
        run.log(f"trial {number + 1}/{count}: {choice}, AUC-ROC {score:.4f}")
        return score

    return search(families, count, run.seed, checkpoint, evaluate)


def _best_of(trials: "list[Trial]") -> "tuple[Choice, float]":
    # By AUC-ROC: it knows no threshold, which is chosen later, does not change with the share of the
    # positives, is defined for many classes, and the gate holds the candidate to it.
    scored = [(trial.choice, trial.score) for trial in trials if trial.score is not None]
    if not scored:
        raise PipelineError(
            "not_converged",
            f"None of the {len(trials)} trials converged.",
            "Raise training.epochs, set another training.learning_rate, or add to training.families.",
        )
    return max(scored, key=lambda scored_choice: scored_choice[1])


def _fit(run: Run, examples: "Examples", chosen: "Choice") -> "Model":
    from workers.ml.estimator import NotConverged
    from workers.ml.fitting import fit

    run.log(f"fitting {chosen} on all {len(examples)} training rows")
    try:
        return fit(examples, _recipe(run, chosen, report_epochs=True))
    except NotConverged as error:
        raise PipelineError(
            "not_converged",
            f"The best trial converged in every fold, and not on all training rows: {error}.",
            "Raise training.epochs or set another training.learning_rate.",
        ) from error


def _with_threshold(run: Run, prepared: "Prepared", model: "Model") -> "InputSchema":
    if len(prepared.head.labels) > 2:
        return prepared.schema
    from workers.ml.threshold import choose

    validation = prepared.validation
    scores = model.probabilities(validation.batch)[:, 1].astype(np.float32)
    chosen = choose(scores, validation.classes == 1, run.gate.criteria_of(prepared.head.name))
    run.log(
        f"threshold {chosen.value:.4f}: precision {chosen.precision:.3f}, recall {chosen.recall:.3f}, "
        f"F1 {chosen.f1:.3f} on {len(validation)} validation rows"
    )
    head = prepared.head.model_copy(update={"threshold": chosen.value})
    return prepared.schema.model_copy(update={"heads": (head,)})


def _export(run: Run, prepared: "Prepared", model: "Model", schema: "InputSchema") -> dict[str, float]:
    from app.runtimes.onnx import load
    from workers.ml import export
    from workers.ml.profile import profile
    from workers.ml.scoring import figures

    validation = prepared.validation
    export.write(run.folder, export.to_onnx(model, len(schema.heads[0].labels)), schema, validation.batch)
    prediction = export.check_parity(model, load(run.folder), validation.batch)
    reference = profile(schema, prepared.train.batch, [prepared.train.classes], [prediction])
    (run.folder / "profile.json").write_bytes(orjson.dumps(reference))
    return figures(validation.classes, prediction.indices, prediction.probabilities)


def _families(run: Run) -> "dict[str, Family]":
    from workers.ml.families import FAMILIES

    families = {name: FAMILIES[name] for name in run.params.families}
    if "mlp" in families and run.params.learning_rate is not None:
        families["mlp"] = families["mlp"].fixing(learning_rate=run.params.learning_rate)
    return families


def _recipe(run: Run, choice: "Choice", report_epochs: bool = False) -> "Recipe":
    from workers.ml.fitting import Balance, Recipe

    balance = Balance(run.params.class_weight, run.params.resampling)
    return Recipe(_families(run)[choice.family], choice.hyperparameters, balance, _effort(run, report_epochs))


def _effort(run: Run, report_epochs: bool) -> "Effort":
    from workers.ml.estimator import Effort

    def on_epoch(epoch: int, training_loss: float, stopping_loss: float) -> None:
        if report_epochs:
            run.metric("training_loss", training_loss, epoch)
            run.metric("stopping_loss", stopping_loss, epoch)
            run.progress((epoch + 1) / run.params.epochs, f"epoch {epoch + 1}/{run.params.epochs}")

    return Effort(
        epochs=run.params.epochs,
        patience=run.params.early_stopping_patience,
        batch_size=run.params.batch_size,
        accumulation=round(1 / run.memory_scale),
        seed=run.seed,
        on_epoch=on_epoch,
    )


def _fold_count(run: Run, examples: "Examples", log: Callable[[str], None]) -> int:
    asked: int = run.params.cv_folds
    rarest = int(np.bincount(examples.classes).min())
    if rarest < asked:
        log(f"{rarest} folds, not {asked}: the rarest class has {rarest} training rows")
    return min(asked, rarest)


def _fingerprint(run: Run) -> str:
    depends_on = {"data": run.data.digest, "params": run.params.model_dump(mode="json"), "seed": run.seed}
    return hashlib.sha256(orjson.dumps(depends_on, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _described(prepared: "Prepared") -> str:
    schema = prepared.schema
    return (
        f"{len(prepared.train)} training and {len(prepared.validation)} validation rows, "
        f"{len(schema.numeric)} numeric and {len(schema.categorical)} categorical columns, "
        f"labels {tabular.shares(prepared.train, prepared.head.labels)}"
    )


def _details(chosen: "Choice", trials: "list[Trial]") -> dict[str, Any]:
    return {
        "family": chosen.family,
        "hyperparameters": dict(chosen.hyperparameters),
        "trials": [
            {
                "family": t.choice.family,
                "hyperparameters": dict(t.choice.hyperparameters),
                "cv_auc_roc": t.score,
            }
            for t in trials
        ],
    }


PIPELINE = Pipeline(
    name="classifier",
    summary="Numbers and names to the probability of each label: boosting, logistic regression or an MLP.",
    queue="cpu",
    params=ClassifierParams,
    stages={"prepare": 0.02, "search": 0.83, "fit": 0.1, "threshold": 0.01, "export": 0.04},
    train=train,
    plan=plan,
    incremental=True,
)
