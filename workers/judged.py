"""What declared judges say of answers. Their words cost money or hours, so each is asked for once."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from app.data.endpoint import Endpoint, EndpointDown, NoAnswer
from app.evaluation.judges import Item, JudgeOptions, score
from workers.ledger import Ledger
from workers.llm.params import Judge
from workers.pipeline import PipelineError, Run

# Of the answers a judge may leave so many without a fit score; with more its mean would be of those that it could read.
TOLERATED = 0.02


def options_of(judge: Judge) -> JudgeOptions:
    return JudgeOptions.model_validate(judge.model_dump())


def scores_of(run: Run, name: str, judge: JudgeOptions, items: Sequence[Item]) -> list[float | None]:
    """The score of each answer, 0 to 1; None where the judge has none to give.

    Raises PipelineError `judge_unreachable` where it is down; what it said is kept.
    """
    with Ledger(_path(run, judge)) as ledger:
        keys = [_key(item) for item in items]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in ledger}
        if missing:
            run.log(f"{name}: {judge.model} judges {len(missing)} of {len(items)} answers")
        try:
            asyncio.run(_ask(run, name, judge, missing, ledger))
        except EndpointDown as error:
            raise PipelineError("judge_unreachable", f"{name}: {error.message}", _remedy(run, name)) from error
        return [ledger[key] for key in keys]


def _remedy(run: Run, name: str) -> str:
    return (
        "Where the judge is down, start it and resume the job: answers and scores are kept. Where "
        f"training.evaluate.judges.{name} names it wrongly, {run.again('evaluate', 'publish')}."
    )


async def _ask(run: Run, name: str, judge: JudgeOptions, items: dict[str, Item], ledger: Ledger) -> None:
    async def one(key: str, item: Item) -> None:
        try:
            ledger.write(key, await score(endpoint, judge.rubric, item))
        except NoAnswer as error:
            run.log(f"{name}: an answer has no score, {error}")
            ledger.write(key, None)

    async with Endpoint(judge) as endpoint:
        asking = [asyncio.create_task(one(key, item)) for key, item in items.items()]
        try:
            for done, task in enumerate(asyncio.as_completed(asking), 1):
                await task
                run.progress(done / len(asking), f"{name}: {done} of {len(asking)} answers judged")
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


def unfit(scores: Sequence[float | None]) -> str | None:
    """Why the scores tell nothing of the whole."""
    lacking = sum(each is None for each in scores)
    if lacking <= TOLERATED * len(scores):
        return None
    return f"the judge had no fit score for {lacking} of {len(scores)} answers"


def _path(run: Run, judge: JudgeOptions) -> Path:
    told: dict[str, Any] = judge.asked() | {"rubric": judge.rubric}
    digest = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return run.checkpoints / "judged" / f"{digest[:32]}.jsonl"


def _key(item: Item) -> str:
    return hashlib.sha256(orjson.dumps([list(item[0]), item[1], item[2]])).hexdigest()
