"""A model as transformers computes it, in fp32: what its merge, its export and its answers are held against."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from app.runtimes.chat import Conversation
from workers.llm import tokenizer as tokenizers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reference:
    model: Any
    tokenizer: Any
    stop: list[int]  # the tokens that end an answer

    def prompt(self, conversation: Conversation) -> list[int]:
        """Token ids of the rendered conversation, up to where the answer begins."""
        ids: list[int] = self.tokenizer.apply_chat_template(
            list(conversation), add_generation_prompt=True, return_dict=False
        )
        return ids

    def logits(self, tokens: Sequence[int], last: int = 1) -> "Tensor":
        """(last, vocabulary) float32: what comes behind each of the last tokens."""
        import torch

        with torch.inference_mode():
            told: Tensor = self.model(torch.tensor([list(tokens)])).logits[0, -last:].float().clone()
        return told

    def greedy(self, tokens: Sequence[int], count: int, seconds: float | None = None) -> list[int]:
        """The likeliest answer, up to `count` tokens, without the one that ends it."""
        import torch

        asked = torch.tensor([list(tokens)])
        with torch.inference_mode():
            told = self.model.generate(
                input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=count, max_time=seconds
            )
        answer: list[int] = told[0, len(tokens) :].tolist()
        return answer[:-1] if answer and answer[-1] in self.stop else answer

    def text(self, tokens: Sequence[int]) -> str:
        told: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return told


@contextmanager
def loaded(folder: Path) -> Iterator[Reference]:
    """The model in `folder`, on the CPU; 4 bytes a parameter, freed in the end."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    yield of(model, AutoTokenizer.from_pretrained(folder))
    del model
    gc.collect()


def of(model: Any, tokenizer: Any) -> Reference:
    """Its own way of sampling, which the configuration may bring along, is put aside: answers are greedy."""
    from transformers import GenerationConfig

    ends = tokenizers.ends(tokenizer, model.generation_config.eos_token_id)
    stop: list[int] = tokenizer.convert_tokens_to_ids(ends)
    pad = stop[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = cast("Any", GenerationConfig)(do_sample=False, eos_token_id=stop, pad_token_id=pad)
    return Reference(model.eval(), tokenizer, stop)
