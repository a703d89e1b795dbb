"""Rows that are conversations: which columns they stand in, and the columns of a snapshot that they become.

    training rows    prompt (JSON of messages, the last one the user's), completion (text)
    pairs            prompt, chosen, rejected (text)
    feedback         prompt, completion, accepted (true or false)

Every other column is kept beside them: a stage of the curriculum, a risk, a column that the gate slices by.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PROMPT, COMPLETION, CHOSEN, REJECTED, ACCEPTED = "prompt", "completion", "chosen", "rejected", "accepted"

# What the rows are: answers to learn, pairs to prefer one of, answers that people accepted or rejected, or prompts to
# try answers to.
Kind = Literal["answers", "pairs", "judged", "prompts"]

# By the name of a method of preference learning, the rows that it learns from; rewards are given to any prompt.
FITTING: dict[str, tuple[Kind, ...]] = {
    "dpo": ("pairs",),
    "kto": ("judged", "pairs"),
    "grpo": ("prompts", "answers", "pairs", "judged"),
    "rloo": ("prompts", "answers", "pairs", "judged"),
}
SPOKEN: dict[Kind, str] = {
    "pairs": "pairs (chosen and rejected)",
    "judged": "judged answers (accepted)",
    "answers": "answers that nobody judged",
    "prompts": "prompts alone",
}


class ChatOptions(BaseModel):
    """`data.chat`: where the source has what. Either `messages`, or `prompt` with what was answered to it.

    A column of messages holds lists of {role, content}, or JSON of such; a column of prompts holds texts, or messages.
    """

    model_config = ConfigDict(extra="forbid")

    messages: str | None = Field(None, description="the column of whole conversations; the last message is the answer")
    prompt: str | None = Field(None, description="the column of what was asked")
    completion: str | None = Field(None, description="the column of the answer to it")
    chosen: str | None = Field(None, description="of pairs: the column of the better answer")
    rejected: str | None = Field(None, description="of pairs: the column of the worse one")
    accepted: str | None = Field(None, description="the column that says whether people took the answer")
    system: str | None = Field(None, description="the column of each row's system prompt")
    longest: int = Field(200_000, ge=1, description="characters of a conversation; a longer one is refused, never cut")

    @property
    def kind(self) -> Kind:
        if self.chosen is not None:
            return "pairs"
        if self.accepted is not None:
            return "judged"
        return "answers" if self.messages or self.completion else "prompts"

    @property
    def source_columns(self) -> list[str]:
        """Those that a row of the source must have a value in."""
        named = (self.messages, self.prompt, self.completion, self.chosen, self.rejected, self.accepted)
        return [name for name in named if name is not None]

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Of the snapshot: what is learnt from a row."""
        return {
            "answers": (COMPLETION,),
            "pairs": (CHOSEN, REJECTED),
            "judged": (COMPLETION, ACCEPTED),
            "prompts": (),
        }[self.kind]

    @model_validator(mode="after")
    def is_one_of_the_forms(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("name either messages, or prompt")
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("pairs have chosen and rejected; name both")
        if self.chosen is not None and (self.messages or self.completion or self.accepted):
            raise ValueError("pairs have prompt, chosen and rejected, and nothing else")
        if self.accepted is not None and not (self.messages or self.completion):
            raise ValueError("accepted speaks of an answer: name completion, or messages")
        if self.messages is not None and self.completion is not None:
            raise ValueError("messages have the answer in them; leave completion out")
        named = [*self.source_columns, *([self.system] if self.system else [])]
        if len(set(named)) < len(named):
            raise ValueError("a column has two roles in it")
        return self
