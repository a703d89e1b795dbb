"""What an answer is worth: by the known good one, by its length, or by a judge."""

import json

import pytest

from app.data import endpoint
from app.runtimes.chat import Message
from tests.language_models import Body, Reply, scripted
from workers.llm import rewards
from workers.llm.params import Reward
from workers.pipeline import PipelineError

QUESTION = [Message(role="user", content="How many?")]


def answered(text: str) -> list[Message]:
    return [Message(role="assistant", content=text)]


def judge(url: str) -> Reward:
    return Reward(function="judge", url=url, model="judge", rubric="1: kind. 0: not.")


@pytest.mark.parametrize(
    ("function", "answer", "reference", "worth"),
    [
        ("exact_match", "The  answer: 5!", "answer 5", 1.0),
        ("exact_match", "answer 6", "answer 5", 0.0),
        ("token_f1", "red green", "the red blue", 0.5),
        ("token_f1", "", "red", 0.0),
        ("number_match", "2 * 36 = 72, so\n#### 72", "…\n#### 72.00", 1.0),
        ("number_match", "#### $1,072", "it is 1072", 1.0),
        ("number_match", "#### 72\nand 3 more words", "#### 72", 1.0),
        ("number_match", "no idea", "no number either", 0.0),
        ("number_match", "8 - 3, or 8-3, is 5, not -5", "#### -5", 1.0),
        ("number_match", "page 5-3", "3", 1.0),
    ],
)
def test_an_answer_is_worth_what_it_shares_with_the_known_good_one(
    function: str, answer: str, reference: str, worth: float
) -> None:
    reward = rewards.function_of(Reward.model_validate({"function": function}))
    assert reward(prompts=[QUESTION], completions=[answered(answer)], reference=[reference], other=[1]) == [worth]


def test_length_counts_tokens_and_falls_to_both_sides() -> None:
    reward = rewards.function_of(Reward(function="length", target=4))
    assert reward(completion_ids=[[1] * tokens for tokens in (0, 2, 4, 6, 8, 99)]) == [0, 0.5, 1, 0.5, 0, 0]


def test_a_judge_is_asked_about_every_answer_and_one_it_cannot_score_counts_as_its_neighbours() -> None:
    def reply(_: int, body: Body) -> Reply:
        answer = json.loads(body["messages"][-1]["content"])["answer"]
        return Reply("nonsense" if answer == "odd" else json.dumps({"score": float(answer)}))

    with scripted(reply) as model:
        told = rewards.function_of(judge(model.url))(
            prompts=[QUESTION] * 3, completions=[answered(text) for text in ("0.2", "odd", "0.6")], reference=[""] * 3
        )
    assert told == pytest.approx([0.2, 0.4, 0.6])


def test_a_judge_that_is_down_or_never_gives_a_score_is_named_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_SECONDS", 0.0)
    with scripted(lambda *_: Reply("no score")) as model, pytest.raises(PipelineError, match="none of 1") as unfit:
        rewards.try_out(judge(model.url), QUESTION, "7")
    with pytest.raises(PipelineError, match="did not answer") as down:
        rewards.try_out(judge("http://127.0.0.1:9"), QUESTION, "7")
    assert (down.value.code, unfit.value.code) == ("judge_unreachable",) * 2
    assert "resume" in down.value.remedy
