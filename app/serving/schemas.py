"""What `/predict/batch` takes and answers. The body is decoded by hand: it is the hot path."""

from typing import Any, Literal

import msgspec
import orjson
from pydantic import BaseModel, Field

from app.errors import MOST_ERRORS, Invalid, told_name
from app.runtimes.schema import Label

FIELDS = {"model", "instances", "slot", "probabilities"}


class PredictRequest(BaseModel):
    """`instances` are rows as lists, in the order of the version's columns, or as objects by name. null is missing.

    A version that reads texts also takes texts. With `probabilities` the answer has those of every label. A language
    model takes texts, {"prompt": text} and {"messages": [{role, content}]}.
    """

    model: str | None = None
    instances: list[list[Any]] | list[dict[str, Any]] | list[str]
    slot: Literal["active", "standby"] = "active"
    probabilities: bool = False


class HeadAnswer(BaseModel):
    """`scores[i]` in [0, 1] and `labels[i]` belong to `instances[i]`, and so do the `probabilities` of each label."""

    scores: list[float]
    labels: list[Label]
    probabilities: dict[str, list[float]] | None = Field(None, description="by label; absent unless asked for")


class PredictAnswer(HeadAnswer):
    """Columnar. One version answers the whole batch. Of several label columns `heads` has all, and the first stands
    outside of it, too.
    """

    model: str
    version: int
    generation: int
    slot: Literal["active", "standby"]
    heads: dict[str, HeadAnswer] | None = Field(None, description="by label column; absent where there is only one")
    request_id: str = Field(description="to send with feedback")


class TokensUsed(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class CompletionsAnswer(BaseModel):
    """Of a language model: `completions[i]` belongs to `instances[i]`, and was cut where its reason is `length`."""

    model: str
    version: int
    generation: int
    slot: Literal["active", "standby"]
    request_id: str = Field(description="to send with feedback")
    completions: list[str]
    finish_reasons: list[Literal["stop", "length"]]
    usage: TokensUsed


class Classified(BaseModel):
    """The label, its score in [0, 1], and the probability of every label."""

    label: Label
    score: float
    probabilities: dict[str, float]


class ClassifyAnswer(Classified):
    """The runbook's: one text. Of several label columns `heads` has all, and the first stands outside of it, too."""

    model: str
    version: int
    generation: int
    heads: dict[str, Classified]
    request_id: str


def decode(body: bytes) -> PredictRequest:
    """Checks the envelope; the version's schema checks the rows later. Raises Invalid, never echoing the body."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            f"The body is not JSON (line {error.lineno}, column {error.colno}).",
            code="invalid_json",
            remedy="Send one object in UTF-8. JSON knows no NaN and no Infinity; a missing value is null.",
        ) from None
    if not isinstance(told, dict):
        raise Invalid("The body must be an object.", errors=[{"field": "body", "message": "not an object"}])
    unknown = sorted(told.keys() - FIELDS)[:MOST_ERRORS]
    errors = [{"field": told_name(name), "message": "unknown field"} for name in unknown]
    if not isinstance(told.get("instances"), list):
        errors.append({"field": "instances", "message": "must be a list of rows"})
    if not isinstance(told.get("model"), str | None):
        errors.append({"field": "model", "message": "must be text"})
    if told.get("slot", "active") not in ("active", "standby"):
        errors.append({"field": "slot", "message": "must be active or standby"})
    if not isinstance(told.get("probabilities", False), bool):
        errors.append({"field": "probabilities", "message": "must be true or false"})
    if errors:
        raise Invalid(f"The request is not valid: {', '.join(e['field'] for e in errors)}.", errors=errors)
    return PredictRequest.model_construct(**told)


class Objects(msgspec.Struct, forbid_unknown_fields=True):
    """PredictRequest whose rows are objects of numbers: what an ObjectDecoder gives."""

    instances: list[Any]
    model: str | None = None
    slot: Literal["active", "standby"] = "active"


ObjectDecoder = msgspec.json.Decoder[Objects]


def object_decoder(columns: list[str]) -> ObjectDecoder | None:
    """Decodes rows that have just these columns, all of them numbers; None for names that msgspec cannot have."""
    fields = {f"x{place}": name for place, name in enumerate(columns)}
    try:
        row = msgspec.defstruct(
            "Row", [(field, float) for field in fields], rename=fields, forbid_unknown_fields=True, gc=False
        )
    except ValueError:
        return None
    asked = msgspec.defstruct("Asked", [("instances", list[row])], bases=(Objects,), forbid_unknown_fields=True)  # type: ignore[valid-type]  # a type made at run time
    return msgspec.json.Decoder(asked)
