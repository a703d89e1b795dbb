"""Labels that arrive twice, at once, late, before their answer was written down, wrong, or for answers nobody gave."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from app.cli.client import Json
from app.cli.failures import Failure
from benchmarks.decisions import Figure
from benchmarks.decisions.live.traffic import Model
from benchmarks.service import until

ROWS, REQUESTS, SENDERS = 50, 6, 4
NOBODY = "0123456789abcdef" * 2


def arrive(model: Model) -> Iterator[Figure]:
    """Of an active version of which no label is known yet."""
    asked = [model.ask(ROWS) for _ in range(REQUESTS)]
    rows = ROWS * REQUESTS
    with ThreadPoolExecutor(SENDERS) as senders:
        told = list(senders.map(lambda _: model.tell(*asked), range(SENDERS)))
    early, twice = max(answer["pending"] for answer in told), sum(answer["duplicate"] for answer in told)
    until(lambda: model.states()["joined"] == rows, "every label to find its answer")
    counted = model.counted()
    sentence = f"{rows} labels sent {SENDERS} times at once, {early} of them before their answer was written down"
    yield Figure(f"{sentence}: {counted} counted, {twice} duplicates", (counted, twice) == (rows, 3 * rows))
    yield from _corrected(model, asked[0].feedback[0], rows)
    yield from _unknown(model, asked[0].request, rows)


def _corrected(model: Model, item: Json, rows: int) -> Iterator[Figure]:
    wrong = item | {"label": 1 - item["label"]}
    said = [model.service.api.post("/feedback", {"model": model.name, "feedback": [each]}) for each in (wrong, item)]
    corrected, counted = sum(answer["corrected"] for answer in said), model.counted()
    yield Figure(f"corrected and back: {counted} counted", (corrected, counted) == (2, rows))


def _unknown(model: Model, request: str, rows: int) -> Iterator[Figure]:
    """Of a block that was never written one may be late; an id that its block never gave is wrong at once."""
    nobody = {"request_id": NOBODY, "label": 1}
    waits = model.service.api.post("/feedback", {"model": model.name, "feedback": [nobody]})["pending"]
    mistyped = request[:-1] + ("0" if request[-1] != "0" else "1")
    code = "accepted"
    try:
        model.service.api.post("/feedback", {"model": model.name, "feedback": [nobody | {"request_id": mistyped}]})
    except Failure as failure:
        code = str(failure.document["code"])
    states, counted = model.states(), model.counted()
    right = (waits, code, states["pending"], counted) == (1, "invalid_feedback", 1, rows)
    yield Figure(f"of an unknown answer: pending, mistyped: {code}; {counted} counted", right)
