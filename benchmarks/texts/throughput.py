"""`python -m benchmarks.texts.throughput`: texts embedded a second, beside sentence-transformers' own `encode`.

Same texts, same cores, one process after the other in interleaved rounds; each process loads, embeds some texts to warm
up, and then embeds all of them, timed.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import progress, report, size
from benchmarks.texts import banking
from benchmarks.texts.encoder import minilm

TEXTS = 2_000
GOALS = {"fp32": (1.5, "least cosine", 0.9999), "int8": (3.0, "mean cosine", 0.99)}


@dataclass(frozen=True)
class Way:
    name: str
    threads: int


def main() -> None:
    cores, chosen = os.cpu_count() or 1, banking.rows("train")[:TEXTS]
    ways = [Way("sentence-transformers", cores), Way("fp32", cores), Way("int8", cores)]
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    with report("bench-texts") as told, tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps([row["text"] for row in chosen]))
        for number in range(size(5)):
            for way in ways:
                rates[way.name].append(run(way, texts, Path(folder)))
                progress(f"round {number + 1}: {way.name} {rates[way.name][-1]:.0f} texts/s")
        base = rates["sentence-transformers"]
        told.tell(f"{TEXTS} texts, {cores} cores: sentence-transformers {median(base):.0f} texts/s")
        expected = np.load(Path(folder) / "sentence-transformers.npy")
        for name, (goal, what, least) in GOALS.items():
            ratio = median(mine / theirs for mine, theirs in zip(rates[name], base, strict=True))
            alike = np.einsum("nd,nd->n", expected, np.load(Path(folder) / f"{name}.npy"))
            found = float(alike.min() if what == "least cosine" else alike.mean())
            told.tell(f"{name} {median(rates[name]):.0f} texts/s = {ratio:.2f} × ", ratio >= goal)
            told.tell(f"{what} {found:.5f}", found >= least)


def run(way: Way, texts: Path, folder: Path) -> float:
    """Texts a second, by a process of its own that leaves its embeddings behind."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(way.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
    command = [sys.executable, "-m", "benchmarks.texts.embedding", way.name, str(texts), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    minilm()
    main()
