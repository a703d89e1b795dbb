"""The stage `generate`: a look at the merged model. Its logits are finite, and it says something."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.llm import heldout, reference
from workers.llm.params import LlmParams
from workers.llm.reference import Reference
from workers.llm.stages import Done
from workers.pipeline import PipelineError, Run

PROMPTS, TOKENS, SECONDS = 4, 32, 20.0


def depends_on(params: LlmParams) -> dict[str, Any]:
    return {"system_prompt": params.system_prompt}


def work(run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]:  # noqa: ARG001 - the samples are all it leaves
    """Raises PipelineError `nothing_generated`: logits that are no numbers, or not one word to any prompt."""
    asked = heldout.conversations(run.data, run.params.system_prompt, PROMPTS)
    samples: list[dict[str, Any]] = []
    with reference.loaded(done["merge"].folder / "merged") as model:
        for place, conversation in enumerate(asked):
            tokens = model.prompt(conversation)
            _finite(model, tokens, place)
            answer = model.greedy(tokens, TOKENS, SECONDS)
            samples.append({"prompt": conversation[-1]["content"], "answer": model.text(answer), "tokens": len(answer)})
            run.progress((place + 1) / len(asked), f"{place + 1}/{len(asked)} prompts")
    if not any(sample["answer"].strip() for sample in samples):
        raise _nothing(f"The merged model has answered {len(samples)} prompts with nothing.")
    # Not the words: whoever may see the log need not be one who may see rows of the data.
    run.log(f"{len(samples)} held-out prompts are answered with {[sample['tokens'] for sample in samples]} tokens")
    return {"samples": samples}


def _finite(model: Reference, tokens: list[int], place: int) -> None:
    import torch

    if not torch.isfinite(model.logits(tokens)).all():
        raise _nothing(f"The merged model's logits for held-out prompt {place} are not finite.")


def _nothing(message: str) -> PipelineError:
    return PipelineError(
        "nothing_generated",
        message,
        "Lower training.learning_rate or preference.learning_rate, train for fewer epochs, or look at the answers of "
        "the rows: they may be empty.",
    )
