"""Artifacts of format `llama_cpp`: model.gguf, answered by llama.cpp in a child process of each who loaded it.

model.gguf    the weights, read by mmap: several processes on one machine have them in memory once
card.json     Card; its chat template is the GGUF's own, or the artifact is refused
runtime.json  {context, at_once}: tokens of one answer with its prompt, and answers written side by side
schema.json, smoke.json
"""

import importlib.util
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from app.runtimes import _openai_client as openai
from app.runtimes._supervised import LlamaServer
from app.runtimes.chat import Card, Completion, Conversation, Likelihood, Sampling, Upstream, with_system
from app.runtimes.schema import InputSchema
from app.settings import settings

# To read weights from a slow disk; a file that cannot be read says so at once.
LOAD_SECONDS = 600.0
ALIAS = "version"
# Added to the logit of the token whose probability is asked for, so that it is the one that is drawn.
FORCED = 1e6
# Among so many of the likeliest tokens, and then among all that there are.
LOOKED_UP = (100, 10_000, 1_000_000)


class Runtime(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    context: int = Field(ge=16)
    at_once: int = Field(ge=1, le=64)


class LlamaCpp:
    """A version that llama.cpp answers for. Who drops the last reference to it ends its child process."""

    is_quick = False

    def __init__(self, server: LlamaServer, card: Card, runtime: Runtime, schema: InputSchema, smoke: list[Any]):
        self.card, self.schema, self.at_once = card, schema, runtime.at_once
        self._server, self._smoke = server, smoke
        self._end = weakref.finalize(self, server.stop)

    @property
    def upstream(self) -> Upstream:
        """Raises Down. After a crash it is another address."""
        headers = (("Authorization", f"Bearer {self._server.key}"),)
        return Upstream(f"{self._server.address}/v1", ALIAS, headers)

    @property
    def pid(self) -> int | None:
        """Of the child process, for whoever accounts for its memory."""
        return self._server.pid

    def complete(self, conversation: Conversation, sampling: Sampling) -> Completion:
        return openai.complete(self._server.http, self.upstream, self.card, conversation, sampling)

    def prompt_tokens(self, conversation: Conversation) -> list[int]:
        return self._tokens(self._rendered(conversation))

    def likelihood(self, conversation: Conversation, answer: str) -> Likelihood:
        """Of the text alone, without the token that would end it.

        llama-server tells the probability of a token that it draws, before any bias. So each token of the answer is
        forced by a bias, one request a token, and the prompt's cache grows by one token each time: about the cost of
        writing the answer.
        """
        prompt, nats = self._rendered(conversation), 0.0
        before, given = self._split(prompt, answer)
        for place, token in enumerate(given):
            nats -= self._log_probability(before + given[:place], token)
        return Likelihood(nats, len(given))

    def smoke_inputs(self) -> list[Any]:
        return self._smoke

    def close(self) -> None:
        self._end()

    def _rendered(self, conversation: Conversation) -> str:
        messages = with_system(conversation, self.card.system_prompt)
        prompt: str = self._ask("apply-template", {"messages": messages})["prompt"]
        return prompt

    def _tokens(self, text: str) -> list[int]:
        """As the server reads a chat: with the tokens that begin a text, and special ones read as such."""
        body = {"content": text, "add_special": True, "parse_special": True}
        tokens: list[int] = self._ask("tokenize", body)["tokens"]
        return tokens

    def _split(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """The prompt's tokens, and the answer's behind them. Where the two would share one, it is split between them,
        as it is in writing an answer.
        """
        before, whole = self._tokens(prompt), self._tokens(prompt + answer)
        if whole[: len(before)] == before:
            return before, whole[len(before) :]
        body = {"content": answer, "add_special": False, "parse_special": False}
        return before, self._ask("tokenize", body)["tokens"]

    def _log_probability(self, before: list[int], token: int) -> float:
        """A token that ends within a character is not told of when it is drawn: it is looked up beside another one."""
        for likeliest in (1, *LOOKED_UP):
            drawn = self._drawn(before, token if likeliest == 1 else self._ends_a_character, likeliest)
            told = drawn[0]["top_logprobs"] + [drawn[0]] if drawn else []
            if found := next((each for each in told if each["id"] == token), None):
                return float(found["logprob"])
        raise ValueError(f"llama.cpp does not tell how likely token {token} is")

    def _drawn(self, before: list[int], forced: int, likeliest: int) -> list[dict[str, Any]]:
        bias = {"logit_bias": [[forced, FORCED]], "temperature": 0}
        told = self._ask("completion", {"prompt": before, "n_predict": 1, "n_probs": likeliest, **bias})
        drawn: list[dict[str, Any]] = told.get("completion_probabilities", [])
        return drawn

    @cached_property
    def _ends_a_character(self) -> int:
        return self._tokens(".")[-1]

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = (("Authorization", f"Bearer {self._server.key}"),)
        return openai.post(self._server.http, f"{self._server.address}/{what}", headers, body)


def load(folder: Path) -> LlamaCpp:
    """The generator of the artifact in `folder`; waits until its server answers.

    Raises OSError for a missing file, and ValueError, with llama.cpp's own words, for weights that it cannot read, for
    a chat template other than the card's, or where xllamacpp is not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ValueError("llama.cpp is not installed here: pip install 'refit[llm]' brings xllamacpp")
    card = Card.model_validate_json((folder / "card.json").read_bytes())
    runtime = Runtime.model_validate_json((folder / "runtime.json").read_bytes())
    schema = InputSchema.model_validate_json((folder / "schema.json").read_bytes())
    smoke = orjson.loads((folder / "smoke.json").read_bytes())["rows"]
    weights = (folder / "model.gguf").resolve(strict=True)
    server = LlamaServer(
        {"model": str(weights), "alias": ALIAS, "threads": threads(), **runtime.model_dump()}, openai.client()
    )
    loaded = LlamaCpp(server, card, runtime, schema, smoke)
    try:
        server.first.result(LOAD_SECONDS)
        _same_template(loaded, server)
    except TimeoutError:
        loaded.close()
        raise ValueError(f"llama.cpp did not load model.gguf within {LOAD_SECONDS:.0f} s") from None
    except ValueError as error:
        loaded.close()
        raise ValueError(f"llama.cpp cannot serve model.gguf: {error}") from error
    return loaded


def threads() -> int:
    """Of one child: REFIT_LLAMA_THREADS, or half of the cores that this process may use."""
    return settings().llama_threads or max(1, len(os.sched_getaffinity(0)) // 2)


def _same_template(loaded: LlamaCpp, server: LlamaServer) -> None:
    headers = (("Authorization", f"Bearer {server.key}"),)
    told = openai.get(server.http, f"{server.address}/props", headers)
    if told.get("chat_template") != loaded.card.chat_template:
        raise ValueError("its chat template is not that of card.json, which the version was trained with")
