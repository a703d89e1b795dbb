"""Stage `prepare`: the base model is there and whole, and conversations are token rows, those counted that do not fit.

Leaves `train.arrow` and `validation.arrow` (`tokens.TOKEN_ROWS`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from workers.llm import bases, modelfile, tokens
from workers.llm import card as cards
from workers.llm import tokenizer as tokenizers
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.llm.stages import Done
from workers.llm.tokens import Counts
from workers.llm.training import load_tokenizer, require_quantizable
from workers.pipeline import PipelineError, Run, SplitName

SPLITS: tuple[SplitName, ...] = ("train", "validation")


def depends_on(params: LlmParams) -> dict[str, Any]:
    used = effective(params)
    return bases.fingerprint(params) | {
        "system_prompt": used.system_prompt,
        "max_seq_length": used.max_seq_length,
        "early_stopping": used.early_stopping is not None,
    }


def work(run: Run, done: Mapping[str, Done], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the first has none before
    """Raises PipelineError: base_unavailable, chat_template_missing, chat_template_refuses, sequence_too_long,
    insufficient_data, rows_truncated, quantized_needs_gpu, modelfile_missing, modelfile_differs.
    """
    params = effective(run.params, run.memory_scale)
    require_quantizable(params)
    require_rows(run, params)
    base = bases.resolve(params, run.shared)
    require_context(params, base)
    tokenizer = load_tokenizer(base)
    template = tokens.load_template(tokenizer, params.base_model)
    require_modelfile(params, base, tokenizer)
    run.log(f"prepare: base {params.base_model} in {base}")
    counts = {split: Counts() for split in SPLITS}
    for place, split in enumerate(SPLITS):
        batches = rows_of(run, params, tokenizer, split, counts[split])
        tokens.written(folder / f"{split}.arrow", _told(run, place, split, batches))
    check(run, params, counts)
    return counts["train"].told() | {
        "validation": counts["validation"].told(),
        "base": params.base_model,
        "base_folder": str(base),
        "revision": bases.commit(params, base),
        "weights": bases.weights_digest(base),
        "chat_template": template,
    }


def rows_of(run: Run, params: LlmParams, tokenizer: Any, split: SplitName, counts: Counts) -> Iterator[pa.RecordBatch]:
    table = run.data.table(split)
    return tokens.token_rows(table, tokenizer, params.system_prompt, params.max_seq_length, counts)


def check(run: Run, params: LlmParams, counts: Mapping[SplitName, Counts]) -> None:
    """Says what was cut and left out. Raises PipelineError where nothing is left to learn from."""
    longest = params.max_seq_length
    for split, counted in counts.items():
        if counted.cut:
            run.log(f"rows_truncated: {counted.cut} of {counted.rows} {split} rows lost their end at {longest} tokens")
        if counted.left_out:
            rows = ", ".join(map(str, counted.examples))
            run.log(
                f"rows_truncated: {counted.left_out} {split} rows are left out, as {longest} tokens end before their"
                f" answer begins, or it is empty; the first ones: {rows}"
            )
    train = counts["train"]
    if train.rows == 0:
        raise PipelineError(
            "rows_truncated",
            f"All {train.left_out} training rows lose their whole answer at max_seq_length {longest}.",
            f"Raise training.max_seq_length (the longest row has {train.longest} tokens), or shorten the prompts.",
        )
    if params.early_stopping is not None and counts["validation"].rows == 0:
        raise _nothing_to_stop_by()


def require_rows(run: Run, params: LlmParams) -> None:
    """Raises PipelineError `insufficient_data`."""
    held = run.data.counts()
    if held.get("train", 0) == 0:
        raise PipelineError(
            "insufficient_data",
            f"The data version has {run.data.rows.num_rows} rows, and none of them to train on.",
            "Add conversations to the data source, or make split.validation and split.holdout smaller.",
        )
    if params.early_stopping is not None and held.get("validation", 0) == 0:
        raise _nothing_to_stop_by()


def require_context(params: LlmParams, base: Path) -> None:
    """Raises PipelineError `sequence_too_long`: beyond its positions a model has learnt nothing."""
    config = orjson.loads((base / "config.json").read_bytes())
    context = (config.get("text_config") or config).get("max_position_embeddings")
    if context is not None and params.max_seq_length > context:
        raise PipelineError(
            "sequence_too_long",
            f"max_seq_length is {params.max_seq_length}, and the base model reads {context} tokens.",
            f"Set training.max_seq_length to {context} or less.",
        )


def require_modelfile(params: LlmParams, base: Path, tokenizer: Any) -> None:
    """As `export` will, of what the base says already: hours of training lie in between.

    Raises PipelineError `modelfile_missing` and `modelfile_differs`.
    """
    if params.export.modelfile is None or "export" not in params.stages:
        return
    card = cards.of(base, tokenizer, params, weights="", parameters=0)
    modelfile.check(modelfile.read(params.export.modelfile), card, tokenizers.markers(tokenizer))


def _nothing_to_stop_by() -> PipelineError:
    return PipelineError(
        "insufficient_data",
        "Early stopping looks at validation rows, and none are there that fit.",
        "Leave training.early_stopping out, or raise split.validation.",
    )


def _told(run: Run, place: int, split: SplitName, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows, seen = run.data.counts().get(split, 0), 0
    for batch in batches:
        seen += tokens.AT_ONCE
        run.progress(
            (place + min(1.0, seen / max(rows, 1))) / len(SPLITS), f"{split} rows: {min(seen, rows)} of {rows}"
        )
        yield batch
