"""What a definition of a language model must say that no part of it shows by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.data.chats import FITTING, SPOKEN, ChatOptions
from app.definitions.schemas import Definition, Strategy
from app.errors import Invalid

TYPE = "llm"
# Where a definition names no method, it is this one.
METHOD = "dpo"
KTO = "Feedback accepts or rejects single answers, which kto learns from: set training.preference.method: kto."


def check(definition: Definition, params: Mapping[str, Any], strategy: Strategy) -> None:
    """`params` have been held against the type's schema. Raises Invalid naming the field, with the way out."""
    _check_answers(definition.data.chat)
    stages = params.get("stages")
    if strategy != "pull" and stages is not None:
        _check_signoff(definition, stages)
    if strategy != "pull" and (stages is None or "preference" in stages):
        _check_preference(definition, params.get("preference"))


def _check_answers(chat: ChatOptions | None) -> None:
    if chat is None:
        raise _invalid(
            "data.chat",
            "A language model learns from conversations, and no columns of any are named.",
            "Name data.chat.messages; or data.chat.prompt with data.chat.completion.",
        )
    if chat.kind in ("prompts", "pairs"):
        raise _invalid(
            "data.chat.completion",
            f"A language model learns and is judged by answers, and data.chat names {SPOKEN[chat.kind]}.",
            "Name the column of the answers in data.chat.completion, or whole conversations in data.chat.messages; "
            "pairs and prompts alone belong into preference.data.",
        )


def _check_signoff(definition: Definition, stages: Sequence[str]) -> None:
    asked = definition.signoff is not None and definition.signoff.count > 0
    if asked and "publish" in stages and "evaluate" not in stages:
        raise _invalid(
            "signoff",
            "People sign off on answers, and without the stage evaluate a version has none.",
            "Add evaluate to training.stages, or leave signoff out.",
        )


def _check_preference(definition: Definition, asked: Mapping[str, Any] | None) -> None:
    preference = definition.preference
    if preference is None:
        if asked is None:
            return
        raise _invalid(
            "preference.data",
            "training.preference says how preferences are learnt, and the definition has none to learn from.",
            "Name their rows in preference.data, or leave training.preference out.",
        )
    method = (asked or {}).get("method", METHOD)
    assert preference.data.chat is not None
    kind, fitting = preference.data.chat.kind, FITTING[method]
    if kind not in fitting:
        raise _invalid(
            "training.preference.method",
            f"{method} learns from {' or '.join(SPOKEN[fit] for fit in fitting)}; preference.data has {SPOKEN[kind]}.",
            KTO
            if preference.data.source == "feedback"
            else "Name the columns of those in preference.data.chat, or "
            f"take another method: {', '.join(name for name in FITTING if kind in FITTING[name])}.",
        )


def _invalid(field: str, message: str, remedy: str) -> Invalid:
    return Invalid(message, remedy=remedy, field=field, errors=[{"field": field, "message": message}])
