"""Whether the GGUF, as it is served, is the merged model: the same prompts as token ids, and the same greedy answers.

Quantization moves every logit a little, so that two tokens which the merged model holds for about equally likely may
change places. Such a difference is accepted where the merged model's own logits for the two lie within TIE of the range
of its logits, and is counted; what follows it cannot be compared. Any other difference fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.runtimes import Generator
from app.runtimes.chat import GREEDY, Completion, Conversation
from workers.llm.reference import Reference
from workers.pipeline import PipelineError

# As shares of the logits' range; whatever the weights are, llama.cpp keeps its cache of attention in f16.
TIE = {"f32": 0.005, "f16": 0.005, "bf16": 0.005, "q8_0": 0.02}
# What a decoder puts for the bytes of a character that was cut.
CUT = "\ufffd"


@dataclass(frozen=True)
class Difference:
    """At which token of which prompt the two part; `gap` is a share of the range of the merged model's logits."""

    prompt: int
    position: int
    merged: str
    exported: str
    gap: float


def check(
    exported: Generator,
    merged: Reference,
    conversations: Sequence[Conversation],
    tokens: int,
    quantization: str,
    on_prompt: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """How many prompts and tokens agreed, and the ties. Raises PipelineError `export_mismatch`."""
    ties: list[Difference] = []
    compared = 0
    for place, conversation in enumerate(conversations):
        asked = merged.prompt(conversation)
        _same_prompt(place, merged, asked, exported.prompt_tokens(conversation))
        answer = merged.greedy(asked, tokens)
        told = exported.complete(conversation, GREEDY.model_copy(update={"max_tokens": tokens}))
        found = _difference(place, merged, asked, answer, told, tokens)
        if found is not None and found.gap > TIE[quantization]:
            raise _differs(found, TIE[quantization])
        compared += len(answer) if found is None else found.position
        ties += [] if found is None else [found]
        on_prompt(place + 1)
    return {"prompts": len(conversations), "tokens": compared, "ties": [asdict(tie) for tie in ties]}


def _same_prompt(place: int, merged: Reference, ours: list[int], theirs: list[int]) -> None:
    if ours == theirs:
        return
    position = next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    raise PipelineError(
        "export_mismatch",
        f"Prompt {place} reads otherwise in the GGUF: its token {position} is {_named(merged, theirs, position)}, and "
        f"in the merged model {_named(merged, ours, position)}.",
        "Chat template or tokenizer do not survive the conversion: take a base model whose tokenizer llama.cpp knows, "
        "or a newer converter in REFIT_LLAMA_CPP_DIR.",
    )


def _difference(
    place: int, merged: Reference, asked: list[int], answer: list[int], told: Completion, tokens: int
) -> Difference | None:
    """Where the exported model's text leaves that of the merged one's tokens; None: nowhere."""
    cut = len(answer) == tokens and told.finish_reason == "length"
    text, whole = told.text.lstrip(), merged.text(answer).lstrip()
    if text == whole or (cut and text.rstrip(CUT) == whole.rstrip(CUT)):
        return None
    position = _parted(merged, answer, text)
    behind = text[len(merged.text(answer[:position]).lstrip()) :]
    theirs = _next(merged, answer[:position], behind)
    ours = answer[position] if position < len(answer) else merged.stop[0]
    gap = _gap(merged, asked + answer[:position], ours, theirs)
    name = merged.tokenizer.convert_ids_to_tokens
    return Difference(place, position, name(ours), name(theirs), gap)


def _parted(merged: Reference, answer: list[int], text: str) -> int:
    """How many tokens of `answer` the text begins with."""
    for count in range(len(answer), 0, -1):
        begun = merged.text(answer[:count]).lstrip()
        if not begun.endswith(CUT) and text.startswith(begun):
            return count
    return 0


def _next(merged: Reference, before: list[int], behind: str) -> int:
    """The token that stands first in what follows; the one that ends an answer where nothing does."""
    if not behind:
        return merged.stop[0]
    begun = merged.text(before).lstrip()
    for prefix in (begun, ""):
        known, whole = (
            merged.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prefix, prefix + behind)
        )
        if whole[: len(known)] == known:
            break
    token: int = whole[len(known)]
    return token


def _gap(merged: Reference, tokens: list[int], ours: int, theirs: int) -> float:
    """Where either ends the answer, whichever token that ends one is likeliest counts."""
    logits = merged.logits(tokens)[0]
    ours, theirs = (
        max(merged.stop, key=lambda end: float(logits[end])) if token in merged.stop else token
        for token in (ours, theirs)
    )
    return float((logits[ours] - logits[theirs]) / (logits.max() - logits.min()))


def _differs(found: Difference, limit: float) -> PipelineError:
    return PipelineError(
        "export_mismatch",
        f"The answer to prompt {found.prompt} differs at token {found.position}: the GGUF says {found.exported!r}, and "
        f"the merged model {found.merged!r}. Their logits lie {found.gap:.1%} of the range apart; up to {limit:.1%} "
        "is a tie.",
        "Export in a finer quantization (training.quantization: bf16), or take a base model whose architecture "
        "llama.cpp computes alike.",
    )


def _named(merged: Reference, ids: list[int], position: int) -> str:
    if position >= len(ids):
        return "none: it ends there"
    return f"{merged.tokenizer.convert_ids_to_tokens(ids[position])!r} ({ids[position]})"
