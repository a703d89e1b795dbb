"""What reviewers get and say."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.runtimes.chat import Message
from app.schemas import Strict
from app.signoff.standing import Standing

Choice = Literal["A", "B", "tie"]
Prompt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Notes = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]


class Item(BaseModel):
    """One prompt; A and B are candidate and incumbent or the other way round, A alone where no version was active."""

    prompt: str = Field(description="16 hex digits that name it for ever")
    messages: list[Message]
    reference: str
    risk: Any = Field(description="of the definition's signoff.risk column")
    answers: dict[str, str]


class SheetView(BaseModel):
    """`evaluation` goes with the sign-off: it says what was read."""

    model: str
    version: int
    evaluation: str
    data_version: str
    notes: list[str] = Field(description="what could not be measured, and why")
    prompts: list[Item]


class SignoffRequest(Strict):
    """`preferences` by prompt of the sheet; prompts may be left out. A later word may have other verdict and notes."""

    verdict: Literal["approve", "reject"]
    evaluation: Digest = Field(description="of the sheet that was read")
    preferences: dict[Prompt, Choice] = Field(default_factory=dict, max_length=500)
    notes: Notes | None = None


class WordView(BaseModel):
    """What one reviewer said, with A and B resolved."""

    model_config = ConfigDict(from_attributes=True)

    reviewer: str
    roles: list[str]
    verdict: str
    preferences: dict[str, str] | None = Field(
        description="by prompt: candidate, incumbent or tie; null for who might still read the sheet blind"
    )
    notes: str | None
    evaluation: str
    at: datetime


class StandingView(BaseModel):
    """`state`: approved, rejected, missing, or not_asked where no definition asks anybody. The version is held to those
    that it was made with and to the one in force: `required` and `role` are the most that any asks for, `missing` is
    what lacks of each. The last word of each reviewer counts; `signoffs` has all of them, oldest first."""

    model: str
    version: int
    state: Literal["approved", "rejected", "missing", "not_asked"]
    missing: list[str]
    required: int
    role: str
    evaluation: str | None
    triggered_by: str
    made_by: list[str] = Field(
        description="who triggered its job, those that it goes on from, and dry runs: never the only ones to approve"
    )
    approvals: list[str]
    rejections: list[str]
    signoffs: list[WordView]

    @classmethod
    def of(cls, model: str, version: int, standing: Standing, words: list[WordView]) -> "StandingView":
        return cls(
            model=model,
            version=version,
            state=standing.state,
            missing=standing.missing,
            required=standing.required,
            role=standing.role,
            evaluation=standing.evaluation,
            triggered_by=standing.triggered_by,
            made_by=list(standing.made_by),
            approvals=[word.reviewer for word in standing.approvals],
            rejections=[word.reviewer for word in standing.rejections],
            signoffs=words,
        )
