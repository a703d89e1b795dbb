"""What GRPO and RLOO are rewarded by, as TRL asks it: answers in, one number each out. What compares with a reference
is the evaluation's own metric, so that what is paid for is what is judged.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from app.data.endpoint import EndpointDown, NoAnswer
from app.evaluation import texts
from app.evaluation.judges import JudgeOptions, scores
from app.runtimes.chat import Conversation, Message
from workers.llm.params import Reward
from workers.pipeline import PipelineError

# By answer, and the answer that is known to be good.
Compared = Callable[[str, str], float]
# TRL's: prompts, completions, completion_ids and the data's other columns, all by name; one number a completion.
RewardFunction = Callable[..., list[float]]

COMPARED: dict[str, Compared] = {
    "exact_match": texts.exact_match,
    "token_f1": texts.token_f1,
    "number_match": lambda answer, reference: texts.number_match(answer, reference) or 0.0,
}


def needs_reference(reward: Reward) -> bool:
    return reward.function in COMPARED


def function_of(reward: Reward) -> RewardFunction:
    """Of rows with a column `reference`. A judge's raises PipelineError `judge_unreachable`."""
    if reward.function == "length":
        return _length(reward.target)
    if reward.function == "judge":
        return _judged(_options(reward))
    return _compared(COMPARED[reward.function])


def try_out(reward: Reward, prompt: Conversation, reference: str) -> None:
    """Before anything is loaded: a judge that is down says so now. Raises PipelineError `judge_unreachable`."""
    answer = [*prompt, Message(role="assistant", content=reference)]
    if reward.function == "judge":
        function_of(reward)(prompts=[prompt], completions=[answer], reference=[reference])


def _compared(compare: Compared) -> RewardFunction:
    def reward(completions: Sequence[Conversation], reference: Sequence[str], **_: Any) -> list[float]:
        return [compare(_text(told), wanted) for told, wanted in zip(completions, reference, strict=True)]

    return reward


def _length(target: int) -> RewardFunction:
    """1 at `target` tokens, falling evenly to 0 at none and at twice as many."""

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [max(0.0, 1 - abs(len(ids) - target) / target) for ids in completion_ids]

    return reward


def _judged(options: JudgeOptions) -> RewardFunction:
    def reward(
        prompts: Sequence[Conversation], completions: Sequence[Conversation], reference: Sequence[str], **_: Any
    ) -> list[float]:
        items = list(zip(prompts, reference, map(_text, completions), strict=True))
        try:
            told = asyncio.run(scores(options, items))
        except EndpointDown as error:
            raise _unreachable(error.message, error.remedy) from None
        known = [None if isinstance(score, NoAnswer) else score for score in told]
        return _without_gaps(known, [str(prompt) for prompt in prompts], options)

    return reward


def _without_gaps(scores: Sequence[float | None], prompts: Sequence[str], options: JudgeOptions) -> list[float]:
    """An answer without a score gets the mean of the others to its prompt, so that it moves the policy nowhere."""
    known = [told for told in scores if told is not None]
    if not known:
        raise _unreachable(
            f"The judge {options.model} at {options.url} gave none of {len(scores)} answers a score.",
            "Name a judge that can answer in JSON, or a plainer rubric, in training.preference.reward; then trigger "
            "again: a resumed job keeps the old definition.",
        )
    by_prompt: dict[str, list[float]] = {}
    for prompt, told in zip(prompts, scores, strict=True):
        by_prompt.setdefault(prompt, []).extend([] if told is None else [told])
    means = {prompt: _mean(told or known) for prompt, told in by_prompt.items()}
    return [means[prompt] if told is None else told for prompt, told in zip(prompts, scores, strict=True)]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _options(reward: Reward) -> JudgeOptions:
    return JudgeOptions.model_validate(reward.model_dump(include={"url", "model", "key", "rubric"}))


def _unreachable(message: str, remedy: str | None) -> PipelineError:
    return PipelineError("judge_unreachable", message, remedy or "Start the judge, then resume the job.")


def _text(completion: Conversation) -> str:
    return completion[-1]["content"]
