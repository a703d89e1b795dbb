"""Asking a version that answers with text: found once, asked by its server, counted once."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import Invalid, RefitError
from app.feedback.log import Exchange
from app.metrics import PREDICTIONS
from app.runtimes import Generator
from app.runtimes.chat import Completion, Conversation, Sampling, forged
from app.serving.blocks import Promised
from app.serving.counting import Key, Ledger
from app.serving.loaded import Loaded
from app.serving.plane import Leaving, Serving
from app.serving.target import Target, find
from app.serving.upstream import Json, Reply, not_openais

FINISHED = ("stop", "length")


@dataclass(frozen=True, slots=True)
class Turn:
    """One request to one version. It holds that version and no other one, so that a slow answer keeps no more in
    memory than what gives it."""

    serving: Serving
    key: Key
    slot: str
    version: Loaded
    generator: Generator
    began: float
    is_drawn: bool

    @classmethod
    def of(cls, serving: Serving, target: Target, began: float) -> "Turn":
        """Raises Invalid `answers_with_labels`."""
        generator = target.version.generator
        if generator is None:
            model = target.slots.model
            raise Invalid(
                f"{model} answers with labels, not with text.",
                code="answers_with_labels",
                remedy="Send its rows to POST /predict/batch.",
            )
        if target.arm == "canary":
            serving.directions.note_canary(target)
        is_drawn = bool(serving.directions.samples) and serving.directions.is_drawn(target.slots.model)
        return cls(serving, target.key, target.slot, target.version, generator, began, is_drawn)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Refit-Version": str(self.key.version), "X-Refit-Generation": str(self.key.generation)}

    async def open(self, conversation: Conversation, sampling: Sampling, more: Json) -> Reply:
        """Raises Invalid `control_tokens`, and what Upstreams.open raises."""
        if found := forged(conversation, self.generator.card):
            raise _forged(*found)
        return await self.serving.upstreams.open(self.generator, conversation, sampling, more)

    async def whole(self, conversation: Conversation, sampling: Sampling, more: Json) -> tuple[Json, Completion]:
        """The server's answer, as it came and in short. Raises as `open`."""
        reply = await self.open(conversation, sampling, more)
        try:
            told = await reply.whole()
            return told, completion_of(told)
        finally:
            await reply.close()

    def answered(self, conversations: Sequence[Conversation], completions: Sequence[str]) -> str:
        """Counts the request; its id."""
        ledger = self._ledger()
        if ledger is None:
            self._count(len(completions))
            return os.urandom(16).hex()
        request = ledger.note_texts(len(completions), time.perf_counter() - self.began)
        self._log(ledger, request, conversations, completions)
        return request

    def streamed(self, promised: Promised, conversation: Conversation, completion: str | None) -> None:
        """Counts a stream at its end. `completion` None: the caller left before, and what it read is not logged."""
        ledger = self._ledger()
        if ledger is None:
            self._count(1)
            return
        ledger.keep(promised, time.perf_counter() - self.began)
        if completion is not None:
            self._log(ledger, promised.request, [conversation], [completion])

    def failed(self, error: RefitError) -> None:
        """Counts the request, once, however many of its rows were being answered. That this replica ends is no failure
        of the version."""
        ledger = self._ledger()
        if ledger is not None and not isinstance(error, Leaving):
            (ledger.refused if error.status < 500 else ledger.failed)()

    def _ledger(self) -> Ledger | None:
        """Asked for at the end: one that is found at the beginning may be forgotten before a long answer is there."""
        counting = self.serving.counting
        return None if counting is None else counting.ledger_of(self.key, self.version)

    def _log(self, ledger: Ledger, request: str, asked: Sequence[Conversation], told: Sequence[str]) -> None:
        if self.is_drawn:
            ledger.log(request, Exchange(asked, told))

    def _count(self, rows: int) -> None:
        PREDICTIONS.labels(self.key.model, self.key.version, self.slot).inc(rows)


def found(serving: Serving, model: str | None, key: str, slot: str = "active") -> Target:
    """The version that answers, by the caller's key where a canary runs. Raises what `find` raises."""
    target = find(serving.replica, serving.settings.max_batch_rows, model, slot)
    return serving.directions.routed(target, key) if key and slot == "active" else target


def _forged(place: int, marker: str) -> Invalid:
    return Invalid(
        f"messages.{place}.content has {marker}, by which this model tells who speaks.",
        code="control_tokens",
        remedy="Leave it out; what other speakers said goes into messages of their own.",
    )


def completion_of(told: Mapping[str, Any]) -> Completion:
    """Raises ModelDown where it is none of OpenAI's."""
    try:
        choice, usage = told["choices"][0], told["usage"]
        text, reason = choice["message"]["content"] or "", choice["finish_reason"]
        finished = reason if reason in FINISHED else "stop"
        return Completion(str(text), finished, int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
    except (KeyError, IndexError, TypeError, ValueError):
        raise not_openais() from None
