"""`python -m benchmarks.texts.embedding WAY TEXTS FOLDER`: embeds all texts one way, prints texts a second."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.texts.encoder import minilm

WARM = 64
Embed = Callable[[Sequence[str]], Any]


def by_sentence_transformers() -> Embed:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm()), device="cpu")
    return lambda texts: model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def by_refit(precision: Literal["fp32", "int8"], shared: Path, texts: Sequence[str]) -> Embed:
    from app.runtimes.embedding import Encoder, EncoderRule
    from workers.ml import encoder_export, encoders

    source = encoders.find(str(minilm()))
    rule = EncoderRule(
        name=source.name,
        weights=source.weights,
        precision=precision,
        dimension=source.dimension,
        window=source.window,
        prefix="",
        long_texts="mean",
        pad=source.pad,
    )
    folder = encoder_export.export(source, rule, shared, texts, 1)
    return Encoder(folder, int(os.environ["OMP_NUM_THREADS"])).encode


def main() -> None:
    way, texts, folder = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    embed = by_sentence_transformers() if way == "sentence-transformers" else by_refit(way, folder, texts)  # type: ignore[arg-type]
    embed(texts[:WARM])
    began = time.perf_counter()
    embeddings = embed(texts)
    seconds = time.perf_counter() - began
    np.save(folder / f"{way}.npy", embeddings)
    print(len(texts) / seconds)


if __name__ == "__main__":
    main()
