"""The rows that a policy is moved by, as TRL reads them, and what must be true of them before anything is loaded.

    dpo          {prompt, chosen, rejected}         from pairs
    kto          {prompt, completion, label}        from judged answers, or from pairs: one accepted, one rejected
    grpo, rloo   {prompt, reference}                from any rows with a prompt; rewards compare with the reference

prompt, chosen, rejected and completion are lists of messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.data.chats import ACCEPTED, CHOSEN, COMPLETION, FITTING, PROMPT, REJECTED, SPOKEN, Kind
from app.runtimes.chat import Message, read, with_system
from workers.llm import rewards
from workers.llm.params import LlmParams, PreferenceParams
from workers.pipeline import PipelineError, Run, SplitName, TrainingData

SPLITS: tuple[SplitName, ...] = ("train", "validation")
Row = dict[str, Any]

REMEDY = {
    "dpo": "Name chosen and rejected in preference.data.chat, or train with preference.method: kto, grpo or rloo.",
    "kto": "Name accepted in preference.data.chat, or take source: feedback, or train with another preference.method.",
}


@dataclass(frozen=True)
class Selection:
    """The rows that are learnt from, and how many were left out and why."""

    train: list[Row]
    validation: list[Row]
    too_long: int

    @property
    def figures(self) -> dict[str, int]:
        return {"rows": len(self.train), "rows_validation": len(self.validation), "rows_too_long": self.too_long}


def select(run: Run, params: LlmParams, tokenizer: Any) -> Selection:
    """Raises PipelineError `preference_data_unfit`, `reward_without_reference` and `insufficient_data`."""
    data = run.preference
    assert data is not None, "the stage is on the road only where there is such data"
    every = {split: list(_rows(data, split, params)) for split in SPLITS}
    kept = {
        split: [row for row in rows if _longest(row, tokenizer) <= params.max_seq_length]
        for split, rows in every.items()
    }
    too_long = sum(len(every[split]) - len(kept[split]) for split in SPLITS)
    if not kept["train"]:
        raise PipelineError(
            "insufficient_data",
            f"None of {len(every['train'])} preference rows can be learnt from: "
            f"{too_long} are longer than {params.max_seq_length} tokens.",
            "Add preference rows, or raise training.max_seq_length.",
        )
    return Selection(kept["train"], kept["validation"], too_long)


def kind_of(data: TrainingData) -> Kind:
    columns = data.rows.column_names
    if CHOSEN in columns:
        return "pairs"
    if ACCEPTED in columns:
        return "judged"
    return "answers" if COMPLETION in columns else "prompts"


def require_whole_groups(chosen: PreferenceParams, processes: int, rows: int) -> None:
    """Raises PipelineError `batch_indivisible`, and `insufficient_data` where not one step has enough prompts."""
    at_once, tries = chosen.batch_size * chosen.gradient_accumulation_steps * processes, chosen.num_generations
    if at_once % tries:
        raise PipelineError(
            "batch_indivisible",
            f"{chosen.method} compares {tries} answers to each prompt, but preference.batch_size × "
            f"gradient_accumulation_steps × processes is {at_once}, which {tries} does not divide.",
            f"Set preference.batch_size to {tries}, or num_generations to a divisor of {at_once} from 2 on.",
        )
    if rows < at_once // tries:
        raise PipelineError(
            "insufficient_data",
            f"A step of {chosen.method} takes {at_once // tries} different prompts, and there are {rows}.",
            "Add prompts, or lower preference.batch_size or gradient_accumulation_steps.",
        )


def _rows(data: TrainingData, split: SplitName, params: LlmParams) -> Iterator[Row]:
    """Raises PipelineError `preference_data_unfit` and `reward_without_reference`."""
    method, kind = params.preference.method, kind_of(data)
    if kind not in FITTING[method]:
        raise PipelineError(
            "preference_data_unfit",
            f"preference.method {method} learns from {' or '.join(SPOKEN[fit] for fit in FITTING[method])}; "
            f"the preference data has {SPOKEN[kind]}.",
            REMEDY[method],
        )
    if method in ("grpo", "rloo") and kind == "prompts" and rewards.needs_reference(params.preference.reward):
        raise PipelineError(
            "reward_without_reference",
            f"The reward {params.preference.reward.function} compares with a known answer, and the rows have none.",
            "Name completion in preference.data.chat, or take the reward length or judge.",
        )
    become = {"dpo": _paired, "kto": _labelled}.get(method, _tried)
    for row in data.table(split).to_pylist():
        prompt = with_system(read(row[PROMPT]), params.system_prompt)
        for made in become(kind, row):
            yield {"prompt": prompt, **made}


def _paired(_: Kind, row: Row) -> list[Row]:
    return [{"chosen": _said(row[CHOSEN]), "rejected": _said(row[REJECTED])}]


def _labelled(kind: Kind, row: Row) -> list[Row]:
    if kind == "pairs":
        judged = ((row[CHOSEN], True), (row[REJECTED], False))
        return [{"completion": _said(answer), "label": label} for answer, label in judged]
    return [{"completion": _said(row[COMPLETION]), "label": _is_true(row[ACCEPTED])}]


def _tried(kind: Kind, row: Row) -> list[Row]:
    """A rejected answer is nothing to compare with."""
    if kind == "judged" and not _is_true(row[ACCEPTED]):
        return []
    return [{"reference": row[CHOSEN] if kind == "pairs" else row.get(COMPLETION) or ""}]


def _said(answer: str) -> list[Message]:
    return [Message(role="assistant", content=answer)]


def _is_true(told: Any) -> bool:
    return told.strip().lower() in ("true", "yes", "1") if isinstance(told, str) else bool(told)


def _longest(row: Mapping[str, Any], tokenizer: Any) -> int:
    """Tokens of the prompt with the longest of its answers, as the chat template writes them."""
    answers: Sequence[list[Message]] = [row[name] for name in ("chosen", "rejected", "completion") if name in row]
    return max(len(_written(tokenizer, row["prompt"], answer)) for answer in answers or [[]])


def _written(tokenizer: Any, prompt: list[Message], answer: list[Message]) -> Sequence[int]:
    told: Sequence[int] = tokenizer.apply_chat_template(
        [*prompt, *answer], add_generation_prompt=not answer, return_dict=False
    )
    return told
