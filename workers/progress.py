"""Turns what a pipeline reports of its stages into the progress of the whole job."""

from collections.abc import Callable, Mapping
from typing import Any

# What every job does besides its pipeline's stages, as shares of the whole time.
BEFORE = {"snapshot": 0.05}
# Where a language model gives the labels first, nearly all of it.
LABEL = {"label": 0.8}
AFTER = {"publish": 0.01, "gate": 0.06}


class Progress:
    """A workers.pipeline.Reporter. `tell` takes one message; stages are weighted by their shares of the time."""

    def __init__(
        self, stages: Mapping[str, float], tell: Callable[[dict[str, Any]], None], *, labels: bool = False
    ) -> None:
        before = BEFORE | (LABEL if labels else {})
        # A pipeline that names the last stage by itself has said how long it all takes.
        after = {} if "publish" in stages else AFTER
        left = max(0.0, 1.0 - sum(before.values()) - sum(after.values()))
        whole = sum(stages.values()) or 1.0
        self._shares = before | {name: left * share / whole for name, share in stages.items()} | after
        self._tell = tell
        self._done = 0.0
        self._stage: str | None = None

    def __call__(self, kind: str, **figures: Any) -> None:
        if kind == "stage":
            self._turn(figures["name"], figures["state"])
            self._tell({"kind": "stage", **figures})
        elif kind == "progress":
            share = self._shares.get(self._stage or "", 0.0) * figures["share"]
            note = {"progress_note": figures["note"]} if figures["note"] else {}
            self._tell({"kind": "figures", "progress": min(1.0, self._done + share)} | note)
        elif kind == "metric":
            self._tell({"kind": "metric", "stage": self._stage, **figures})
        else:
            self._tell({"kind": kind, **figures})

    def _turn(self, name: str, state: str) -> None:
        if name not in self._shares:
            raise ValueError(f"stage {name!r} is not among the pipeline's stages: {', '.join(self._shares)}")
        if state == "started":
            self._stage = name
            return
        self._done += self._shares[name]
        self._tell({"kind": "figures", "progress": min(1.0, self._done)})
