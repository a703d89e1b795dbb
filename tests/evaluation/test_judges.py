"""A judge is asked with the rubric, about each answer by itself, and its scores come back in the answers' order."""

import json

import pytest

from app.data.endpoint import EndpointDown, NoAnswer
from app.evaluation.judges import Item, JudgeOptions, judge
from tests.language_models import Body, Reply, scripted

RUBRIC = "1: kind and to the point. 0: neither. Braces as in {this} are nothing special."


def item(answer: str) -> Item:
    return [{"role": "user", "content": "My cat died."}], "I am sorry.", answer


def options(url: str, **changes: object) -> JudgeOptions:
    return JudgeOptions.model_validate({"url": url, "model": "judge", "rubric": RUBRIC, "attempts": 2} | changes)


def by_what_it_reads(_: int, body: Body) -> Reply:
    """0.9 for an answer that is sorry; the first one asked answers last."""
    answer = json.loads(body["messages"][-1]["content"])["answer"]
    return Reply(json.dumps({"score": 0.9 if "sorry" in answer else 0.1}), seconds=0.2 if "sorry" in answer else 0.0)


async def test_scores_come_in_the_order_of_the_answers_and_the_judge_saw_all_it_needs() -> None:
    with scripted(by_what_it_reads) as model:
        assert await judge(options(model.url), [item("So sorry."), item("Next."), item("Whatever.")]) == [0.9, 0.1, 0.1]
    asked = {tuple(message["content"] for message in body["messages"]) for body in model.asked}
    assert len(asked) == 3
    for system, shown in asked:
        assert RUBRIC in system
        assert json.loads(shown)["conversation"] == [{"role": "user", "content": "My cat died."}]
        assert json.loads(shown)["reference"] == "I am sorry."


async def test_what_is_no_score_is_asked_for_again_and_is_never_taken() -> None:
    with scripted(lambda n, _: Reply('{"score": 7}' if n == 0 else '{"score": 1}')) as model:
        assert await judge(options(model.url), [item("a")]) == [1.0]
    with scripted(lambda *_: Reply('{"score": 7}')) as model, pytest.raises(NoAnswer, match="does not fit"):
        await judge(options(model.url), [item("a")])


async def test_a_judge_that_is_down_is_named_and_the_rest_is_not_asked_on() -> None:
    with (
        scripted(lambda *_: Reply(status=401)) as model,
        pytest.raises(EndpointDown, match=r"judge at .* did not answer"),
    ):
        await judge(options(model.url, concurrency=1), [item(str(number)) for number in range(50)])
    assert len(model.asked) < 5
