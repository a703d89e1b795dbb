"""Likelihoods by vLLM's protocol, as its documentation has it: nobody ran this against vLLM."""

from typing import Any

import httpx
import orjson
import pytest

from app.runtimes._vllm import likelihood
from app.runtimes.chat import Unsupported, Upstream
from tests.ggufs import asked, tiny_card

UPSTREAM = Upstream("http://vllm/v1", "tuned")


def told(prompt_logprobs: list[Any] | None) -> httpx.Client:
    """A server that says this of a prompt whose answer begins behind three tokens."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        continued = body.get("continue_final_message", False)
        assert (
            continued == (body["messages"][-1]["role"] == "assistant") == (body.get("add_generation_prompt") is False)
        )
        usage = {"prompt_tokens": 5 if continued else 3, "completion_tokens": 1}
        given = {"prompt_logprobs": prompt_logprobs} if continued else {}
        return httpx.Response(200, json={"choices": [], "usage": usage, **given})

    return httpx.Client(transport=httpx.MockTransport(answer))


def test_the_tokens_behind_the_prompt_are_the_answers() -> None:
    said = [None, *({str(token): {"logprob": -1.0, "rank": 1}} for token in range(2))]
    said += [{"7": {"logprob": -0.25, "rank": 1}}, {"8": {"logprob": -0.5, "rank": 2}}]
    with told(said) as http:
        found = likelihood(http, UPSTREAM, tiny_card(), asked("What is 2 plus 3?"), "5.")
    assert (found.nats, found.tokens) == (0.75, 2)


def test_a_server_that_leaves_them_out_cannot_tell() -> None:
    with told(None) as http, pytest.raises(Unsupported):
        likelihood(http, UPSTREAM, tiny_card(), asked("What is 2 plus 3?"), "5.")
