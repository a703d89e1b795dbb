"""Attempts from the published files to the verdict: candidate and incumbent answer through a real llama.cpp."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.data import snapshots
from app.evaluation import kept
from app.registry import artifacts
from tests.evaluation.llms import CUT, STAGES, active, attempts, leaves
from tests.ggufs import tiny_card
from tests.language_models import Body, Reply, scripted
from workers.pipeline import PipelineError

GOOD = tiny_card()
POOR = tiny_card(stop=("<|im_end|>", *CUT))


def outcome(found: dict[str, Any]) -> tuple[str, str | None]:
    return found["outcome"], found.get("gate", {}).get("verdict")


async def test_what_is_judged_are_the_published_files_and_every_answer_is_kept(tmp_path: Path) -> None:
    tutor = await attempts(tmp_path)
    found = tutor.run(leaves(GOOD))
    assert outcome(found) == ("candidate", "pass")
    version = found["version"]
    assert artifacts.verify(tmp_path, version["artifact"])[1].format == "llama_cpp"
    evaluation = kept.read(tmp_path, version["details"]["evaluation"])
    assert found["evaluation"] == version["details"]["evaluation"]
    assert (evaluation.artifact, evaluation.incumbent) == (version["artifact"], None)
    assert len(evaluation.salt) == 64
    holdout = snapshots.load(tmp_path, tutor.version, tutor.definition)
    assert len(evaluation.rows) == holdout.split.to_pylist().count("holdout") > 20
    right = [row.candidate.text == row.reference for row in evaluation.rows]
    assert version["metrics"]["exact_match"] == sum(right) / len(right) > 0.9
    assert {row.incumbent for row in evaluation.rows} == {None}
    assert set(evaluation.rows[0].beside) == {"risk"}
    assert version["metrics"]["validation_loss"] == 0.1
    stages = [each["name"] for each in tutor.heard if each["kind"] == "stage" and each["state"] == "finished"]
    assert stages == list(STAGES)


async def test_the_incumbent_answers_the_same_rows_and_a_loss_fails(tmp_path: Path) -> None:
    tutor = await attempts(tmp_path)
    good, poor = tutor.run(leaves(GOOD), job=1), tutor.run(leaves(POOR), job=2)
    tutor.incumbent, tutor.incumbents_data = active(poor), [tutor.version]
    better = tutor.run(leaves(GOOD), job=3)
    assert outcome(better) == ("candidate", "pass")
    row = kept.read(tmp_path, better["evaluation"]).rows[0]
    assert row.incumbent is not None
    assert (row.incumbent.text, row.candidate.text) == ("The", row.reference)
    tutor.incumbent = active(good)
    worse = tutor.run(leaves(POOR), job=4)
    assert outcome(worse) == ("candidate", "fail")
    told = worse["comparison"]["exact_match"]
    assert (told["candidate"], told["delta"]) == (0.0, -told["incumbent"])
    assert told["incumbent"] == better["metrics"]["exact_match"]


async def test_single_stages_leave_what_they_are_asked_for_and_no_more(tmp_path: Path) -> None:
    tutor = await attempts(tmp_path)
    assert tutor.run(leaves(), stages=["export"]) == {"outcome": "data"}
    assert tutor.heard[-1]["progress_note"].startswith("no version was asked for")
    alone = tutor.run(leaves(), stages=["evaluate"])
    assert outcome(alone) == ("evaluation", "pass")
    assert "version" not in alone
    assert kept.read(tmp_path, alone["evaluation"]).gate.verdict == "pass"
    assert outcome(tutor.run(leaves(), stages=["evaluate", "publish"])) == ("candidate", "pass")
    switched_off = await attempts(tmp_path, {"stages": ["sft", "merge", "export", "publish"]})
    unjudged = switched_off.run(leaves())
    assert outcome(unjudged) == ("candidate", "inconclusive")
    assert "switched the stage evaluate off" in unjudged["gate"]["reason"]


async def test_an_incumbent_that_cannot_be_loaded_is_no_reason_to_pass(tmp_path: Path) -> None:
    tutor = await attempts(tmp_path)
    tutor.incumbent, tutor.incumbents_data = active(tutor.run(leaves(POOR))), [tutor.version]
    (artifacts.folder_of(tmp_path, tutor.incumbent.artifact) / "card.json").unlink()
    (tmp_path / "checkpoints/7/answers" / f"{tutor.incumbent.artifact}.jsonl").unlink()
    found = tutor.run(leaves(GOOD))
    assert outcome(found) == ("candidate", "inconclusive")
    assert "the incumbent, version 1, cannot be loaded" in found["gate"]["reason"]
    assert found["metrics"]["exact_match"] > 0.9


async def test_rows_that_either_was_trained_on_judge_nothing(tmp_path: Path) -> None:
    tutor = await attempts(tmp_path, gate={"min_rows": 5})
    tutor.incumbent = active(tutor.run(leaves(POOR)))
    # What the incumbent learnt from held out fewer rows: most of ours it has seen.
    other = await attempts(tmp_path, split={"validation": 0.1, "holdout": 0.1})
    tutor.incumbents_data = [other.version]
    found = tutor.run(leaves(GOOD))
    trained = snapshots.load(tmp_path, other.version, other.definition)
    learnt = {
        p
        for p, side in zip(trained.rows["prompt"].to_pylist(), trained.split.to_pylist(), strict=True)
        if side != "holdout"
    }
    holdout = snapshots.load(tmp_path, tutor.version, tutor.definition)
    ours = {
        p
        for p, side in zip(holdout.rows["prompt"].to_pylist(), holdout.split.to_pylist(), strict=True)
        if side == "holdout"
    }
    asked = {json.dumps(row.messages, separators=(",", ":")) for row in kept.read(tmp_path, found["evaluation"]).rows}
    assert asked == ours - learnt
    assert found["gate"]["excluded"]["incumbent"] == len(ours & learnt) > 0


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.evaluation.llms import attempts, leaves
tutor = asyncio.run(attempts(Path(sys.argv[1]), {"evaluate": {"perplexity_rows": 8}}))
tutor.run(leaves())
"""


def test_a_killed_attempt_goes_on_with_the_answers_that_it_had(tmp_path: Path) -> None:
    training = {"evaluate": {"perplexity_rows": 8}}
    untouched = asyncio.run(attempts(tmp_path / "other", training)).run(leaves())
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ)
    answers = tmp_path / "checkpoints/7/answers"
    while not any(path.read_bytes().count(b"\n") >= 15 for path in answers.glob("*.jsonl")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [path] = answers.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-3])  # as if the last line had been cut
    had = len(path.read_bytes().splitlines()) - 1
    tutor = asyncio.run(attempts(tmp_path, training))
    found = tutor.run(leaves(), fence=2)
    told = re.search(r"(\d+) of (\d+) answers are to be written, (\d+) likelihoods", tutor.log)
    assert told is not None
    assert had >= 14
    assert int(told[1]) + int(told[3]) == int(told[2]) + 8 - had
    same = ("exact_match", "token_f1", "perplexity", "bleu")
    assert {n: found["metrics"][n] for n in same} == {n: pytest.approx(untouched["metrics"][n]) for n in same}


async def test_a_judge_that_is_down_is_named_and_asked_again_with_the_answers_kept(tmp_path: Path) -> None:
    def kind(_: int, body: Body) -> Reply:
        told = json.loads(body["messages"][-1]["content"])
        return Reply(json.dumps({"score": 0.75 if told["answer"] == told["reference"] else 0.25}))

    with scripted(lambda *_: Reply("", status=404)) as down:
        evaluate = {"judges": {"empathy": {"url": down.url, "model": "j", "rubric": "1: it comforts"}}}
        tutor = await attempts(
            tmp_path, {"evaluate": evaluate}, gate={"min_rows": 20, "criteria": {"empathy": {"min": 0.7}}}
        )
        with pytest.raises(PipelineError, match="empathy") as failed:
            await asyncio.to_thread(tutor.run, leaves())
    assert failed.value.code == "judge_unreachable"
    way_out = "mend the definition, then `refit trigger MODEL --stage evaluate --stage publish --from-job 7`"
    assert way_out in failed.value.remedy
    with scripted(kind) as up:
        tutor.definition.training["evaluate"]["judges"]["empathy"]["url"] = up.url
        found = await asyncio.to_thread(tutor.run, leaves(), fence=2)
        asked = len(up.asked)
        again = await asyncio.to_thread(tutor.run, leaves(), fence=3)
    assert outcome(found) == outcome(again) == ("candidate", "pass")
    assert found["metrics"]["empathy"] == pytest.approx(0.25 + found["metrics"]["exact_match"] / 2)
    assert asked == found["gate"]["rows"]
    assert (tutor.log.count("answers are to be written"), len(up.asked)) == (1, asked)
    evaluation = kept.read(tmp_path, found["evaluation"])
    assert evaluation.judges == {"empathy": {"url": up.url, "model": "j", "rubric": "1: it comforts"}}
