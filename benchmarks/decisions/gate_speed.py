"""What the gate's intervals cost: 2,000 resamples of 10,000 rows, of two classes and of ten, and with slices.

`python -m benchmarks.decisions.gate_speed 5` takes the median of five. Seconds are those of one core, of the process's
own time, so that what else runs on the machine does not count.
"""

from collections.abc import Iterator
from statistics import median
from time import process_time

import numpy as np
import pyarrow as pa

from app.gate.criteria import Criterion, Gate, Slice
from app.gate.evidence import Pool, results_of
from app.gate.measurement import Measured
from app.gate.metrics import point_estimates
from app.gate.questions import questions_of
from app.gate.tally import Answers, Integers
from benchmarks.decisions import Figure
from benchmarks.report import report, size

ROWS = 10_000
MOST_SECONDS = 1.0
DROP = Criterion(max_drop=0.02)
RUNBOOKS = Gate()
SLICED = Gate(slices=[Slice(column=name, criteria={"f1": DROP, "recall": DROP}) for name in ("shop", "age")])
OF_LATENCY = {"latency_p99_seconds": 0.0}


def measure(times: int) -> list[Figure]:
    return list(_figures(times))


def _figures(times: int) -> Iterator[Figure]:
    for classes in (2, 10):
        for gate, name in ((RUNBOOKS, "the runbook's criteria"), (SLICED, "and 24 slices")):
            took = median(_seconds(classes, gate) for _ in range(times))
            told = f"{classes} classes, {name}: {took:.2f} s for {gate.resamples} resamples of {ROWS} rows"
            yield Figure(told, took < MOST_SECONDS)


def _seconds(classes: int, gate: Gate) -> float:
    rng = np.random.default_rng(classes)
    truth = rng.integers(classes, size=ROWS)
    table = pa.table({"shop": rng.integers(20, size=ROWS), "age": rng.normal(size=ROWS)})
    pool = Pool(np.arange(ROWS), _measured(truth, classes, 1), _measured(truth, classes, 2))
    labels = tuple(range(classes))
    started = process_time()
    questions = questions_of(table, "y", str, gate, "confident", first=True)
    results_of(questions, pool, pool, labels, gate, seed=1)
    return process_time() - started


def _measured(truth: Integers, classes: int, seed: int) -> Measured:
    noise = np.random.default_rng(seed).normal(size=(len(truth), classes))
    scores = np.exp(noise + 2 * np.eye(classes)[truth])
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    answers = Answers(truth, probabilities.argmax(axis=1), probabilities)
    return Measured(answers, point_estimates(answers) | OF_LATENCY, 100)


if __name__ == "__main__":
    with report("gate-speed") as told:
        for figure in measure(size(5)):
            told.tell(figure.sentence, figure.holds)
