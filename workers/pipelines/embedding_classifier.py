"""The model type `embedding_classifier`: texts → the probability of each label, of one column or several. Runbook 001.

An encoder turns each text into an embedding, and a logistic regression for each label column tells the labels apart.
The encoder is taken as it is; its embeddings are computed by the very files that will be served, and kept for the next
training. Optuna chooses the strength of the regularisation by stratified cross-validation on the training rows; the
validation rows choose thresholds and supply figures. An incremental training searches nothing: each head
goes on from the active version's.
"""

from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field

from workers.ml import memory
from workers.pipeline import Candidate, Params, Pipeline, Run

if TYPE_CHECKING:
    from app.runtimes.embedding import Embeddings, Encoder
    from app.runtimes.schema import InputSchema
    from workers.ml.heads import Task, Trained
    from workers.ml.published import Layer
    from workers.ml.texts import Prepared


class EmbeddingClassifierParams(Params):
    """The defaults are the runbook's where it names one."""

    encoder: str = Field(
        "nomic-ai/nomic-embed-text-v2-moe", description="a Hugging Face id, or the absolute path of a local folder"
    )
    encoder_revision: str | None = Field(None, description="branch, tag or commit of the encoder; unset: its newest")
    trust_remote_code: bool = Field(
        False, description="run the code beside the encoder's weights, on the worker; needs encoder_revision of the hub"
    )
    prefix: str | None = Field(None, description="put before every text; unset: what the encoder is known to want")
    window: int | None = Field(
        None, ge=8, le=8_192, description="tokens read at once; unset: as many as the encoder can"
    )
    long_texts: Literal["head", "head_tail", "mean"] = Field(
        "mean", description="of a text beyond the window: its beginning, beginning and end, or the mean of all windows"
    )
    precision: Literal["fp32", "int8"] = Field(
        "fp32", description="of the encoder; int8 is faster and a little coarser"
    )
    optuna_trials: int = Field(6, ge=1, le=500, description="strengths of regularisation that are tried, each head")
    cv_folds: int = Field(3, ge=2, le=20, description="folds of the stratified cross-validation that scores a trial")
    class_weight: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: every class counts alike in the loss, however rare"
    )


@memory.named_when_exhausted()
def train(run: Run) -> Candidate:
    """Raises PipelineError: unsupported_column, insufficient_data, data_imbalance, encoder_unavailable,
    encoder_incomplete, encoder_unsupported, not_converged, out_of_memory, export_mismatch."""
    from workers.ml import texts

    with run.stage("prepare"):
        prepared = texts.prepare(run.data, run.log)
        run.log(f"{len(prepared.train)} training texts, {texts.lengths(prepared.train.texts)}")

    with run.stage("encoder"):
        encoder = _encoder(run, prepared)

    with run.stage("embed"):
        train_rows = _embed(run, encoder, prepared.train, 0.0, "training")
        validation_rows = _embed(run, encoder, prepared.validation, 0.8, "validation")

    with run.stage("heads"):
        tasks = _tasks(prepared, train_rows, validation_rows)
        starts = _starts(run, prepared, encoder)
        if isinstance(starts, dict):
            trained = [_go_on(run, task, *starts[task.head.name]) for task in tasks]
        else:
            trained = [_train_head(run, task, place, len(tasks)) for place, task in enumerate(tasks)]

    with run.stage("export"):
        schema = prepared.schema.model_copy(update={"heads": tuple(each.head for each in trained)})
        metrics = _export(run, prepared, trained, schema, validation_rows)

    full_because = starts if isinstance(starts, str) else None
    return Candidate("embedding", run.folder, metrics, _details(encoder, trained), full_because)


def plan(run: Run) -> dict[str, Any]:
    """What a training would do, for a dry run: counts, effective parameters, what there is to embed.

    Trains nothing, and fetches no encoder. Raises the same PipelineErrors as the stage `prepare`.
    """
    from workers.ml import texts

    warnings: list[str] = []
    prepared = texts.prepare(run.data, warnings.append)
    return {
        "rows": run.data.counts(),
        "labels": {head.name: list(head.labels) for head in prepared.schema.heads},
        "texts": {"different": len({*prepared.train.texts, *prepared.validation.texts})},
        "characters": sum(map(len, {*prepared.train.texts, *prepared.validation.texts})),
        "stages": list(PIPELINE.stages),
        "parameters": run.params.model_dump(mode="json"),
        # What becomes of a base is known once there is the encoder: this is the most that may be to do.
        "fits": len(prepared.schema.heads) * (run.params.optuna_trials * run.params.cv_folds + 1),
        "warnings": warnings,
    }


def _encoder(run: Run, prepared: "Prepared") -> "Encoder":
    from app.runtimes.embedding import Encoder, EncoderRule
    from workers.ml import encoder_export, encoders

    source = encoders.find(run.params.encoder, run.params.encoder_revision, with_code=run.params.trust_remote_code)
    rule = EncoderRule(
        name=source.name,
        weights=source.weights,
        precision=run.params.precision,
        dimension=source.dimension,
        window=min(run.params.window or source.window, source.window),
        prefix=encoders.prefix_of(source.name) if run.params.prefix is None else run.params.prefix,
        long_texts=run.params.long_texts,
        pad=source.pad,
    )
    run.log(
        f"encoder {source.name}: {rule.dimension} dimensions, {rule.window} tokens, {rule.precision}, "
        f"{source.pooling} pooling, prefix {rule.prefix!r}, weights {source.weights[:12]}"
    )
    made = encoder_export.export(source, rule, run.shared, prepared.train.texts, run.threads)
    encoder_export.link(made, run.folder)
    return Encoder(run.folder, run.threads)


def _embed(run: Run, encoder: "Encoder", rows: Any, share: float, name: str) -> "Embeddings":
    """By the files of the artifact, so that the heads learn from what they will be asked with."""
    from workers.ml.embeddings import embed

    def on_progress(done: int, of: int) -> None:
        weight = 0.8 if share == 0 else 0.2
        run.progress(share + weight * done / of, f"{done}/{of} {name} texts")

    embeddings, computed = embed(rows.texts, encoder, run.shared / "embeddings", on_progress)
    run.log(f"{len(rows.texts)} {name} texts: {computed} embedded, the others were known")
    run.metric(f"{name}_texts_embedded", computed, 0)
    return embeddings


def _tasks(prepared: "Prepared", train: "Embeddings", validation: "Embeddings") -> "list[Task]":
    from workers.ml.heads import Rows, Task

    every = zip(prepared.schema.heads, prepared.train.classes, prepared.validation.classes, strict=True)
    return [
        Task(head, Rows.labelled(train, learnt), Rows.labelled(validation, chosen)) for head, learnt, chosen in every
    ]


def _starts(run: Run, prepared: "Prepared", encoder: "Encoder") -> "dict[str, tuple[Layer, float]] | str | None":
    """What each head starts from; None where nobody asked for it, or why it cannot be."""
    from workers.ml.incremental import starts_of

    if run.base is None:
        return None
    starts = starts_of(run.base, prepared.schema, encoder.rule)
    number = run.base.version
    told = f"trains in full, and not from version {number}: {starts}" if isinstance(starts, str) else None
    run.log(told or f"starts from the heads of version {number}")
    return starts


def _go_on(run: Run, task: "Task", layer: "Layer", regularisation: float) -> "Trained":
    """With the active version's regularisation, from its weights: nothing is searched."""
    from workers.ml import heads

    trained = heads.go_on(
        task,
        layer,
        regularisation=regularisation,
        class_weight=run.params.class_weight,
        seed=run.seed,
        criteria=run.gate.criteria_of(task.head.name),
    )
    run.log(f"{task.head.name}: {trained.described}")
    return trained


def _train_head(run: Run, task: "Task", place: int, count: int) -> "Trained":
    from workers.ml import heads

    def on_trial(number: int, regularisation: float, score: float | None) -> None:
        run.progress((place + (number + 1) / run.params.optuna_trials) / count, f"{task.head.name}: trial {number + 1}")
        if score is not None:
            run.metric(f"{task.head.name}_{task.metric}", score, number)
        run.log(
            f"{task.head.name}: C {regularisation:.3g}, {task.metric} {'not converged' if score is None else score}"
        )

    trained = heads.train(
        task,
        trials=run.params.optuna_trials,
        folds=run.params.cv_folds,
        class_weight=run.params.class_weight,
        seed=run.seed,
        time_ordered=run.data.time_ordered,
        criteria=run.gate.criteria_of(task.head.name),
        checkpoint=run.checkpoints / f"head-{place}.json",
        depends_on={"data": run.data.digest, "params": run.params.model_dump(mode="json")},
        on_trial=on_trial,
    )
    run.log(f"{task.head.name}: {trained.described}")
    return trained


def _export(
    run: Run, prepared: "Prepared", trained: "list[Trained]", schema: "InputSchema", embeddings: "Embeddings"
) -> dict[str, float]:
    """heads.onnx and what lies beside it; the published files answer the validation rows as training does."""
    from app.runtimes.embedding import load
    from workers.ml import heads
    from workers.ml.profile import profile

    heads.write(run.folder, trained, schema, prepared.validation.texts)
    published = load(run.folder)
    predictions = published.decide(embeddings)
    heads.check_parity(trained, predictions, embeddings)
    heads.check_embeddings(published, prepared.validation.texts, embeddings)
    known = [classes[classes >= 0] for classes in prepared.train.classes]
    reference = profile(schema, prepared.train.batch(), known, predictions)
    (run.folder / "profile.json").write_bytes(orjson.dumps(reference))
    return heads.figures(schema, prepared.validation.classes, predictions)


def _details(encoder: "Encoder", trained: "list[Trained]") -> dict[str, Any]:
    return {
        "encoder": encoder.rule.model_dump(mode="json"),
        "heads": {each.head.name: each.details() for each in trained},
    }


PIPELINE = Pipeline(
    name="embedding_classifier",
    summary="Texts to the probability of each label: an encoder's embeddings and logistic regression.",
    queue="cpu",
    params=EmbeddingClassifierParams,
    stages={"prepare": 0.02, "encoder": 0.1, "embed": 0.5, "heads": 0.33, "export": 0.05},
    train=train,
    plan=plan,
    incremental=True,
)
