"""Truths 5, 8, 9 and 12: every batch is answered, by one version, the active one, and never by an older one."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from benchmarks.chaos.history import CUT_OFF, History, Operation, Prediction
from benchmarks.chaos.house import REPLICA_LEASE_SECONDS
from benchmarks.chaos.laws.slots import SWAPS
from benchmarks.chaos.laws.violation import Violation
from benchmarks.chaos.truth import Truth

SAME_SCORE = 1e-6


def every_batch_is_answered(history: History, _: Truth) -> Iterator[Violation]:
    """By every replica that was not killed, frozen or just starting at that time, whatever else was away."""
    for prediction in history.predictions:
        if prediction.status != 200 and not excused(history, prediction):
            yield Violation(f"{prediction.replica} answered {prediction.status} {prediction.code}", (prediction,))


def answers_name_what_was_active(history: History, truth: Truth) -> Iterator[Violation]:
    """The version was active under the generation."""
    active = {(change.model, change.generation): change.active for change in truth.changes}
    for prediction in _answered(history):
        if active.get((prediction.model, prediction.generation)) != prediction.version:
            yield Violation("an answer names a version that was not active under its generation", (prediction,))


def a_batch_has_one_version(history: History, truth: Truth) -> Iterator[Violation]:
    """Its scores are those of the version that it names, for every row."""
    sound: dict[tuple[tuple[str, int, int], bytes], bool] = {}
    for prediction in _answered(history):
        named = (prediction.model, prediction.version, prediction.batch)
        if (named, prediction.scores) not in sound:
            sound[named, prediction.scores] = _same(prediction.scores, truth.references.get(named, b""))
        if not sound[named, prediction.scores]:
            yield Violation("the scores are not those of the version named", (prediction,))


def generations_never_go_back(history: History, _: Truth) -> Iterator[Violation]:
    """Not at any replica, also not where it was started again."""
    latest: dict[tuple[str, str], Prediction] = {}
    for prediction in sorted(_answered(history), key=lambda p: p.sent):
        before = latest.setdefault((prediction.replica, prediction.model), prediction)
        if prediction.generation < before.generation and prediction.sent > before.done:
            yield Violation(f"{prediction.replica} went back", (before, prediction))
        elif prediction.generation >= before.generation:
            latest[prediction.replica, prediction.model] = prediction


def a_swap_is_true_everywhere(history: History, _: Truth) -> Iterator[Violation]:
    """After a 200 that names no replica as missing, nobody answers with an older generation without saying `stale`."""
    swapped = _acknowledged(history)
    times = {model: [operation.done for operation, _ in told] for model, told in swapped.items()}
    for prediction in _answered(history):
        known = bisect_left(times.get(prediction.model, []), prediction.sent)
        if known == 0 or prediction.stale:
            continue
        operation, generation = swapped[prediction.model][known - 1]
        if prediction.generation < generation:
            yield Violation(f"{prediction.replica} answered with an older generation", (operation, prediction))


def who_is_cut_off_says_so(history: History, _: Truth) -> Iterator[Violation]:
    """A replica that cannot reach Postgres says that its answers may be old once its lease has run out."""
    for window in (window for window in history.windows if window.why == CUT_OFF):
        for prediction in _answered(history):
            inside = prediction.sent > window.began + REPLICA_LEASE_SECONDS and prediction.done < window.ended
            if prediction.replica == window.who and inside and not prediction.stale:
                yield Violation(f"{window.who} was cut off and did not say so", (window, prediction))


def artifacts_are_whole(_: History, truth: Truth) -> Iterator[Violation]:
    """Every version's files are those that were published."""
    for what in truth.corrupt:
        yield Violation(what)


def excused(history: History, prediction: Prediction) -> bool:
    """Whether its replica was killed, frozen or starting while it was asked."""
    return any(
        window.who == prediction.replica and window.why != CUT_OFF and window.meets(prediction.sent, prediction.done)
        for window in history.windows
    )


def _answered(history: History) -> Iterator[Prediction]:
    return (prediction for prediction in history.predictions if prediction.status == 200)


def _acknowledged(history: History) -> dict[str, list[tuple[Operation, int]]]:
    """For each model the swaps that are true everywhere, by the time of their answer, with the newest generation."""
    told: dict[str, list[tuple[Operation, int]]] = defaultdict(list)
    settled = [o for o in history.operations if o.kind in SWAPS and o.status == 200 and not o.told["missing"]]
    for operation in sorted(settled, key=lambda o: o.done):
        newest = told[operation.asked["model"]]
        newest.append((operation, max(operation.told["generation"], newest[-1][1] if newest else 0)))
    return told


def _same(scores: bytes, reference: bytes) -> bool:
    one, other = np.frombuffer(scores), np.frombuffer(reference)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=SAME_SCORE))
