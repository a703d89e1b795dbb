"""What active and its shadow said of the same rows, where a label came: it was sent for active's answer, and tells of
the one that mirrors it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.matching import said
from app.feedback.outcomes import Outcomes
from app.traffic import service as traffic

Counts = npt.NDArray[np.int64]

# A request id names its block with the first sixteen digits, its number in it with the next eight. A place that is null
# is that of a head which the shadow's version has not, and so is the label.
SAME_ROWS = text("""
    SELECT told.kind, told.truth, told.predicted,
           substring(block.labels FROM CAST(
               (CAST(:place AS int) * block.rows + first.row_of_block + told."row") * block.width + 1 AS int)
               FOR block.width) AS label,
           count(*)
    FROM feedback AS told
    CROSS JOIN LATERAL (SELECT replace(CAST(told.request AS text), '-', '') AS digits) AS id
    JOIN mirrored ON mirrored.trial = :trial
        AND mirrored.answered = CAST(CAST('x' || left(id.digits, 16) AS bit(64)) AS bigint)
    CROSS JOIN LATERAL (
        SELECT mirrored.places[array_position(
            mirrored.numbers, CAST(CAST('x' || substr(id.digits, 17, 8) AS bit(32)) AS int))] AS number) AS asked
    JOIN answer_blocks AS block ON block.block = mirrored.block
    CROSS JOIN LATERAL (
        SELECT CASE WHEN block.offsets IS NULL THEN asked.number
                    ELSE CAST(CAST('x' || encode(substring(block.offsets FROM asked.number * 4 + 1 FOR 4), 'hex')
                        AS bit(32)) AS bigint) END AS row_of_block) AS first
    WHERE told.state = 'joined' AND told.model = :model AND told.version = :active AND told.slot = 'active'
        AND told.answered_at >= :since AND (told.kind = 'accepted' OR told.head = :head) AND asked.number IS NOT NULL
    GROUP BY 1, 2, 3, 4
""")


@dataclass(frozen=True)
class SameRows:
    """What both versions answered to the same rows. `cells` (c, 4) int64: truth, active's label, the shadow's, and how
    many rows; labels by their places in `labels`, which are active's. A label that active has not is len(labels)."""

    head: str
    labels: tuple[Any, ...]
    cells: Counts
    accepted: int
    rejected: int

    @property
    def active(self) -> Outcomes:
        truth, active, _, n = self.cells.T
        return Outcomes(self.head, self.labels, self._confusion(truth, active, n), self.accepted, self.rejected)

    @property
    def standby(self) -> Outcomes:
        """A truth that its version has not is never what it says, and so counts as wrong. Who accepted active's answer
        has said nothing of this one."""
        truth, _, standby, n = self.cells.T
        return Outcomes(self.head, self.labels, self._confusion(truth, standby, n), 0, 0)

    def _confusion(self, truth: Counts, predicted: Counts, n: Counts) -> Counts:
        found: Counts = confusions(truth, predicted, n[np.newaxis], len(self.labels))[0]
        return found


def confusions(truth: Counts, predicted: Counts, n: Counts, labels: int) -> Counts:
    """(c,), (c,) and the rows of each (d, c) → (d, labels, labels + 1)."""
    found = np.zeros((labels * (labels + 1), len(n)), np.int64)
    np.add.at(found, truth * (labels + 1) + predicted, n.T)
    return found.T.reshape(len(n), labels, labels + 1)


async def same_rows(
    session: AsyncSession, model: str, trial: int, active: int, standby: int, since: datetime, head: str | None
) -> SameRows:
    """The rows that were mirrored in that trial, which began at `since`, and of which something came back, by one label
    column (unset: active's first). Of a column that the shadow's version has not there are no cells; and of answers
    that are no longer kept, none."""
    known, theirs = await _told(session, model, active), await _told(session, model, standby)
    named = head if head is not None else known["order"][0]
    labels = tuple(known["heads"].get(named, {}).get("labels", ()))
    place = theirs["order"].index(named) if named in theirs["order"] else None
    ours = {said(label): index for index, label in enumerate(labels)}
    mapped = [ours.get(said(label), len(labels)) for label in theirs["heads"].get(named, {}).get("labels", ())]
    kept = "" if named == known["order"][0] else named
    asked = {"model": model, "trial": trial, "active": active, "since": since, "head": kept, "place": place}
    cells, votes = [], [0, 0]
    for kind, truth, predicted, label, n in await session.execute(SAME_ROWS, asked):
        if kind == "accepted":
            votes[truth] += n
        elif label is not None:
            cells.append((truth, predicted, mapped[int.from_bytes(label, "big")], n))
    return SameRows(named, labels, np.array(cells, np.int64).reshape(-1, 4), votes[1], votes[0])


async def _told(session: AsyncSession, model: str, version: int) -> Mapping[str, Any]:
    """The version's layout: its heads and labels, which are the same in all that it was ever counted by."""
    known = list((await traffic.layouts(session, model, version)).values())
    return known[-1].told if known else {"order": [""], "heads": {}}
