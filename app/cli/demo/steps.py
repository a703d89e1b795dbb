"""The steps of the demo, in the order in which they are told."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app.cli.client import Api, Json
from app.cli.demo import data
from app.cli.demo.data import Biopsy
from app.cli.demo.story import Story
from app.cli.demo.traffic import predict_each, traffic
from app.cli.failures import Exit, Failure
from app.cli.following import changes, failure_of, patient
from app.cli.gate_table import gate_table, judged_on
from app.cli.output import table
from app.cli.progress import Job, progress, seconds_of

MODEL = "breast-cancer"
FIRST_ROWS = 400
CALLERS = 100
WAIT_SECONDS = 60.0
JOB_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 0.2
INDENT = 5


def tell_all(story: Story, api: Api, file: Path, rows: Sequence[Biopsy]) -> Json:
    """From the definition to the history. Returns the figures of the last line."""
    # The first version has never seen who asks it.
    asked = rows[-CALLERS:]
    data.write(file, rows[:FIRST_ROWS])
    _define(story, api, file)
    first = _train(
        story, api, f"Version 1 is trained on {FIRST_ROWS} labelled rows, and judged", "hist_gradient_boosting"
    )
    _reload(story, api, 1)
    p99 = _predict(story, api, asked)

    data.write(file, rows)
    more = f"{len(rows) - FIRST_ROWS} new labelled rows arrive: version 2 is trained, and compared with version 1"
    second = _train(story, api, more, "logistic_regression")
    swap = _reload_under_traffic(story, api, [data.instance(row) for row in asked])
    _reload_again(story, api)
    _roll_back(story, api, data.instance(asked[0]))
    _show_history(story, api)
    return {"training_seconds": round(seconds_of(first) + seconds_of(second), 1), "p99_ms": round(p99, 2)} | swap


def _define(story: Story, api: Api, file: Path) -> None:
    story.step("A model is defined")
    definition = {
        "type": "classifier",
        "data": {"source": "file", "path": str(file), "key": "id", "label": "diagnosis", "positive": "malignant"},
        "prerequisites": {"min_new_samples": 100},
    }
    _until(lambda: api.get("/training/types"), "a worker that announces the type classifier")
    applied = api.put(f"/models/{MODEL}", definition)["definition"]
    story.tell(f"{MODEL}: {len(data.FEATURES)} measurements of a biopsy → malignant or benign, from {file.name}")
    split = applied["split"]
    story.tell(f"{split['holdout']:.0%} of the rows are held out to judge by: a hash of its id decides, and for ever")


def _train(story: Story, api: Api, title: str, family: str) -> Job:
    """Triggers and follows one job to its end. Raises Failure unless its version passed the gate."""
    story.step(title)
    asked = {"model": MODEL, "reason": "the demo", "params": {"families": [family]}}
    accepted = api.post("/training/trigger", asked)
    with progress() as show:
        for job in changes(patient(api), accepted["job_id"], JOB_SECONDS):
            show(job)
    if job["gate"]:
        gate_table(job["gate"], indent=INDENT)
        story.tell(f"{judged_on(job['gate'])}.")
    if failure := failure_of(job):
        raise failure
    story.expect(
        True, f"job {job['job_id']} made version {job['version']} in {seconds_of(job):.1f} s: {job['verdict']}"
    )
    return job


def _reload(story: Story, api: Api, version: int) -> Json:
    """Swaps `version` in once it stands by, and shows the receipts."""
    story.step(f"Version {version} is swapped in")
    _until(lambda: api.get("/model/slots", model=MODEL)["standby"] == version, f"version {version} in standby")
    story.tell(f"standby holds version {version}, loaded and smoke-tested by each replica before anything changes")
    answer: Json = api.post("/model/reload", {"model": MODEL, "reason": "the demo"})
    for receipt in answer["replicas"]:
        story.tell(
            f"receipt: {receipt['host']} answers with generation {receipt['served']} after {receipt['took_ms']} ms"
        )
    story.expect(answer["active"] == version and not answer["missing"], f"version {version} is active everywhere")
    return answer


def _predict(story: Story, api: Api, asked: Sequence[Biopsy]) -> float:
    """Asks for each row by itself. Returns the p99 in milliseconds."""
    story.step(f"{len(asked)} predictions")
    answers = predict_each(api, MODEL, [data.instance(row) for row in asked])
    right = sum(label == row[-1] for label, row in zip(answers.labels, asked, strict=True))
    story.tell(f"{right} of {len(asked)} biopsies that it has never seen are named rightly")
    story.expect(answers.in_bounds, "every score lies in [0, 1]")
    story.expect(answers.p99 < 1_000, f"p99 of a request is {answers.p99:.1f} ms; the runbook allows 1 s")
    return answers.p99


def _reload_under_traffic(story: Story, api: Api, asked: Sequence[Json]) -> Json:
    with traffic(api, MODEL, asked) as answers:
        _reload(story, api, 2)
    promise = f"{len(answers.scores)} requests came meanwhile: {answers.dropped} dropped"
    story.expect(answers.dropped == 0 and len(answers.scores) > 0, promise)
    last = predict_each(api, MODEL, asked[:1]).versions
    story.expect(last == [2], f"predictions are answered by version {last[0]}; version 1 stays warm in standby")
    return {"answered": len(answers.scores), "dropped": answers.dropped}


def _reload_again(story: Story, api: Api) -> None:
    story.step("A second reload must be refused")
    try:
        api.post("/model/reload", {"model": MODEL})
    except Failure as refusal:
        story.tell(refusal.message)
        story.expect(refusal.exit == Exit.CONFLICT, "refused, and nothing changed")
    else:
        story.expect(False, "the reload was refused")


def _roll_back(story: Story, api: Api, asked: Json) -> None:
    story.step("Something is wrong with version 2: rollback")
    answer = api.post("/model/rollback", {"model": MODEL, "reason": "the demo doubts version 2"})
    answered_by = predict_each(api, MODEL, [asked]).versions
    story.expect(
        answered_by == [1], f"predictions are answered by version {answered_by[0]} again, without a gate or a worker"
    )
    story.expect(bool(answer["hold_reason"]), f"held until a person lifts it: {answer['hold_reason']}")


def _show_history(story: Story, api: Api) -> None:
    story.step("Who changed what, and why, is kept")
    changes = reversed(api.pages("/model/history", 100, model=MODEL))
    names = ("at", "action", "active", "standby", "generation", "actor", "reason")
    table(names, [[change[name] for name in names] for change in changes], indent=INDENT)


def _until(happened: Callable[[], object], awaited: str) -> None:
    """Raises Failure where it does not happen within a minute."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise Failure(f"The demo waited {WAIT_SECONDS:.0f} s for {awaited}, in vain.", Exit.TIMED_OUT)
        time.sleep(LOOK_AGAIN_SECONDS)
