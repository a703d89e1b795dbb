"""Which version answers a request: found once, and everything of the answer comes from it."""

from collections.abc import Callable
from typing import NamedTuple

from app.errors import Invalid, NotFound, Refused, TooLarge, Unavailable
from app.runtimes import Batch
from app.runtimes.chat import Message
from app.serving.counting import Key
from app.serving.loaded import Loaded
from app.serving.replica import Replica, Slots

SLOTS = ("active", "standby")
FILLED_BY = {
    "active": "Train and reload it: refit trigger {model} --wait && refit reload {model}.",
    "standby": "A version whose verdict is pass is staged there by itself, unless promotion.stage is manual: train one "
    "with refit trigger {model} --wait, or stage one by its number with refit versions stage NUMBER --model {model}.",
}


class Target(NamedTuple):
    """The slots as the request found them, and the version of the one that it asks.

    `arm` is what it is counted as: the slot, or canary where standby answers in the place of active.
    """

    slots: Slots
    slot: str
    version: Loaded
    max_rows: int
    arm: str

    @property
    def key(self) -> Key:
        return Key(self.slots.model, self.version.number, self.slots.generation, self.arm)

    def alone(self) -> "Target":
        """With slots that hold no version but this one: a slow answer is no reason for another to stay in memory."""
        slots = self.slots
        active, standby = (self.version, None) if self.slot == "active" else (None, self.version)
        return self._replace(slots=Slots(slots.model, slots.type, slots.generation, active, standby))

    def expect(self, rows: int) -> None:
        """Raises TooLarge, before that many rows are turned into arrays."""
        if rows > self.max_rows:
            raise TooLarge(
                f"{rows} rows are too many; at most {self.max_rows} fit in one request.",
                code="too_many_rows",
                remedy="Send them in several requests.",
            )


class Asked(NamedTuple):
    """A request that was read: whom it asks, about which rows, and whether for the probability of every label.

    `conversations` are the rows where the version answers with text; then the batch has no columns.
    """

    target: Target
    batch: Batch
    probabilities: bool = False
    conversations: list[list[Message]] | None = None


# The target of (model, slot), once a body has told them.
Find = Callable[[str | None, str], Target]


def find(replica: Replica, max_rows: int, model: str | None, slot: str) -> Target:
    """Raises NotFound, Invalid, Unavailable as `slots_of`, and Refused where that slot is empty."""
    slots = slots_of(replica, model)
    return Target(slots, slot, version_in(slots, slot), max_rows, slot)


def slots_of(replica: Replica, model: str | None) -> Slots:
    """The slots that answer for `model`, or for the only model there is. Raises NotFound, Invalid or Unavailable."""
    if model is not None and (slots := replica.slots.get(model)):
        return slots
    known = sorted(replica.slots.keys() | replica.unloaded.keys())
    named = known[0] if model is None and len(known) == 1 else model
    if named in replica.slots:
        return replica.slots[named]
    if model is None and len(known) > 1:
        raise Invalid(
            "Several models could be meant; name one.",
            code="model_ambiguous",
            remedy=f'Send "model" with one of: {", ".join(known)}.',
            models=known,
        )
    if named in replica.unloaded:
        raise Unavailable("This replica is still loading.", code="loading", models=replica.unloaded)
    raise NotFound(
        "No model is defined." if model is None else "No such model is served here.",
        code="model_not_found",
        remedy=f"Served are: {', '.join(_served(replica)) or 'none'}.",
    )


def _served(replica: Replica) -> list[str]:
    return sorted(name for name, slots in replica.slots.items() if slots.active is not None)


def version_in(slots: Slots, slot: str) -> Loaded:
    """The version in that slot. Raises Refused `no_active_version` or `no_standby_version`."""
    version = slots.active if slot == "active" else slots.standby
    if version is None:
        raise Refused(
            f"Model {slots.model} has no {slot} version that is loaded.",
            code=f"no_{slot}_version",
            remedy=FILLED_BY[slot].format(model=slots.model),
        )
    return version
