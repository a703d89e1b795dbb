"""What vLLM adds to OpenAI's protocol: likelihoods of a prompt's tokens."""

import httpx

from app.runtimes import _openai_client as openai
from app.runtimes.chat import Card, Conversation, Likelihood, Unsupported, Upstream, with_system


def likelihood(
    http: httpx.Client, upstream: Upstream, card: Card, conversation: Conversation, answer: str
) -> Likelihood:
    """As Generator.likelihood: the answer is given as the beginning of one, and its tokens are those behind the prompt.

    Raises Unsupported where the server leaves `prompt_logprobs` out, as OpenAI's own and llama.cpp's do.
    """
    url, messages = f"{upstream.url}/chat/completions", with_system(conversation, card.system_prompt)
    asked = {"model": upstream.model, "max_tokens": 1, "temperature": 0}
    continued = {"add_generation_prompt": False, "continue_final_message": True, "prompt_logprobs": 0}
    given = [*messages, {"role": "assistant", "content": answer}]
    try:
        told = openai.post(http, url, upstream.headers, {**asked, **continued, "messages": given})
    except ValueError as error:
        raise Unsupported(f"The server tells no likelihoods: {error}") from error
    if not (tokens := told.get("prompt_logprobs")):
        raise Unsupported("The server tells no likelihoods: its answer has no prompt_logprobs.")
    before = openai.post(http, url, upstream.headers, {**asked, "messages": messages})["usage"]["prompt_tokens"]
    nats = -sum(next(iter(token.values()))["logprob"] for token in tokens[before:])
    return Likelihood(nats, len(tokens) - before)
